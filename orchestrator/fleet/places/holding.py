"""How a fleet comes to hold GPUs, gives them back, and has those looked at on which members fail.

A GPU is held by a process that takes it from Ray whole, with the CPUs of the members that are to share it, and does
nothing. So the fleet says itself which member goes to which GPU, and a bad one stays out of everybody's way.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from muster.orchestrator.fleet.places.gpus import Gpu, Gpus, Held
from muster.orchestrator.fleet.places.nodes import (
    QUARANTINE_SECONDS,
    STRIKES,
    Resources,
    gpus_of,
    on_each_gpu,
)
from muster.orchestrator.fleet.processes import Processes
from muster.orchestrator.records.events import Event, event

#: A GPU is kept for so long with nobody on it: a member that fails wants another at once, and so do new ones.
KEPT_SECONDS = 10.0
#: A process that holds a free GPU is there within this time, but for a busy machine.
PROMPT_SECONDS = 20.0
#: Between two looks at a GPU that can't be used; the last is that between all further ones.
WAITS = (15.0, 60.0, QUARANTINE_SECONDS)


class Holding:
    """The GPUs of one fleet."""

    def __init__(
        self,
        processes: Processes,
        share: float,
        clock: Callable[[], float],
        say: Callable[[Event], None],
        changed: Callable[[], None],
        orphaned: Callable[[Collection[str]], None],
    ) -> None:
        """`share`: of a GPU, that a member takes. `clock` counts seconds. `changed` is called where a place may have
        come free, `orphaned` with the keys of members whose GPU is no longer held: its node may be gone."""
        self.processes, self.share, self.clock = processes, share, clock
        self.say, self.changed, self.orphaned = say, changed, orphaned
        self.gpus = Gpus()
        self.asked: dict[Any, str] = {}
        "Holders that have no GPU yet, and the nodes where they wait for one; none: any, also one that is yet to join."
        self.since: dict[Any, float] = {}
        "And since when."
        self.holders: dict[str, Any] = {}
        "The holders of the GPUs, by their keys."
        self.total = 0
        "GPUs of the cluster that members can use."
        self.bf16 = False
        "Do members need bf16?"
        self.unfit: set[str] = set()
        "Nodes of which no GPU has bf16: they are not held while members need it."
        self.looks: dict[str, asyncio.Task[None]] = {}
        "Who is about to look at a GPU, by its key."
        self.tasks: set[asyncio.Task[None]] = set()
        self.told = ""

    def want(
        self,
        members: int,
        nodes: Resources,
        free: Resources,
        *,
        bf16: bool = False,
        over: bool = False,
        more: bool = False,
        elsewhere: int | None = None,
        avoided: Collection[str] = (),
    ) -> None:
        """Holds a GPU for each of so many members, as far as there are any: they share GPUs only where there are more
        of them than GPUs. `free` is what nobody has of the nodes, as of a moment ago. With `more` those that the
        cluster lacks are waited for, which makes an autoscaler add nodes. `elsewhere`: some wait that failed before,
        and so many of these had better not go to the nodes `avoided`, and find no room on others. With `bf16` those
        without it do not count. Gives the others back when nobody has needed them for a while; all of them, the bad
        ones too, where it is `over` for now: whoever comes next may need the CPUs that are held with them."""
        if not nodes:  # the cluster does not say what it has
            return
        self.bf16 = bf16
        nodes = {node: has for node, has in nodes.items() if not (bf16 and node in self.unfit)}
        self.total = sum(gpus_of(has) for has in nodes.values())
        for held in [
            one
            for one in self.gpus.held.values()
            if one.lost and not one.members and not (one.out or one.strikes)
        ]:
            del self.gpus.held[held.gpu.key]
        lacking = members - sum(held.gpu.node in nodes for held in self.gpus.sound(bf16=bf16))
        if lacking > 0 or elsewhere:
            if elsewhere:
                self._ask_for(elsewhere, {node: nodes[node] for node in nodes if node not in avoided}, free)
            if lacking > (elsewhere or 0):
                self._ask_for(lacking, nodes, free)
            self._ask_more(members if more else 0, nodes)
            return
        for holder in list(self.asked):
            self._dismiss(holder)
        if elsewhere is not None:  # what is there may be for them
            return
        if over:
            for held in [self.gpus.held[key] for key in self.holders]:
                self._give_back(held)
        now = self.clock()
        for held in self.gpus.sound():
            if held.members:
                continue
            held.idle_since = now if held.idle_since is None else held.idle_since
            if len(self.gpus.sound(bf16=bf16)) > members and now - held.idle_since >= KEPT_SECONDS:
                self._give_back(held)

    def make_way(self, loans: int) -> None:
        """Ranks are next, which take their GPUs from the cluster themselves: no more are asked for, and those that
        nobody is on are given back, but for so many that are to be lent."""
        for holder in list(self.asked):
            self._dismiss(holder)
        for held in [held for held in self.gpus.usable() if not held.members][loans:]:
            self._give_back(held)

    @property
    def may_ask(self) -> bool:
        """Is there a GPU that is neither held nor asked for, as far as was looked?"""
        return not self.total or self.total > len(self.asked) + len(self.holders)

    def _ask_for(self, lacking: int, nodes: Resources, free: Resources) -> None:
        """Has holders wait for so many GPUs: free ones where there are enough, or else all that are not held. A holder
        that has waited for a while does not count: somebody else was quicker."""
        waiting = [self.asked[one] for one, at in self.since.items() if self.clock() - at < PROMPT_SECONDS]
        lacking -= len(waiting)
        there = Counter([*self.asked.values(), *(self.gpus.held[key].gpu.node for key in self.holders)])
        unheld = {node: gpus_of(has) - there[node] for node, has in nodes.items()}
        at_hand = {}
        for node, has in nodes.items():
            left = free.get(node, {})
            fit = min(left.get("GPU", 0.0), left.get("CPU", 0.0) // max(1, on_each_gpu(has, self.share)))
            at_hand[node] = min(unheld[node], int(fit) - waiting.count(node))
        if sum(count for count in at_hand.values() if count > 0) < lacking:
            at_hand, lacking = unheld, sum(unheld.values())
        for node in sorted(at_hand, key=lambda node: at_hand[node], reverse=True):
            for _ in range(min(at_hand[node], lacking)):
                self._ask(node, on_each_gpu(nodes[node], self.share))
                lacking -= 1

    def _ask_more(self, members: int, nodes: Resources) -> None:
        """Has holders wait for the GPUs that the cluster does not have yet for so many members, as large as it has them
        where it has some."""
        sizes = [on_each_gpu(has, self.share) for has in nodes.values() if gpus_of(has)]
        size = max(sizes, default=int(1 / self.share + 1e-6))
        lacking = math.ceil(members / size) - self.total
        waiting = [holder for holder, node in self.asked.items() if not node]
        for _ in range(lacking - len(waiting)):
            self._ask("", size)
        for holder in waiting[max(0, lacking) :]:
            self._dismiss(holder)

    def failed(self, held: Held, cause: str) -> None:
        """A member failed for its GPU's sake: it gets no other until a process of its own has found it in order, and
        after too many times in a row not for a while."""
        lasting = held.strike()
        text = f"{held.gpu.shown} failed a member ({cause})"
        if lasting:
            text += f", {STRIKES} times in a row: it gets none for {QUARANTINE_SECONDS / 60:.0f} minutes. "
            text += held.gpu.cure
        else:
            text += ": it is looked at before it gets another"
        self._warn(text, held)
        self._look(held, (QUARANTINE_SECONDS,) if lasting else (0.0, *WAITS))

    def elsewhere(self, bad: Collection[str]) -> bool:
        """Whether there is a GPU on the cluster for a member that failed on these."""
        return self.total > len({*bad, *(key for key, held in self.gpus.held.items() if held.out)})

    def hopeless(self) -> str:
        """Why no member will find a GPU here, or "": all were looked at in vain, or failed members again and again."""
        held = list(self.gpus.held.values())
        useless = [one.hopeless or (self.bf16 and not one.gpu.bf16) for one in held]
        if not self.total or len(held) < self.total or not all(useless):
            return ""
        return f"no GPU of the cluster can be used: {', '.join(one.gpu.shown for one in held)}. {held[0].gpu.cure}"

    def _ask(self, node: str, slots: int) -> None:
        try:
            holder = self.processes.hold(node, slots, sorted(self.unfit) if self.bf16 else ())
        except Exception as error:
            self._refused(node, error)
            return
        self.asked[holder], self.since[holder] = node, self.clock()
        self._background(self._hold(holder, slots))

    def _dismiss(self, holder: Any) -> None:
        """It need not wait for a GPU any more."""
        del self.asked[holder], self.since[holder]
        self.processes.kill(holder)

    def _waited(self, holder: Any) -> bool:
        """It waits no longer; whether it did."""
        self.since.pop(holder, None)
        return self.asked.pop(holder, None) is not None

    def _refused(self, node: str, error: Exception) -> None:
        if (text := f"node {node[:12]} gives no GPU: {error}") != self.told:
            self.told = text
            self.say(event("message", level="warning", text=text))

    async def _hold(self, holder: Any, slots: int) -> None:
        node, held = self.asked[holder], None
        try:
            gpu = await self.processes.card(holder)
            if not self._waited(holder):  # it is not wanted any more
                return
            if self.bf16 and gpu.none_bf16:
                self._leave(gpu)
                self.processes.kill(holder)
                return
            held = self.gpus.held.setdefault(gpu.key, Held(gpu, slots))
            held.lost, held.out = False, held.out or bool(gpu.trouble)
            self.holders[gpu.key] = holder
            if gpu.trouble:
                self._warn(f"{gpu.shown} gets no members: {gpu.trouble}. {gpu.cure}", held)
                self._look(held, WAITS)
            self.changed()
            await self.processes.ended(holder)
        except Exception as error:
            if self._waited(holder):
                self._refused(node, error)
        self.processes.kill(holder)
        if held is not None and self.holders.get(held.gpu.key) is holder:
            del self.holders[held.gpu.key]
            held.lost = True
            self.orphaned(held.members)
        self.changed()

    def _leave(self, gpu: Gpu) -> None:
        """A node whose GPUs lack what members need is left to others. It may have joined just now."""
        if gpu.node not in self.unfit:
            self.unfit.add(gpu.node)
            text = f"node {gpu.host} gets no members: its GPUs ({gpu.name}) have neither bf16 nor TF32"
            self.say(event("message", level="info", text=text))
        self.changed()

    def _look(self, held: Held, waits: tuple[float, ...]) -> None:
        """Has it looked at after each of these waits, until it is in order; in place of whoever was about to."""
        if (before := self.looks.pop(held.gpu.key, None)) is not None:
            before.cancel()
        self.looks[held.gpu.key] = self._background(self._examine(held, waits))

    async def _examine(self, held: Held, waits: tuple[float, ...]) -> None:
        looks = 0
        while self.gpus.held.get(held.gpu.key) is held:
            await asyncio.sleep(waits[min(looks, len(waits) - 1)])
            looks += 1
            if held.lost:
                continue
            try:
                trouble = await self.processes.probe(held.gpu, alone=not held.members)
            except Exception as error:
                trouble = f"the process that looked at it died: {error}"
            if not trouble:
                held.let_in()
                self.changed()
                return
            held.hopeless = True
            self._warn(f"{held.gpu.shown} gets no members: {trouble}. {held.gpu.cure}", held)
            self.changed()

    def _warn(self, text: str, held: Held) -> None:
        gpu = {"node": held.gpu.host, "uuid": held.gpu.visible, "name": held.gpu.name}
        self.say(event("message", level="warning", text=text, gpu=gpu))

    def _give_back(self, held: Held) -> None:
        """What was seen of it is kept, if it was bad."""
        holder = self.holders.pop(held.gpu.key)
        held.lost = True
        self.processes.kill(holder)

    def _background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task
