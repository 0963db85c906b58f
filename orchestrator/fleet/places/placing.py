"""Where a fleet's members go, and which of those that wait is the next to start."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from muster.orchestrator.fleet.failures import Failure
from muster.orchestrator.fleet.places.gpus import Held
from muster.orchestrator.fleet.places.holding import Holding
from muster.orchestrator.fleet.places.lending import Lending
from muster.orchestrator.fleet.places.nodes import Nodes, Resources, gpus_of, room_of
from muster.orchestrator.fleet.processes import Processes
from muster.orchestrator.fleet.work import FUTILE_ATTEMPTS, Work
from muster.orchestrator.records.events import Event, event

#: What a process that waits for its turn may take of a node's memory, and of its cores while it reads its code; and the
#: share of both that all of a node may.
SPARE_BYTES, SPARES_SHARE = 1 << 30, 0.125


class Placing:
    """What a fleet knows of the places of its cluster: nodes, and the GPUs that it holds where members need some."""

    def __init__(
        self,
        parallel: int,
        share: float,
        processes: Processes,
        clock: Callable[[], float],
        say: Callable[[Event], None],
        changed: Callable[[], None],
        running: Mapping[str, Work],
    ) -> None:
        """`parallel`: members at once; 0: as many as fit. `share`: of a GPU, that a member takes. `changed` is called
        where a place may have come free; `running` are the members at work, by their keys."""
        self.parallel, self.share, self.processes, self.running = parallel, share, processes, running
        self.nodes, self.say = Nodes(clock), say
        self.leaving: Collection[str] = ()
        self.free: Resources = {}
        "What nobody has of the nodes, as of the last look."
        self.holding: Holding | None = None
        if share:
            self.holding = Holding(processes, share, clock, say, changed, self._orphaned)
        self.lending = Lending(self.holding, changed)

    def there(self) -> Resources:
        """The nodes that are there to stay. Raises what the cluster does where it does not say so."""
        self.leaving = self.processes.leaving()
        if self.holding is not None and self.holding.may_ask:  # each look keeps a GPU that came free waiting
            self.free = self.processes.free()
        return {node: has for node, has in self.processes.nodes().items() if node not in self.leaving}

    def hold(self, queue: Sequence[Work], nodes: Resources) -> None:
        """Sees to it that the GPUs are held which members need, and that ranks can have theirs."""
        if self.holding is None:
            return
        if queue and queue[0].ranked:
            self.holding.make_way(len(self.lending.waiting))
            self.lending.serve()
            return
        waiting = [work for work in queue if not work.ranked]
        alone = [*waiting, *(work for work in self.running.values() if not work.ranked)]
        members, bf16 = min(len(alone), self.parallel or len(alone)), any(map(needs_bf16, alone))
        over = not queue and not self.running and not self.lending
        wanted, more = members + len(self.lending), bool(self.parallel)
        if ranks := sum(work.task.ranks for work in self.running.values() if work.ranked):
            # Ray Train takes theirs some seconds after they are started.
            wanted, more = min(wanted, max(0, sum(map(gpus_of, nodes.values())) - ranks)), False
        elsewhere, avoided = self._barred(waiting, nodes, self.holding)
        self.holding.want(
            wanted, nodes, self.free, bf16=bf16, over=over, more=more, elsewhere=elsewhere, avoided=avoided
        )
        self.lending.serve()

    def _barred(
        self, waiting: Sequence[Work], nodes: Resources, holding: Holding
    ) -> tuple[int | None, Collection[str]]:
        """How many of those that failed before had better not go to some nodes, and find no room on the GPUs that are
        held on others; and those nodes, of the first of them. None: none has failed."""
        failed = [work for work in waiting if work.attempts]
        found = [self._shunned(work, nodes) for work in failed if not self._gpu(work, holding, nodes, "")]
        if not failed or not holding.gpus.room():
            return None, ()
        return (found.count(found[0]), found[0]) if found else (0, ())

    def _shunned(self, work: Work, nodes: Resources) -> set[str]:
        """The nodes on whose GPUs a member had better not go, and those that are about to be taken away."""
        return {*self.avoided(work, nodes), *self.leaving}

    def next(
        self, queue: Sequence[Work], sought: Collection[Work], nodes: Resources, spares: Mapping[str, str]
    ) -> tuple[Work, Held | None] | None:
        """The next member to start, and its GPU. Nothing that is being looked up may come before it, as look-ups end in
        any order. A GPU that the first in the queue had better not have is for the next; ranks are not overtaken, or
        they would never find all their places free. `spares`: the node where a member's process already is, by its key:
        it goes there if it can."""
        if not nodes or not queue or any(other < queue[0] for other in sought):
            return None
        if self.holding is None or queue[0].ranked:
            return (queue[0], None) if self._fits(queue[0], queue, nodes) else None
        if not self.holding.gpus.room():
            return None
        elsewhere: tuple[Work, Held] | None = None
        for work in queue:
            if work.ranked or any(other < work for other in sought) or not self._fits(work, queue, nodes):
                break
            if held := self._gpu(work, self.holding, nodes, spares.get(work.task.key, "")):
                if spares.get(work.task.key, held.gpu.node) == held.gpu.node:
                    return work, held
                elsewhere = elsewhere or (work, held)
        return elsewhere

    def _fits(self, work: Work, queue: Sequence[Work], nodes: Resources) -> bool:
        """Whether a member has room; whatever its width, it starts once nothing else runs, also where it fits nowhere:
        that makes an autoscaler act."""
        running = self.running.values()
        used = sum(other.width(self.share) for other in [*running, work])
        beside = min(other.beside for other in [*running, work])
        threads = 1 if self.share else max(other.task.spec.threads for other in queue)
        slots = self.parallel or sum(room_of(nodes, self.share, threads).values())
        return not running or (used <= slots and len(running) <= beside)

    def _gpu(self, work: Work, holding: Holding, nodes: Resources, wished: str) -> Held | None:
        bad = work.failed_on if holding.elsewhere(work.failed_on) else ()
        avoided = self._shunned(work, nodes)
        place = functools.partial(
            holding.gpus.place, bad=bad, beside=work.beside_on_gpu, bf16=needs_bf16(work)
        )
        there = place({*avoided, *(set(nodes) - {wished})}) if wished else None
        return there or place(avoided)

    def avoided(self, work: Work, nodes: Resources) -> list[str]:
        """The nodes where a member had better not go."""
        room = room_of(nodes, self.share, work.task.spec.threads)
        return self.nodes.avoided(work.avoid, room, work.width(self.share))

    def spares(self, nodes: Resources) -> dict[str, int]:
        """The nodes whose GPUs members get, and how many processes each can have ready for the members that are next:
        one, or more where they take little of what the node has, and no more than members run there."""
        if self.holding is None:
            return {}
        slots = Counter[str]()
        for held in self.holding.gpus.usable():
            slots[held.gpu.node] += held.slots
        found = {}
        for node, most in slots.items():
            has = nodes.get(node, {})
            room = min(
                has.get("memory", 0.0) * SPARES_SHARE / SPARE_BYTES, has.get("CPU", 0.0) * SPARES_SHARE
            )
            found[node] = max(1, min(most, int(room)))
        return found

    def beginning(self) -> dict[str, str]:
        """The members that have a place on a GPU and no process yet, by their keys, and their nodes."""
        return {
            key: work.held.gpu.node
            for key, work in self.running.items()
            if work.held is not None and work.process is None
        }

    def hopeless(self) -> str:
        """Why none of those that wait will ever start, or ""."""
        return self.holding.hopeless() if self.holding is not None else ""

    def take(self, work: Work, held: Held | None) -> None:
        """A member's place on a GPU is its own now."""
        work.held = held
        if held is not None:
            work.node = held.gpu.node  # where it is lost, too, if it never tells of itself
            held.members[work.task.key] = work.beside_on_gpu
            held.idle_since = None

    def leave(self, work: Work) -> None:
        """A member's place on a GPU comes free."""
        if work.held is not None:
            work.held.members.pop(work.task.key, None)

    def started(self) -> None:
        """Those that run know of each other."""
        for one in self.running.values():
            one.siblings |= len(self.running) > 1
            one.shared |= one.held is not None and len(one.held.members) > 1

    def blame(self, work: Work, failure: Failure, *, progressed: bool) -> None:
        """Notes what a failure says about its member, its node and its GPU."""
        by_gpu = failure.blames == "gpu" and work.held is not None
        by_node = failure.blames != "" and not by_gpu  # which GPUs ranks have is not known here
        if by_node:
            work.avoid = work.node
        if failure.crowded and by_node:
            work.crowded(len(self.running) - 1)
        elif failure.crowded:
            work.crowded_gpu()
        counts = failure.counts or (by_node and failure.blames == "gpu")
        if failure.blames == "" and work.eased():
            counts = False
        if by_gpu and work.held is not None and self.holding is not None:
            self.holding.failed(work.held, failure.cause)
            work.failed_on = {work.held.gpu.key} | (set() if progressed else work.failed_on)
            counts = len(work.failed_on) >= FUTILE_ATTEMPTS or not self.holding.elsewhere(work.failed_on)
        if progressed:
            work.futile = 0
        elif counts:
            work.futile += 1
            if by_node and not failure.final and (text := self.nodes.strike(work.node)):
                self.say(event("message", level="warning", text=text))

    def forgive(self, work: Work) -> None:
        """A member ended well: what its node and its GPU failed before was not lasting."""
        self.nodes.forgive(work.node)
        if work.held is not None:
            work.held.forgive()

    def _orphaned(self, keys: Collection[str]) -> None:
        """The GPU of these is no longer held. If its node is gone, a process that waits to be started there never is;
        those that are at work hear of it themselves, or go on."""
        for key in keys:
            work = self.running.get(key)
            if work is not None and work.process is not None and not work.where:
                self.processes.kill(work.process)


def needs_bf16(work: Work) -> bool:
    """Whether a member may only go where bf16 and TF32 are computed, and not imitated."""
    return work.trains and work.task.spec.precision != "fp32"
