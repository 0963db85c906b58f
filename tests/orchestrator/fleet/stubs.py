"""A fleet without Ray and without waiting: members that play a script, nodes that a test writes down, and a loop
whose time passes at once.

Stores are real ones. A member costs a test some small files.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from muster.orchestrator.fleet.budget import Budget
from muster.orchestrator.fleet.scheduler import FleetSettings, Scheduler
from muster.orchestrator.fleet.work import Outcome
from muster.orchestrator.records.events import Event
from muster.workers.methods.bier.settings import BierSettings, BierSpec
from muster.workers.methods.dreml.settings import MemberSpec, Recipe
from muster.workers.spec import TestView
from muster.workers.store.layout import Done, Store
from muster.workers.task import Images, MemberTask, Target, missing

A = TypeVar("A")
VIEW = TestView(resize="squash:20", crop=16, mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.3))
#: Whoever waits for so long in a test waits for ever.
PATIENCE = 100_000.0


class PlayedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still while anything is to do, and then jumps to what is awaited next.

    What would be done in a thread is done in the loop's next turn, so that a test is the same each time.
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
        self.loop = loop

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found:
            assert timeout is not None, "everybody waits, and nothing will come"
            self.loop.now += timeout
            assert self.loop.now < PATIENCE, "it waits for ever"
        return found


def played(scene: Coroutine[Any, Any, A]) -> A:
    """What a coroutine returns, on such a loop."""
    with asyncio.Runner(loop_factory=PlayedLoop) as runner:
        return runner.run(scene)


def now() -> float:
    return asyncio.get_running_loop().time()


def member(index: int = 1, *, D: int = 3, threads: int = 1, splits: str = "test", **changes: Any) -> MemberTask:
    """A member of three epochs that is wanted with the vectors of these splits."""
    recipe = Recipe(epochs=3, resize="squash:20", crop=16, mean=VIEW.mean, std=VIEW.std)
    spec = MemberSpec(
        train_digest="images", classes=6, backbone="conv4", weights="none", D=D, index=index, seed=0,
        recipe=recipe, precision="fp32", threads=threads, deterministic=False,
    )  # fmt: skip
    return MemberTask(spec=spec, train=images("train"), targets=targets(splits), **changes)


def ranked(ranks: int) -> MemberTask:
    """A BIER model that so many processes train."""
    settings = BierSettings(steps=10, learners=(4, 8), P=4, K=2)
    spec = BierSpec(
        train_digest="images", classes=6, backbone="conv4", weights="none", seed=0, recipe=settings,
        precision="fp32", threads=1, deterministic=False,
    )  # fmt: skip
    return MemberTask(spec=spec, train=images("train"), targets=targets("test"), ranks=ranks)


def images(split: str) -> Images:
    return Images(pack=split, class_ids=None, digest=split)


def targets(splits: str) -> tuple[Target, ...]:
    return tuple(Target(split=split, images=images(split), view=VIEW) for split in splits.split())
