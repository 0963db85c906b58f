"""A finished launch in a store, made in this process: all that a job does but for Ray, whose parts are stand-ins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from muster.orchestrator.ensemble import floors, scores
from muster.orchestrator.ensemble.terms import ClusterTerms
from muster.orchestrator.fleet.places.inventory import Inventory
from muster.orchestrator.fleet.work import Outcome
from muster.orchestrator.jobs.base import run_job
from muster.orchestrator.jobs.launch import run as launching
from muster.orchestrator.jobs.registry import job_of
from muster.orchestrator.methods.loading import load
from muster.orchestrator.records.events import Event, event
from muster.orchestrator.records.log import EventLog
from muster.orchestrator.settings.request import LaunchRequest
from muster.orchestrator.vectors import gather
from muster.orchestrator.vectors.evaluate import evaluate_here
from muster.workers.member import run_member
from muster.workers.store.layout import Store


def request_of(storage: str, images: Path, name: str = "one", **flags: Any) -> LaunchRequest:
    """A launch of two members that train in a second."""
    given: dict[str, Any] = {
        "data.dataset": "folder", "data.root": str(images), "image_size": 24, "ensemble.backbone": "conv4",
        "ensemble.D": 2, "ensemble.L": 2, "recipe.epochs": 1, "name": name, "storage": storage,
    }  # fmt: skip
    return load(None, {**given, **flags}, ["batch_size=8"])


def finish(request: LaunchRequest, extra: tuple[str, ...] = ()) -> None:
    """Runs a launch to its end, with its log in the store and its DONE.json."""

    def terms(example: Any, run: Any, *_: Any) -> ClusterTerms:
        return ClusterTerms(example, run, Inventory.of({"CPU": 2.0}))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launching, "terms_of", terms)
        patch.setattr(launching, "train", trained)
        patch.setattr(gather, "on_ray", lambda calls: [gather.write_shard(*call) for call in calls])
        for module in (scores, floors):
            patch.setattr(module, "evaluate_on_ray", _evaluated)
        log = EventLog(f"{request.run}-20260101T000000-abcdef")
        assert run_job(job_of("launch"), request, log, "fleet", extra) == 0


class Client:
    """The fleet's client, whose members have been trained here."""

    on_gpu = None

    def __init__(self, store: Store, outcomes: Iterable[Outcome]) -> None:
        self.store = store
        self.outcomes = {outcome.key: outcome for outcome in outcomes}
        self.trained = set(self.outcomes)
        self.gpu_events: list[Event] = []

    def repaired(self, work: Any, members: Sequence[Any]) -> Any:
        return work()


def trained(plan: Any, run: Any, emit: Any, fleet_name: str, **resources: Any) -> Client:
    def told(task: Any, **fields: Any) -> Event:
        return event("member", index=task.spec.index, key=task.key, node="here", **fields)

    outcomes = []
    for key, task in {**plan.tasks, **{task.key: task for task in resources["floors"]}}.items():
        store, lines = Store(run.files.root), []
        run_member(store, task, "20260101T000000-abcdef", torch.device("cpu"), log=lines.append)
        store.files.put(run.log(key, "20260101T000000-abcdef"), "\n".join(lines).encode())
        if key in plan.tasks:
            emit(told(task, state="done", epoch=1, epochs=1, loss=1.0))
        outcomes.append(Outcome(key, task.spec.index, "done", 1))
    return Client(Store(run.files.root), outcomes)


def _evaluated(store: Store, target: Any, members: Sequence[Any], *args: Any, **options: Any) -> Any:
    for name in ("queries", "on_gpu"):  # what each query found is no part of what is read again
        options.pop(name, None)
    return evaluate_here(store, target, [task.key for task in members], *args, **options)
