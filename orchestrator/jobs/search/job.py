"""`muster search` as a kind of job: ensembles of which some go on and others are stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from muster.orchestrator.ensemble.checks import check_ensemble
from muster.orchestrator.jobs.base import Answer, Answered, Job, Place
from muster.orchestrator.jobs.launch.job import with_paths
from muster.orchestrator.jobs.search.plan import by_backbone, preview
from muster.orchestrator.jobs.search.request import SearchRequest, parse_search
from muster.workers.errors import UsageError


def _changed(request: SearchRequest, **changes: Any) -> SearchRequest:
    return dataclasses.replace(request, base=dataclasses.replace(request.base, **changes))


def _with_paths(request: SearchRequest, place: Place) -> SearchRequest:
    return dataclasses.replace(request, base=with_paths(request.base, place))


def _run(*call: Any) -> Answered:
    from muster.orchestrator.jobs.search.run import search

    return search(*call), ()


def _message(answer: Answer, failures: Sequence[str]) -> str:
    failed = [
        f"trial {row['trial']}: {row['message']}" for row in answer["trials"] if row["ended"] == "failed"
    ]
    return "\n".join([answer["recommended"]["sentence"], answer["cost"]["sentence"], *failed])


def _show(answer: Answer, message: str) -> None:
    from muster.orchestrator.console.tables import search_table

    search_table(answer, message)


def _check(request: SearchRequest) -> dict[str, str | None]:
    """As `check_ensemble`, of the largest ensemble of each backbone that it may train; and whether there is a split to
    choose on. The digests of initial weights by backbone, None where one is not known."""
    found = {backbone: check_ensemble(launch) for backbone, launch in by_backbone(request).items()}
    splits, _ = next(iter(found.values()))
    held = request.base.data.val_classes
    if request.search.select_on == "val" and not held and "val" not in splits:
        raise UsageError(
            "A search chooses on validation classes, and val is a class here: give --val-classes N."
        )
    return {backbone: weights for backbone, (_, weights) in found.items()}


#: Nothing is answered from the store: trials are decided anew, at no cost where their members are there.
JOB = Job(
    kind="search",
    noun="search",
    not_a_launch="{run} is a search: see muster status {run}, or launch the ensemble that it recommends.",
    parse=parse_search,
    changed=_changed,
    with_paths=_with_paths,
    check=_check,
    backbones=lambda request: [request.base.ensemble.backbone],
    preview=preview,
    run=_run,
    message=_message,
    show=_show,
)
