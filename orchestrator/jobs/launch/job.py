"""`muster launch` as a kind of job: one ensemble, or one model of another method."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from muster.orchestrator.ensemble.checks import check_ensemble
from muster.orchestrator.jobs.base import Answer, Answered, Job, Place, counts_text
from muster.orchestrator.jobs.launch.answer import from_store
from muster.orchestrator.jobs.launch.preview import preview
from muster.orchestrator.methods.loading import parse_request
from muster.orchestrator.settings.request import DATA_PLACES, LaunchRequest


def with_paths(request: LaunchRequest, place: Place) -> LaunchRequest:
    data, ensemble = request.data, request.ensemble
    storage = place("--storage", request.storage)
    given: dict[str, Any] = {
        name: place(flag, path)
        for name, flag in DATA_PLACES.items()
        if (path := getattr(data, name)) is not None
    }
    data = dataclasses.replace(data, **given)
    if ensemble.weights not in {"none", "imagenet"}:
        ensemble = dataclasses.replace(ensemble, weights=place("--weights", ensemble.weights))
    return dataclasses.replace(request, data=data, ensemble=ensemble, storage=storage)


def _run(*call: Any) -> Answered:
    from muster.orchestrator.jobs.launch.run import launch

    return launch(*call)


def _message(answer: Answer, failures: Sequence[str]) -> str:
    what = "model" if "learners" in answer else "members"
    return "\n".join([counts_text(answer["models"], what), *failures])


def _show(answer: Answer, message: str) -> None:
    from muster.orchestrator.console.tables import answer_table

    answer_table(answer, message)


JOB = Job(
    kind="launch",
    noun="run",
    parse=parse_request,
    changed=dataclasses.replace,
    with_paths=with_paths,
    check=check_ensemble,
    backbones=lambda request: [request.ensemble.backbone],
    preview=preview,
    from_store=from_store,
    run=_run,
    message=_message,
    show=_show,
)
