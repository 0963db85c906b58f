"""The kinds of jobs, each by the module that holds its `JOB`; only what is wanted is loaded."""

from __future__ import annotations

import importlib
from typing import Any

from muster.orchestrator.jobs.base import Job

JOBS = {
    "launch": "muster.orchestrator.jobs.launch.job",
    "search": "muster.orchestrator.jobs.search.job",
    "reproduce": "muster.orchestrator.jobs.reproduce.job",
}


def job_of(kind: Any) -> Job:
    """The kind of job of a request, or as a run's folder has it. Anything unknown is read as a launch, which says what
    is wrong with it."""
    found: Job = importlib.import_module(JOBS[kind if kind in tuple(JOBS) else "launch"]).JOB
    return found
