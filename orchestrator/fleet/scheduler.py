"""The fleet's scheduler: it owns every accelerator of a job, and nobody else starts a training process.

Ask it for members and wait; a member that two askers want is trained once. Each runs in a process of its own,
named by its key, so that two jobs on one cluster can't train the same key at the same time: the second one
waits. The scheduler keeps no state that the store and the cluster lack. If it dies, its members die with it; it is
started again, asks what became of them, the askers' calls are repeated, and members go on from their checkpoints. It
reads commit records and never a model, and it knows the cluster only as `Processes`: `actors/` has those of Ray.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from muster.orchestrator.fleet.budget import Budget, Spending, seconds_of
from muster.orchestrator.fleet.failures import (
    HANG_SECONDS,
    Failure,
    judge,
    may_be_lost,
    node_of,
    out_of_memory,
)
from muster.orchestrator.fleet.news import News
from muster.orchestrator.fleet.places.gpus import Gpu, Held
from muster.orchestrator.fleet.places.nodes import Resources
from muster.orchestrator.fleet.places.placing import Placing
from muster.orchestrator.fleet.processes import Former, Processes
from muster.orchestrator.fleet.spares import Spares
from muster.orchestrator.fleet.watch import LOOK_SECONDS, node_lost, watched
from muster.orchestrator.fleet.work import FUTILE_ATTEMPTS, Outcome, Work
from muster.orchestrator.records.events import Event, event
from muster.workers.methods.registry import method_of
from muster.workers.store.layout import Store, new_attempt_id
from muster.workers.task import MemberTask, missing

LOCKED_SECONDS = 2.0
STOPPED = "dropped: the run was stopped before it started"
UNWANTED = "dropped: nobody waits for it any longer"


@dataclass(frozen=True)
class FleetSettings:
    """What a fleet may use, and where its members write."""

    store: str
    run: str
    parallel: int
    "Members at once; 0: as many as fit into the cluster."
    gpus: float
    "A member's share of a GPU; 0: it computes on the CPU."
    budget: Budget = field(default_factory=Budget)
    "What it may spend on training; checked before a member is started."
    hang_seconds: float = HANG_SECONDS
    "A member that trains is never taken for hung before it has been silent for so long."


class Scheduler:
    """See the module. All methods are asynchronous; none blocks the others."""

    def __init__(
        self, settings: FleetSettings, processes: Processes, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` counts seconds."""
        self.settings, self.processes, self.clock = settings, processes, clock
        self.store = Store(settings.store)
        self.works: dict[str, Work] = {}
        self.queue: list[Work] = []
        self.sought: set[Work] = set()
        "Those that are being looked up in the store: they may go before what is in the queue."
        self.running: dict[str, Work] = {}
        self.news, self.wake = News(), asyncio.Event()
        self.stopping = False
        self.spending = Spending(settings.budget)
        self.placing = Placing(
            settings.parallel, settings.gpus, processes, clock, self.news.say, self.wake.set, self.running
        )
        self.spares = Spares(processes)
        self.loop: asyncio.Task[None] | None = None
        self.former: asyncio.Task[Sequence[Former]]

    async def ensure(self, tasks: list[MemberTask], asker: str = "", rank: int = 0) -> list[Outcome]:
        """Brings members into the store, the lowest index first; an outcome for each, in the order asked.

        Of members with the same index that of the lowest `rank` is first. `asker` is who may `withdraw`.
        """
        self._begin()
        return list(await asyncio.gather(*(self._ask(task, asker, rank) for task in tasks)))

    def _begin(self) -> None:
        if self.loop is None:
            self.loop = asyncio.create_task(self._schedule())
            self.former = asyncio.create_task(self._remember())

    async def lend(self) -> tuple[str, Gpu] | None:
        """A GPU for work that is no member's, until `take_back`, and the loan's name; None where there is none."""
        self._begin()
        return await self.placing.lending.lend()

    async def take_back(self, loan: str, cause: str = "", done: bool = False) -> None:
        """A loan is over; `cause`: what the GPU failed with; `done`: whether the work came to its end."""
        self.placing.lending.take_back(loan, cause, done=done)

    async def withdraw(self, asker: str) -> None:
        """Drops the members that only `asker` waits for; what runs goes on, as its work is kept."""
        for work in self.works.values():
            work.askers.discard(asker)
        for work in self.queue:
            if not work.askers:
                self._finish(work, "dropped", message=UNWANTED)
        self.queue = [work for work in self.queue if work.askers]

    async def stop(self) -> int:
        """Lets running members finish and drops queued ones. The number of running members."""
        self.stopping = True
        for work in self.queue:
            self._finish(work, "dropped", message=STOPPED)
        self.queue.clear()
        begun = sum(work.process is not None for work in self.running.values())
        self.news.say(event("message", level="warning", text=f"stopping; {begun} running members finish"))
        await asyncio.to_thread(self.processes.remember_stop)
        return begun

    async def report(self, key: str, attempt: str, progress: dict[str, Any]) -> bool:
        """A running member's progress; whether it is to save and to end, because its node is taken away. A late one of
        a former attempt is ignored."""
        work = self.running.get(key)
        if work is not None and work.attempt == attempt:
            work.steps.follow(progress, self.clock())
            work.where.update(progress)
            work.node = progress.get("node_id", work.node)
            if work.held is not None and progress.get("step") and work.held.prove():
                self.wake.set()
            self._member(work, progress.pop("state", "training"), **progress)
        return work is not None and work.node in self.placing.leaving

    async def poll(self, generation: str, since: int, wait: bool = True) -> tuple[str, int, list[Event]]:
        """Events after `since` of this `generation` of the fleet; with `wait`, waits a moment if there are none."""
        return await self.news.poll(generation, since, wait)

    async def _ask(self, task: MemberTask, asker: str, rank: int, *, quiet: bool = False) -> Outcome:
        work = self.works.get(task.key)
        if work is not None and not work.finished.done():
            work.askers.add(asker)
            work.quiet &= quiet
            outcome = await work.finished
            try:
                again = outcome.in_store and any(await self._missing(task))
            except Exception as error:  # the store can't be read
                return replace(outcome, state="failed", message=_trouble(task, error))
            if again:
                return await self._ask(task, asker, rank, quiet=quiet)  # the one before wanted other vectors
            return outcome
        order = (rank, len(self.works))
        quiet |= method_of(task.spec).untrained  # no part of a run: what it is compared with
        work = Work(task, asyncio.get_running_loop().create_future(), order, {asker}, quiet=quiet)
        self.works[task.key] = work
        self.sought.add(work)
        try:
            work.recall(await self.former)
            train, targets = await self._missing(task)
        except Exception as error:  # the store can't be read: every asker is told, and may ask again
            self._finish(work, "failed", message=_trouble(task, error))
            return await work.finished
        finally:
            self.sought.remove(work)
            self.wake.set()
        if not train and not targets:
            self._finish(work, "reused", epoch=task.spec.epochs)
        elif self.stopping:
            self._finish(work, "dropped", message="dropped: the run is stopping")
        elif work.futile >= FUTILE_ATTEMPTS:
            self._finish(work, "failed", message=work.given_up(out_of_memory(siblings=False)))
        else:
            self._member(work, "queued")
            work.trains = train and not method_of(task.spec).untrained
            await self._enqueue(work)
        return await work.finished

    async def _remember(self) -> Sequence[Former]:
        """What ran when a former process of this scheduler died. Where memory runs out Ray ends this one before a
        member, as it can be started again; it is seen here, or the same members would go round for ever."""
        with contextlib.suppress(Exception):  # the next question finds the same trouble, and tells it
            if await asyncio.to_thread(self.processes.stopped):
                self.stopping = True
        try:
            former = await asyncio.to_thread(self.processes.former)
        except Exception as error:
            text = f"the cluster does not say what became of the members that ran: {error}"
            self.news.say(event("message", level="warning", text=text))
            return ()
        if crowds := [one.others + 1 for one in former if one.memory]:
            text = f"memory ran out where the fleet runs, with {crowds[-1]} at work"
            text += ": they go on with fewer at once" if crowds[-1] > 1 else ""
            self.news.say(event("message", level="warning", text=text))
        return former

    async def _enqueue(self, work: Work) -> None:
        """Puts a member into the queue, once the vectors are there that it is trained from."""
        try:
            lost = await self._made_inputs(work) if work.trains else ""
        except Exception as error:  # the store can't be read
            self._finish(work, "failed", message=_trouble(work.task, error))
            return
        if self.stopping and work.trains:
            self._finish(work, "dropped", message="dropped: the run is stopping")
        elif lost:
            self._finish(work, "failed", message=f"what it is trained from could not be made: {lost}")
        else:
            bisect.insort(self.queue, work)
            self.wake.set()

    async def _made_inputs(self, work: Work) -> str:
        """Has the vectors made that a member is trained from; what went wrong, or ""."""
        lacking = [task for task in work.task.inputs if any(await self._missing(task))]
        if lacking:
            text = f"first, {len(lacking)} of the {len(work.task.inputs)} models it learns from embed what it needs"
            self.news.say(event("message", level="info", text=text))
        asker = f"inputs of {work.task.key}"
        outcomes = await asyncio.gather(
            *(self._ask(task, asker, work.order[0], quiet=True) for task in work.task.inputs)
        )
        return next((outcome.message for outcome in outcomes if not outcome.in_store), "")

    async def _missing(self, task: MemberTask) -> tuple[bool, list[Any]]:
        return await asyncio.to_thread(missing, self.store, task)

    async def _schedule(self) -> None:
        """Starts members as slots come free. One tick at a time: two can't take the same slot."""
        while True:
            nodes = await self._nodes()
            self.placing.hold(self.queue, nodes)
            while found := self.placing.next(self.queue, self.sought, nodes, self.spares.nodes):
                work, held = found
                self.queue.remove(work)
                await self._start(work, nodes, held)
                self.placing.hold(self.queue, nodes)
            self.spares.look(self.queue, self.placing.spares(nodes), self.placing.beginning())
            if not self.running and (text := self.placing.hopeless()):
                for number, work in enumerate(self.queue):
                    text = text if number == 0 else text.partition(":")[0]  # which they are is said once
                    self._finish(work, "failed", message=f"member {work.task.spec.index}: {text}")
                self.queue.clear()
            self.wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self.wake.wait()

    async def _nodes(self) -> Resources:
        """The nodes that are there to stay; none where the cluster does not say so: it is asked again."""
        try:
            return await asyncio.to_thread(self.placing.there)
        except Exception as error:
            self.news.say(
                event("message", level="warning", text=f"the cluster does not say what it has: {error}")
            )
            return {}

    async def _start(self, work: Work, nodes: Resources, held: Held | None) -> None:
        """Gives a member its place. What takes time comes after, side by side for all that get one at once; with a
        budget each is counted before the next."""
        work.begin(new_attempt_id())
        self.placing.take(work, held)
        self.running[work.task.key] = work
        admitted = asyncio.create_task(self._admitted(work))
        asyncio.create_task(self._watched(work, nodes, admitted))  # noqa: RUF006  (held by what it waits for)
        if not self.settings.budget.unlimited:
            await asyncio.wait({admitted})

    async def _admitted(self, work: Work) -> bool:
        """Whether a member that has its place may use it, and there is still something to do; if not, it has ended, or
        waits for another place."""
        train, targets = await self._missing(work.task)
        trains = train and not method_of(work.task.spec).untrained
        made = not train and not targets  # by another job, while this one waited
        elsewhere = trains != work.trains or (work.held is not None and not work.held.usable)
        refusal = STOPPED if self.stopping else "" if work.askers else UNWANTED
        if trains and not elsewhere and not refusal:
            await self.spending.read(self.store, self.settings.run)
            others = (other for other in self.running.values() if other is not work)
            refusal = self.spending.refusal(sum(other.trains for other in others))
        if not (made or elsewhere or refusal):
            return True
        self._drop(work)
        work.trains, work.attempt = trains, ""
        if made:
            self._finish(work, "reused", epoch=work.task.spec.epochs)
        elif refusal:
            self._finish(work, "dropped", message=refusal)
        else:
            self._requeue(work)  # what it waits for then may wait for this very loop
        return False

    async def _watched(self, work: Work, nodes: Resources, admitted: asyncio.Task[bool]) -> None:
        """Sees to it that a member has an end, whatever happens: its askers would wait for ever. Processes are hired
        side by side: on a busy cluster each takes a while."""
        try:
            if not await admitted:
                return
            if work.held is not None:
                hired = await self.spares.take(work, work.held.gpu.node)
            else:
                hired = await asyncio.to_thread(
                    self.processes.hire,
                    work.task,
                    ranked=work.ranked,
                    avoided=self.placing.avoided(work, nodes),
                )
            lost = work.held is not None and work.held.lost  # on a node that is gone it would never start
            if hired is None or lost or self.stopping:
                if hired is None:
                    self._tell_other_job(work)
                else:
                    self.processes.kill(hired)
                self._drop(work)
                asyncio.get_running_loop().call_later(LOCKED_SECONDS, self._requeue, work)
                return
            work.process, work.told_of_other = hired, False
            self.wake.set()
            work.attempts += 1
            self.placing.started()
            self._member(work, "starting")
            await self._watch(work, hired)
        except Exception as error:  # the store can't be read, for one, or Ray refuses what it is asked
            self._drop(work)
            if work.process is not None:
                self.processes.kill(work.process)
            self._finish(work, "failed", message=_trouble(work.task, error))

    def _tell_other_job(self, work: Work) -> None:
        """Once for each wait, which may last for hours."""
        if not work.told_of_other:
            work.told_of_other = True
            self._member(work, "queued", message="waiting: another job on the cluster trains it")
            text = f"member {work.task.spec.index} waits, as another job on the cluster trains it"
            self.news.say(event("message", level="info", text=text))

    def _drop(self, work: Work) -> None:
        """It does not run any more: its place comes free."""
        self.running.pop(work.task.key, None)
        self.placing.leave(work)
        self.wake.set()

    async def _watch(self, work: Work, process: Any) -> None:
        """Waits for a member's end and decides what follows from it."""
        folder = self.store.model(work.task.key)
        before = await asyncio.to_thread(folder.reached)
        failure: Failure | None = None
        try:
            await watched(self.processes, work, process, self.clock, self.settings.hang_seconds)
        except Exception as error:
            there = node_of(error, await self._nodes())
            work.node = there or work.node if work.ranked else work.node or there
            lost = await node_lost(self.processes, work, self.clock, patience=may_be_lost(error))
            failure = judge(error, node_lost=lost, siblings=work.siblings, shared=work.shared)
        await asyncio.to_thread(self.processes.kill, process)
        report = ""
        if failure is not None:
            after = await asyncio.to_thread(folder.reached)
            self.placing.blame(work, failure, progressed=work.went_on(before, after))
            log = self.store.run(self.settings.run).log(work.task.key, work.attempt)
            report = work.given_up(failure, await asyncio.to_thread(self.store.files.find, log))
        cost = await asyncio.to_thread(seconds_of, folder, work.attempt)
        # The slot comes free only now, with the verdict: a member that is tried again keeps its turn. What it
        # cost is booked in the same breath, or the next one could start on a budget that is spent.
        self._drop(work)
        if cost is not None and self.spending.spent is not None:
            self.spending.spent[work.task.key] = cost
        if failure is None:
            self.placing.forgive(work)
            self._finish(work, "done", epoch=work.task.spec.epochs)
        elif failure.final or work.futile >= FUTILE_ATTEMPTS:
            self._finish(work, "failed", message=report)
        elif self.stopping:
            self._finish(
                work, "dropped", message=f"dropped: the run is stopping, and it failed: {failure.cause}"
            )
        else:
            self._member(work, "retrying", message=failure.cause)
            self._requeue(work)

    def _requeue(self, work: Work) -> None:
        asyncio.create_task(self._enqueue(work))  # noqa: RUF006  (held by whoever waits for the member)

    def _finish(self, work: Work, state: str, **fields: Any) -> None:
        spec = work.task.spec
        self.spares.end(work.task.key)
        self._member(work, state, **fields)
        work.finished.set_result(
            Outcome(spec.key, spec.index, state, work.attempts, fields.get("message", ""))
        )

    def _member(self, work: Work, state: str, **fields: Any) -> None:
        if work.quiet:
            return
        spec = work.task.spec
        known = {"index": spec.index, "key": spec.key, "D": spec.dimension, "epochs": spec.epochs}
        attempt = {"attempt": work.attempt} if work.attempt else {}
        self.news.say(event("member", **{**known, "state": state, **attempt, **fields}))


def _trouble(task: MemberTask, error: Exception) -> str:
    return f"member {task.spec.index}: {error}"
