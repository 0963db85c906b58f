"""What an ensemble that is asked for must meet before a cluster is asked."""

from __future__ import annotations

from muster.orchestrator.ensemble.inputs import finished_run
from muster.orchestrator.ensemble.plan import check_listing
from muster.orchestrator.ensemble.terms import known_weights
from muster.orchestrator.fleet.places.capacity import check_machine
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.datasets import Split
from muster.workers.store.layout import Store


def check_ensemble(request: LaunchRequest) -> tuple[dict[str, Split], str | None]:
    """All that would be refused of an ensemble and that can be told before a cluster is asked; only reads.

    The data's splits, and the digest of the initial weights, None if it is not known. Raises UsageError and
    StoreError.
    """
    _, splits = check_listing(request)
    for name in request.settings.input_runs:
        finished_run(name, request, Store(request.storage))
    check_machine([request])
    return splits, known_weights(request)
