"""What an ensemble that is asked for must meet before a cluster is asked."""

from __future__ import annotations

from muster.orchestrator.ensemble.plan import check_listing, known_weights
from muster.orchestrator.fleet.capacity import check_machine
from muster.orchestrator.records.identity import differences, refuse_other_kind
from muster.orchestrator.settings.request import LaunchRequest, parse_request
from muster.workers.datasets import Split
from muster.workers.errors import UsageError
from muster.workers.store.layout import RunFolder, Store


def check_name(request: LaunchRequest, store: Store) -> RunFolder:
    """The run's folder; only reads.

    Raises UsageError if the name belongs to another request that has come as far as a plan.
    """
    run = store.run(request.run)
    saved = run.read("run.json")
    refuse_other_kind(saved, request.run, "launch")
    if saved is not None and run.read("plan.json") is not None:
        changed = differences(parse_request(saved, run.place("run.json")).identity(), request.identity())
        if changed:
            raise UsageError(
                f"There is a run {request.run} in {store.root}, and it was asked for otherwise: "
                f"{'; '.join(changed)}. Give --name another name, or ask for the same."
            )
    return run


def check_here(request: LaunchRequest, store: Store) -> tuple[dict[str, Split], str | None]:
    """All that a launch would refuse and that can be told before a cluster is asked; only reads.

    The data's splits, and the digest of the initial weights, None if it is not known. Raises UsageError and
    StoreError.
    """
    _, splits = check_listing(request)
    check_machine([request])
    weights = known_weights(request)
    check_name(request, store)
    return splits, weights
