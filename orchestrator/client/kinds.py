"""The requests that a job can be submitted for."""

from __future__ import annotations

from muster.orchestrator.jobs.reproduce.request import ReproduceOptions
from muster.orchestrator.jobs.search.request import SearchRequest
from muster.orchestrator.settings.request import LaunchRequest

AnyRequest = LaunchRequest | SearchRequest | ReproduceOptions
