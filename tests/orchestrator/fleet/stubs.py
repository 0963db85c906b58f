"""A fleet without Ray and without waiting: members that play scenes, nodes that a test writes down, and a loop whose
time passes at once.

The store is a real one. A member costs a test a few small files.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ray.exceptions import ActorDiedError

from muster.orchestrator.fleet.places.gpus import Gpu
from muster.orchestrator.fleet.processes import Former
from muster.orchestrator.fleet.scheduler import FleetSettings, Scheduler
from muster.orchestrator.fleet.work import Outcome
from muster.orchestrator.records.events import Event
from muster.workers.methods.bier.settings import BierSettings, BierSpec
from muster.workers.methods.dreml.settings import MemberSpec, Recipe
from muster.workers.spec import Precision, TestView
from muster.workers.store.layout import Store
from muster.workers.store.records import Done
from muster.workers.task import Images, MemberTask, Target, missing

A = TypeVar("A")
VIEW = TestView(resize="squash:20", crop=16, mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.3))
#: Whoever waits for so long in a test waits for ever, and so does whoever takes so many turns.
PATIENCE, TURNS = 5_000.0, 10_000
TRAINING = 10.0


class PlayedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still while there is anything to do, and then jumps to what comes next.

    What would be done in a thread is done in a turn of its own, so that a test is the same each time.
    """

    def __init__(self) -> None:
        super().__init__(_Jumps(self))
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        async def do() -> Any:
            return func(*args)

        return self.create_task(do())


class _Jumps(selectors.SelectSelector):
    def __init__(self, loop: PlayedLoop) -> None:
        super().__init__()
        self.loop, self.turns = loop, 0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found:
            assert timeout is not None, "all wait for what will never come"
            self.loop.now += timeout
        self.turns += 1
        if self.loop.now > PATIENCE or self.turns > TURNS:
            self.loop.now, self.turns = 0.0, 0  # or the loop could not be closed
            raise AssertionError("this goes on for ever")
        return found


def played(scene: Coroutine[Any, Any, A]) -> A:
    """What a coroutine returns, on such a loop."""
    with asyncio.Runner(loop_factory=PlayedLoop) as runner:
        return runner.run(scene)


def now() -> float:
    return asyncio.get_running_loop().time()


def images(split: str) -> Images:
    return Images(pack=split, class_ids=None, digest=split)


def targets(splits: str) -> tuple[Target, ...]:
    return tuple(Target(split=split, images=images(split), view=VIEW) for split in splits.split())


def member(
    index: int = 1,
    *,
    D: int = 3,
    threads: int = 1,
    splits: str = "test",
    precision: Precision = "fp32",
    **more: Any,
) -> MemberTask:
    """A member of three epochs, wanted with the vectors of these splits."""
    recipe = Recipe(epochs=3, resize="squash:20", crop=16, mean=VIEW.mean, std=VIEW.std)
    spec = MemberSpec(
        train_digest="images", classes=6, backbone="conv4", weights="none", D=D, index=index, seed=0,
        recipe=recipe, precision=precision, threads=threads, deterministic=False,
    )  # fmt: skip
    return MemberTask(spec=spec, train=images("train"), targets=targets(splits), **more)


def bier(ranks: int = 2) -> MemberTask:
    """A model that so many processes train together."""
    spec = BierSpec(
        train_digest="images", classes=6, backbone="conv4", weights="none", seed=0,
        recipe=Recipe(epochs=1, resize="squash:20", crop=16), bier=BierSettings(sizes=(4, 8), labels=4),
        precision="fp32", threads=1, deterministic=False,
    )  # fmt: skip
    return MemberTask(spec=spec, train=images("train"), targets=targets("test"), ranks=ranks)


