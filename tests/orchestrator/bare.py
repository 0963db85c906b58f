"""Whole runs without a cluster: the real command line, the real jobs, members in this very process.

Only what Ray gives is replaced: places for members, their processes, and the spreading of shards and scores. So what a
command says of a damaged or refusing store can be tried many times.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from muster.orchestrator.cli import app
from muster.orchestrator.client import session
from muster.orchestrator.ensemble import floors, scores
from muster.orchestrator.ensemble.terms import ClusterTerms
from muster.orchestrator.fleet.actors.member import AttemptLog, logged
from muster.orchestrator.fleet.client import FleetClient
from muster.orchestrator.fleet.failures import judge
from muster.orchestrator.fleet.places.inventory import Inventory
from muster.orchestrator.fleet.scheduler import FUTILE_ATTEMPTS, FleetSettings
from muster.orchestrator.fleet.work import Outcome
from muster.orchestrator.jobs import entry, turn
from muster.orchestrator.jobs.base import run_job
from muster.orchestrator.jobs.launch import run as launching
from muster.orchestrator.jobs.registry import job_of
from muster.orchestrator.records.events import Event, event, from_line
from muster.orchestrator.records.log import EventLog
from muster.orchestrator.vectors import gather as gathering
from muster.orchestrator.vectors.evaluate import evaluate_here
from muster.workers.member import run_member
from muster.workers.methods.registry import method_of
from muster.workers.store.layout import Store, new_attempt_id
from muster.workers.store.runs import RunFolder
from muster.workers.task import MemberTask, missing
from tests.cli import Ran

CPU = torch.device("cpu")


class BareClient(FleetClient):
    """A fleet's client that is its own fleet: a member after the other, tried again as the scheduler would."""

    def __init__(self, store: Store, run: RunFolder, emit: Any, to_train: Any) -> None:
        self.store, self.run, self.emit, self.to_train = store, run, emit, to_train
        self.outcomes, self.trained, self.gpu_events = {}, set(), []
        self._retraining = contextlib.nullcontext()  # type: ignore[assignment]
        self.settings = FleetSettings(store.root, run.run, 0, 0.0)

    def train(self, ensembles: Any) -> None:
        for _, tasks in ensembles:
            for task in tasks:
                self.outcomes[task.key] = self._member(task)

    def _member(self, task: MemberTask) -> Outcome:
        train, targets = missing(self.store, task)
        if not train and not targets:
            return self._ended(task, "reused")
        for _ in range(FUTILE_ATTEMPTS):
            attempt = new_attempt_id()
            log = AttemptLog(self.store, self.run.log(task.key, attempt))
            try:
                with logged(log):
                    run_member(self.store, task, attempt, CPU, log=log)
            except Exception as error:
                failure = judge(error, node_lost=False, siblings=False)
                if failure.final:
                    break
            else:
                if task.key in self.to_train:
                    self.trained.add(task.key)
                return self._ended(task, "done")
        return self._ended(task, "failed", f"member {task.spec.index} (key {task.key}): {failure.cause}")

    def _ended(self, task: MemberTask, state: str, message: str = "") -> Outcome:
        spec = task.spec
        if method_of(spec).untrained:
            return Outcome(spec.key, spec.index, state, 1, message)
        known = {"index": spec.index, "key": spec.key, "D": spec.dimension, "epochs": spec.epochs}
        self.emit(event("member", **known, state=state, epoch=spec.epochs, message=message))
        return Outcome(spec.key, spec.index, state, 1, message)


def bare_train(
    plan: Any, run: RunFolder, emit: Any, *_: Any, floors: Sequence[MemberTask], **__: Any
) -> BareClient:
    client = BareClient(Store(run.files.root), run, emit, plan.to_train)
    with launching.stage(emit, "train"):
        wanted = [(one.request.name, [plan.tasks[key] for key in one.keys]) for one in plan.ensembles]
        client.train([*wanted, ("", floors)])
    return client


def bare_terms(example: Any, run: RunFolder, emit: Any = None, *_: Any) -> ClusterTerms:
    """Places on this machine's CPUs, whatever it has."""
    return ClusterTerms(example, run, Inventory.of({"CPU": 2}))


def here(calls: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [gathering.write_shard(*call) for call in calls]


def scored_here(
    store: Store,
    target: Any,
    members: Sequence[MemberTask],
    ks: Sequence[int],
    *,
    memory: int,
    nmi: bool,
    combination: Any = None,
    draws: int = 0,
    queries: str = "",
    on_gpu: Any = None,
) -> Any:
    """What `evaluate_on_ray` finds, and writes."""
    return evaluate_here(
        store, target, [task.key for task in members], ks, memory=memory, nmi=nmi, combination=combination,
        draws=draws, queries=queries, threads=1,
    )  # fmt: skip


class BareMuster:
    """The command line with jobs that run in this process."""

    def __call__(self, *args: object, code: int | None = 0) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        words = [*map(str, args)]
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.setattr(sys, "argv", ["muster", *words])
            patch.setenv("COLUMNS", "80")
            ended = app._answered(words)
        ran = Ran(ended, out.getvalue(), err.getvalue())
        assert "Traceback" not in ran.err + ran.out, ran.err
        if code is not None:
            assert ran.code == code, f"exit code {ran.code}, wanted {code}\n{ran.out}\n{ran.err}"
        return ran


def submitted(request: Any, address: str | None, detach: bool, as_json: bool, *splits: str) -> Event:
    """In place of a job on the cluster: the same, here. What the job prints is what its client would read."""
    attempt = f"{request.run}-{new_attempt_id()}"
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setenv(entry.ATTEMPT, attempt)
        # A job that could not give its turn back has lost it when its process ends: this one does not end.
        patch.setattr(turn, "_document", lambda name: {"attempt": name, "over": True})
        job = job_of(request.kind)
        entry._guarded(lambda log, name: run_job(job, request, log, entry.fleet_name(name), splits))
    ends = [
        item for line in said.getvalue().splitlines() if (item := from_line(line)) and item["event"] == "end"
    ]
    return ends[0]


@pytest.fixture
def bare_muster(monkeypatch: pytest.MonkeyPatch) -> BareMuster:
    """Commands whose jobs need no cluster."""
    monkeypatch.setattr(session, "_submitted", submitted)
    monkeypatch.setattr(launching, "terms_of", bare_terms)
    monkeypatch.setattr(launching, "train", bare_train)
    monkeypatch.setattr(gathering, "on_ray", here)
    for module in (scores, floors):
        monkeypatch.setattr(module, "evaluate_on_ray", scored_here)
    monkeypatch.setattr(EventLog, "beat", lambda log: None)  # its thread would outlive the test
    return BareMuster()
