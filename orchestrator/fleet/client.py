"""A job's side of its fleet: asks for members, passes the fleet's events on, has damaged vectors made again."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import ray

from muster.orchestrator.fleet.actors.fleet import start_fleet
from muster.orchestrator.fleet.actors.gpus import BorrowerActor
from muster.orchestrator.fleet.actors.nodes import NODE
from muster.orchestrator.fleet.failures import judge
from muster.orchestrator.fleet.repair import Found, invalidate_vectors, repaired
from muster.orchestrator.fleet.scheduler import FleetSettings
from muster.orchestrator.fleet.work import Outcome
from muster.orchestrator.records.events import Event, event
from muster.orchestrator.records.forecast import Forecast
from muster.orchestrator.records.stages import Emit
from muster.workers.errors import DamagedMember, DeviceError, MusterError
from muster.workers.store.layout import Store
from muster.workers.task import MemberTask

#: Between two `ensemble` events while nothing but time passes.
FORECAST_SECONDS = 2.0


#: Scores that a GPU has not computed by then are left to CPUs.
BORROWED_SECONDS = 3600.0
#: A process that has not started by then never does.
START_SECONDS = 120.0


class FleetClient:
    """What any kind of job asks of its fleet, and what it has heard so far."""

    borrower: Any = BorrowerActor
    "Who works on GPUs that are lent."

    def __init__(
        self,
        settings: FleetSettings,
        name: str,
        emit: Emit,
        forecast: Forecast,
        to_train: Collection[str] = (),
    ) -> None:
        """Starts the job's fleet, an actor of this name. `to_train`: the keys whose weights the store lacks."""
        self.fleet, self.store, self.emit = start_fleet(settings, name), Store(settings.store), emit
        self.settings = settings
        self.forecast, self.to_train = forecast, to_train
        self.outcomes: dict[str, Outcome] = {}
        "How each member ended that was asked for here; the newest, where it was asked for again."
        self.trained: set[str] = set()
        "Keys that this run's fleet trained: the others were in the store, or another job trained them."
        self.gpu_events: list[Event] = []
        "What was said of single GPUs."
        self._ensemble_of: dict[str, str] = {}
        self._seen: tuple[str, int] = ("", 0)
        self._forecast_at = 0.0
        self._retraining = threading.Lock()

    def train(self, ensembles: Iterable[tuple[str, Sequence[MemberTask]]]) -> None:
        """Asks for the members of all ensembles, each with its name, and waits until every one is done or given up.

        Of members with the same index those of earlier ensembles go first. Their events carry the name of the first
        ensemble that wants them, if it has one. How they ended is in `outcomes`.
        """
        asked = []
        for rank, (name, tasks) in enumerate(ensembles):
            for task in tasks:
                self._ensemble_of.setdefault(task.key, name)
            asked.append(self.fleet.ensure.remote(list(tasks), name, rank))
        waiting = list(asked)

        def all_ended(news: Any) -> bool:
            nonlocal waiting
            ray.wait([*waiting, news], num_returns=1)
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=0)
            return not waiting

        if asked:
            self._forward_until(all_ended)
        self.outcomes |= {outcome.key: outcome for found in ray.get(asked) for outcome in found}

    @contextlib.contextmanager
    def forwarding(self) -> Iterator[None]:
        """Passes events on while the block runs: for work that asks the fleet on its own, and waits elsewhere."""
        over = threading.Event()
        thread = threading.Thread(target=self._forward_until, args=(lambda news: over.is_set(),), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=30)

    def repaired(self, work: Callable[[], Found], members: Iterable[MemberTask]) -> Found:
        """What `work` returns, which reads vectors of these members; see `repair`. May be called from threads.

        A member that could not be made again has failed in `outcomes`: `work` looks there for who is left.
        """
        tasks = {task.key: task for task in members}
        return repaired(work, functools.partial(self._retrain_damaged, tasks), self.store.root)

    @property
    def on_gpu(self) -> Callable[..., Any] | None:
        """Calls work on a GPU of the fleet: see `_on_gpu`. None where it has no GPUs."""
        return self._on_gpu if self.settings.gpus else None

    def _on_gpu(self, work: Callable[..., Any], *args: Any) -> Any:
        """What `work` returns, called with these arguments and the `device` in a process that has a GPU to itself. None
        where none comes free, or where it failed there, which is told. Raises what `work` raises of MusterError. May be
        called from threads."""
        if (lent := ray.get(self.fleet.lend.remote())) is None:
            return None
        (loan, gpu), cause, done, process = lent, "", False, None
        try:
            process = self.borrower.options(label_selector={NODE: gpu.node}).remote()
            ray.get(process.lives.remote(), timeout=START_SECONDS)  # the node may be gone
            found = ray.get(process.call.remote(gpu, work, args), timeout=BORROWED_SECONDS)
            done = True
            return found
        except ray.exceptions.RayError as error:
            if isinstance(error, MusterError) and not isinstance(error, DeviceError):
                raise
            failure = judge(error, node_lost=False, siblings=False)
            cause = failure.cause if failure.blames == "gpu" else ""
            text = f"{gpu.shown} did not compute the scores, and CPUs do: {failure.cause}"
            self.emit(event("message", level="warning", text=text))
            return None
        finally:
            if process is not None:
                ray.kill(process)
            self.fleet.take_back.remote(loan, cause, done)

    def _retrain_damaged(self, tasks: dict[str, MemberTask], error: DamagedMember) -> None:
        with self._retraining:
            self.emit(event("message", level="warning", text=f"{error} It is made again."))
            invalidate_vectors(self.store, tasks[error.key])
            self.train([("", [tasks[error.key]])])

    def _forward_until(self, over: Callable[[Any], bool]) -> None:
        """Passes events on until `over`, which is given the next news and may wait for them; then those left."""
        while not over(news := self.fleet.poll.remote(*self._seen)):
            self._forward(*ray.get(news))
        self._forward(*ray.get(self.fleet.poll.remote(*self._seen, False)))

    def _forward(self, generation: str, last: int, events: list[Event]) -> None:
        self._seen = (generation, last)
        changed = False
        for item in events:
            if item["event"] == "member":
                changed |= self.forecast.follow(item)
                if item["state"] == "done" and item["key"] in self.to_train:
                    self.trained.add(item["key"])
                if name := self._ensemble_of.get(item["key"]):
                    item = {**item, "of": name}  # noqa: PLW2901
            if item.get("gpu"):
                self.gpu_events.append(item)
            self.emit(item)
        if text := self.forecast.first_contact():
            self.emit(event("message", level="info", text=text))
        now = time.monotonic()
        if changed or (events and now - self._forecast_at >= FORECAST_SECONDS):
            self._forecast_at = now
            self.emit(self.forecast.event())