class Attempt:
    """A member's process: what it tells, saves and finishes as it plays a scene."""

    def __init__(
        self, fleet: PlayedFleet, task: MemberTask, ranked: bool, avoided: Sequence[str], node: str
    ) -> None:
        self.fleet, self.task, self.ranked, self.avoided = fleet, task, ranked, list(avoided)
        free = [node for node in fleet.alive if node not in {*avoided, *fleet.taken_away}]
        self.node = node or min(free, key=lambda node: sum(one.node == node for one in fleet.at_work()))
        self.gpu = ""
        "The GPU that it was told, such as a0: the first of node a."
        self.name, self.began, self.ended = "unnamed", now(), asyncio.Event()
        self.folder = fleet.store.model(task.key)

    @property
    def index(self) -> int:
        return self.task.spec.index

    async def tell(self, **progress: Any) -> bool:
        return await self.fleet.scheduler.report(self.task.key, self.name, progress)

    async def arrive(self) -> None:
        """What a process says first."""
        await self.tell(state="starting", node=f"host-{self.node}", node_id=self.node)

    async def step(self, step: int, *, takes: float = 1.0, last: bool = False) -> None:
        """A step ends; the last one before something else says so."""
        await asyncio.sleep(takes)
        place = {"epoch": 0, "epochs": 3, "step": step, "steps": 100, "loss": 1.0}
        await self.tell(**place, step_seconds=takes, stepping=not last)

    def save(self, epoch: int) -> None:
        self.folder.files.put(self.folder.checkpoint(self.name, epoch, "0" * 16), b"")

    def log(self, text: bytes) -> None:
        self.folder.files.put(self.fleet.store.run("run").log(self.task.key, self.name), text)

    def finish(self) -> None:
        """Commits the weights, if they are missing, and the vectors that are wanted."""
        self.log(b"finished")
        if missing(self.fleet.store, self.task)[0]:
            self.folder.commit(Done({}, {"attempt": self.name, "seconds": TRAINING}))
        for target in self.task.targets:
            self.folder.embedding(target.digest).commit(Done({}, {}))


class Holder:
    """A process that holds a GPU of a node, or waits for one."""

    def __init__(self, node: str, avoided: Sequence[str] = ()) -> None:
        self.node, self.gpu, self.ended, self.avoided = node, "", asyncio.Event(), avoided


Scene = Callable[[Attempt], Awaitable[None]]


async def well(attempt: Attempt) -> None:
    """A member that trains for its time and is done."""
    await attempt.arrive()
    await attempt.step(1, takes=0.0, last=True)
    await asyncio.sleep(TRAINING)
    attempt.finish()


async def hangs(attempt: Attempt) -> None:
    await attempt.arrive()
    await asyncio.Event().wait()


def fails(error: BaseException | None = None, *, after: float = TRAINING, saved: int = 0) -> Scene:
    """A member that raises after some time, by default what a killed process leaves, with an epoch saved before."""

    async def scene(attempt: Attempt) -> None:
        await attempt.arrive()
        await asyncio.sleep(after)
        if saved:
            attempt.save(saved)
        raise error or ActorDiedError()

    return scene


