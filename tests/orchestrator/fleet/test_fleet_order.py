"""Members start by their index, whichever way the store's answers come back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from muster.orchestrator.fleet.scheduler import Fleet, FleetSettings
from muster.orchestrator.fleet.work import Work
from muster.workers.store.layout import Store
from muster.workers.task import MemberTask
from tests.workers.members import task_for


class Watched(Fleet.__ray_metadata__.modified_class):  # type: ignore[attr-defined, misc]
    """The fleet without Ray: a store that answers for low indices last, and members that are done once started."""

    def __init__(self, store: str) -> None:
        super().__init__(FleetSettings(store, "order", 1, 0.0))
        self.started: list[int] = []

    async def _missing(self, task: MemberTask) -> tuple[bool, list[Any]]:
        await asyncio.sleep(0.05 * (5 - task.spec.index))
        return True, []

    async def _start(self, work: Work) -> None:
        self.started.append(work.task.spec.index)
        self._finish(work, "done")


async def ended(fleet: Any, tasks: list[MemberTask]) -> list[str]:
    outcomes = await fleet.ensure(tasks)
    fleet.loop.cancel()
    return [outcome.state for outcome in outcomes]


def test_a_member_waits_for_a_lower_one_that_is_still_looked_up(tmp_path: Path, image_folder: Path) -> None:
    store = str(tmp_path / "store")
    tasks = [task_for(Store(store), image_folder, index=index) for index in (1, 2, 3, 4)]
    fleet = Watched(store)
    assert asyncio.run(ended(fleet, tasks)) == ["done"] * 4
    assert fleet.started == [1, 2, 3, 4]


def test_a_look_up_that_fails_holds_nobody_up(tmp_path: Path, image_folder: Path) -> None:
    class Unreadable(Watched):
        async def _missing(self, task: MemberTask) -> tuple[bool, list[Any]]:
            found = await super()._missing(task)
            if task.spec.index == 1:
                raise OSError("the store can't be read")
            return found

    store = str(tmp_path / "store")
    tasks = [task_for(Store(store), image_folder, index=index) for index in (1, 2)]
    fleet = Unreadable(store)
    assert asyncio.run(asyncio.wait_for(ended(fleet, tasks), 4)) == ["failed", "done"]
    assert fleet.started == [2]
