"""`muster reproduce` as a kind of job: tables and figures of the papers."""

from __future__ import annotations

import dataclasses
from typing import Any

from muster.orchestrator.jobs.base import Answer, Answered, Job, Place
from muster.orchestrator.jobs.reproduce.answer import from_store, message
from muster.orchestrator.jobs.reproduce.plan import checked_draft
from muster.orchestrator.jobs.reproduce.preview import preview
from muster.orchestrator.jobs.reproduce.request import ReproduceOptions
from muster.orchestrator.jobs.reproduce.targets import parse_options


def _with_paths(request: ReproduceOptions, place: Place) -> ReproduceOptions:
    storage, root = place("--storage", request.storage), request.data_root
    if root is not None:
        root = place("--data-root", root)
    weights = []
    for entry in request.weights:
        backbone, equals, file = entry.partition("=")
        if equals and file not in {"none", "imagenet"}:
            file = place("--weights", file)
        weights.append(f"{backbone}{equals}{file}")
    return dataclasses.replace(request, data_root=root, weights=tuple(weights), storage=storage)


def _run(*call: Any) -> Answered:
    from muster.orchestrator.jobs.reproduce.run import reproduce

    return reproduce(*call)


def _show(answer: Answer, message: str) -> None:
    from muster.orchestrator.console.tables import reproduce_table
    from muster.orchestrator.jobs.reproduce.tables.files import paper_table

    reproduce_table(answer, message, layout=paper_table)


JOB = Job(
    kind="reproduce",
    noun="reproduction",
    not_a_launch="{run} is a reproduction of several ensembles: see muster status {run}.",
    parse=parse_options,
    changed=dataclasses.replace,
    with_paths=_with_paths,
    check=checked_draft,
    preview=preview,
    from_store=from_store,
    run=_run,
    message=message,
    show=_show,
)