class PlayedFleet:
    """A scheduler, and the cluster that it asks: its `Processes`. Two nodes, a and b, of two CPUs each.

    The attempts of a member play the scenes that are given for its index, one after the other, and then end well.
    """

    def __init__(self, root: Path, parallel: int = 0, gpus: float = 0.0, **more: Any) -> None:
        self.store = Store(str(root))
        self.alive: dict[str, dict[str, float]] = {"a": {"CPU": 2.0}, "b": {"CPU": 2.0}}
        self.scenes: dict[int, list[Scene]] = defaultdict(list)
        self.hired: list[Attempt] = []
        self.attempts: list[Attempt] = []
        "Those of the hired that ran, in that order."
        self.prepared: list[tuple[int, str, float]] = []
        "Members whose processes were started before their turn: which, where and when."
        self.taken: set[str] = set()
        "Keys that another job on the cluster trains."
        self.taken_away: list[str] = []
        "Nodes that are about to go."
        self.holders: list[Holder] = []
        self.others: set[str] = set()
        "GPUs that other jobs on the cluster have."
        self.old: set[str] = set()
        "GPUs without bf16."
        self.sick: dict[str, str] = {}
        "What a look at a GPU finds, by its name."
        self.probed: list[tuple[str, float]] = []
        self.fell: list[Former] = []
        "What ran when the scheduler's process died, before it was started again."
        self.told_to_stop = False
        "Also before the scheduler's process died and was started again."
        self.silent_until = 0.0
        "The cluster does not say until then which nodes it has."
        settings = FleetSettings(self.store.root, "run", parallel, gpus, **more)
        self.scheduler = Scheduler(settings, self, now)

    def at_work(self) -> list[Attempt]:
        return [one for one in self.hired if not one.ended.is_set()]

    @property
    def started(self) -> list[int]:
        """The indices of the members that were started, in that order."""
        return [one.index for one in self.attempts]

    def nodes(self) -> dict[str, dict[str, float]]:
        if now() < self.silent_until:
            raise ConnectionError("no answer")
        return dict(self.alive)

    def free(self) -> dict[str, dict[str, float]]:
        taken = [*self.others, *(one.gpu for one in self.holders if not one.ended.is_set())]
        count = {node: sum(name.startswith(node) for name in taken) for node in self.alive}
        return {node: {**has, "GPU": has.get("GPU", 0) - count[node]} for node, has in self.alive.items()}

    def leaving(self) -> list[str]:
        return self.taken_away

    def former(self) -> list[Former]:
        return self.fell

    def remember_stop(self) -> None:
        self.told_to_stop = True

    def stopped(self) -> bool:
        return self.told_to_stop

    def hire(
        self, task: MemberTask, *, ranked: bool, avoided: Sequence[str], node: str = ""
    ) -> Attempt | None:
        if task.key in self.taken or any(one.task.key == task.key for one in self.at_work()):
            return None
        self.hired.append(Attempt(self, task, ranked, avoided, node))
        return self.hired[-1]

    def hold(self, node: str, members: int, avoided: Sequence[str] = ()) -> Holder:
        self.holders.append(Holder(node, avoided))
        return self.holders[-1]

    async def card(self, holder: Holder) -> Gpu:
        """Each node gives its GPUs in order; of more than it has the holder waits for ever."""
        while not holder.ended.is_set():
            ours = {one.gpu for one in self.holders if not one.ended.is_set()}
            nodes = [holder.node] if holder.node else [one for one in self.alive if one not in holder.avoided]
            names = [
                (node, f"{node}{number}") for node in nodes for number in range(int(self.alive[node]["GPU"]))
            ]
            free = [(node, name) for node, name in names if name not in ours and name not in self.others]
            if free:
                node, holder.gpu = free[0]
                there = {name for on, name in names if on == node}
                how = {"bf16": holder.gpu not in self.old, "none_bf16": there <= self.old}
                trouble = self.sick.get(holder.gpu, "")
                return Gpu(node, f"host-{node}", holder.gpu, "T1000", trouble, **how)
            await asyncio.sleep(1)
        raise ActorDiedError

    async def ended(self, holder: Holder) -> None:
        await holder.ended.wait()

    async def probe(self, gpu: Gpu, *, alone: bool) -> str:
        self.probed.append((gpu.visible, now()))
        return self.sick.get(gpu.visible, "")

    def prepare(self, process: Attempt, task: MemberTask) -> None:
        self.prepared.append((process.index, process.node, now()))

    async def lives(self, process: Attempt) -> bool:
        return not process.ended.is_set()

    async def run(self, process: Attempt, task: MemberTask, attempt: str, gpu: Gpu | None = None) -> None:
        assert task is process.task
        process.name, process.began = attempt, now()
        self.attempts.append(process)
        if gpu is not None:
            process.gpu = gpu.visible
            assert gpu.node == process.node
            assert gpu.visible in {one.gpu for one in self.holders if not one.ended.is_set()}
        scenes = self.scenes[process.index]
        scene = asyncio.ensure_future((scenes.pop(0) if scenes else well)(process))
        killed = asyncio.ensure_future(process.ended.wait())
        await asyncio.wait({scene, killed}, return_when=asyncio.FIRST_COMPLETED)
        if not scene.done():
            scene.cancel()
            raise ActorDiedError
        killed.cancel()
        scene.result()

    def kill(self, process: Attempt | Holder) -> None:
        process.ended.set()

    async def ensure(self, *tasks: MemberTask, asker: str = "", rank: int = 0) -> list[Outcome]:
        return await self.scheduler.ensure(list(tasks), asker, rank)

    def train(self, *tasks: MemberTask) -> list[str]:
        """How the members end, asked for together."""
        return [outcome.state for outcome in played(self.ensure(*tasks))]

    def said(self, kind: str = "message") -> list[Any]:
        """Level and text of the messages so far; of another kind of event all of it."""
        found: list[Event] = [item for item in self.scheduler.news.events if item["event"] == kind]
        return [f"{item['level']}: {item['text']}" for item in found] if kind == "message" else found

    def states(self, index: int) -> list[str]:
        """What was told of a member, one after the other."""
        return [item["state"] for item in self.said("member") if item["index"] == index]
