"""What a plan says training takes: out of the newest records of models alike, on the devices that it would have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from muster.orchestrator.ensemble.cost import Cost, Expected, Group, cost_of
from muster.orchestrator.jobs.search.plan import SearchCost
from muster.orchestrator.records.measured import Place, newest_keys
from muster.workers.errors import StoreError
from muster.workers.forms import form
from muster.workers.store.files import Files
from muster.workers.store.layout import Store
from muster.workers.store.records import Done, to_json
from muster.workers.task import MemberTask
from tests.conftest import write_classes
from tests.workers.members import task_for

CPU = "cpu (x86_64)"
IMAGES, EPOCHS = 24, 3


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> MemberTask:
    """What is planned; its images are packed elsewhere, as nothing of them is read."""
    root = tmp_path_factory.mktemp("planned")
    return task_for(Store(str(root / "store")), write_classes(root / "images"))


def with_recipe(task: MemberTask, **changes: Any) -> MemberTask:
    return replace(task, spec=replace(task.spec, recipe=replace(task.spec.recipe, **changes)))


def took(
    store: Store, task: MemberTask, index: int, seconds: float, device: str = CPU, **facts: Any
) -> MemberTask:
    """A finished member of the task's kind, whose log says that it began at so many seconds past noon."""
    began = facts.pop("began", index)
    other = replace(task, spec=replace(task.spec, index=index))
    store.files.put(store.model(other.key) / "spec.json", to_json(form(other.spec)))
    known = {"seconds": seconds, "images": IMAGES, "epochs": other.spec.epochs, "device": device}
    store.model(other.key).commit(Done({}, {**known, **facts}))
    store.files.put(store.run("before").log(other.key, f"20260101T12{began:04d}-aaaaaa"), b"")
    return other


def cost(
    store: Store, *tasks: MemberTask, place: Place | None = None, devices: float = 1.0, embedded: int = 0
) -> Cost:
    group = Group(tasks, devices, IMAGES, embedded)
    return cost_of([group], {task.key for task in tasks}, store, place)


def test_the_range_and_the_middle_are_those_of_the_like(store: Store, task: MemberTask) -> None:
    for index, seconds in ((10, 60.0), (11, 90.0), (12, 240.0)):
        took(store, task, index, seconds)
    plan = cost(store, task)
    assert plan.device_time == Expected(90, 60, 240)
    expected = "2 members: 0 in the store, 1 to train, about 1.0 to 4.0 device-minutes, measured on 3 like members on "
    assert plan.sentence("2 members", "it") == f"{expected}{CPU}."
    assert plan.numbers["device_seconds_range"] == [60, 240]


@pytest.mark.parametrize("changes", [{"batch_size": 4}, {"crop": 12}, {"rotate": 15.0}])
def test_what_has_another_pace_tells_nothing(store: Store, task: MemberTask, changes: dict[str, Any]) -> None:
    took(store, with_recipe(task, **changes), 10, 1000.0)
    assert cost(store, task).device_seconds is None
    took(store, with_recipe(task, lr=0.5, epochs=6), 11, 60.0)
    assert cost(store, task).device_seconds == 30  # half as many epochs, and a rate takes no time


def test_other_ranks_and_other_devices_tell_nothing(store: Store, task: MemberTask) -> None:
    took(store, task, 10, 1000.0, ranks=4)
    took(store, task, 11, 7.0, device="NVIDIA H100 80GB HBM3")
    took(store, task, 12, 50.0)
    assert cost(store, task).device_seconds == 50  # the newest one's device
    assert cost(store, task, place=Place("cpu", 2)).device_seconds == 50
    assert cost(store, task, place=Place("gpu", 2)).device_seconds == 7
    assert cost(store, task, place=Place("gpu", 2, ("H100",))).device_seconds == 7
    assert cost(store, task, place=Place("gpu", 2, ("A100-80G",))).device_seconds is None


def test_starts_checkpoints_and_embedding_count(store: Store, task: MemberTask) -> None:
    other = took(store, task, 10, 60.0, overhead_seconds=9.0)
    store.model(other.key).embedding("x").commit(Done({}, {"images_per_s": 10.0}))
    assert cost(store, task, embedded=50).device_seconds == 60 + 9 + 5


def test_only_the_newest_count(store: Store, task: MemberTask) -> None:
    for index in range(10, 30):
        took(store, task, index, 1000.0 if index < 18 else 60.0)
    assert cost(store, task).device_time == Expected(60, 60, 60)
    newest = took(store, task, 40, 70.0, began=9999)
    assert next(iter(newest_keys(store))) == newest.key


def test_those_of_the_same_images_before_others(store: Store, task: MemberTask) -> None:
    took(store, replace(task, spec=replace(task.spec, train_digest="f" * 64)), 20, 500.0)
    assert cost(store, task).device_seconds == 500
    took(store, task, 10, 40.0)
    assert cost(store, task).device_seconds == 40


def test_the_clock_runs_once_for_members_side_by_side(store: Store, task: MemberTask) -> None:
    took(store, task, 10, 60.0)
    tasks = [replace(task, spec=replace(task.spec, index=index)) for index in (1, 2, 3)]
    plan = cost(store, *tasks, place=Place("cpu", 2), devices=0.5)
    assert (plan.seconds, plan.clock_seconds, plan.device_seconds) == (Expected(180, 180, 180), 120, 90)
    assert (
        "about 1.5 device-minutes, 2:00 on the clock with 2 at once, measured on 1 like member"
        in plan.text("it")
    )


def test_a_search_plans_a_share_of_its_grid() -> None:
    grid = Cost(16, 16, Expected(576, 480, 640), Expected(288, 240, 320), "measured", slots=4)
    sought = SearchCost(2, grid, by_schedule=10)
    assert sought.expected.device_seconds == 180
    assert "about 2.5 to 3.3 device-minutes, 1:48 on the clock with 4 at once, measured" in sought.sentence()


def test_ensembles_that_share_a_member_pay_for_it_once(store: Store, task: MemberTask) -> None:
    other = took(store, task, 2, 7200.0)
    groups = [Group((task, other), 0.25, IMAGES, 0), Group((task,), 0.5, IMAGES, 0)]
    plan = cost_of(groups, {task.key}, store)
    assert (plan.members, plan.in_store, plan.to_train) == (2, 1, 1)
    assert (plan.seconds, plan.device_seconds) == (Expected(7200, 7200, 7200), 1800)


def test_records_that_make_no_sense_are_passed_over(store: Store, task: MemberTask) -> None:
    for index, facts in enumerate(
        ({"images": 0}, {"epochs": "x"}, {"device": ""}, {"overhead_seconds": "nan"}), 10
    ):
        took(store, task, index, 5.0, **facts)
    store.files.put(store.model("f" * 32) / "DONE.json", b"[]")
    assert cost(store, task).device_seconds is None
    took(store, task, 30, 60.0)
    assert cost(store, task).device_seconds == 60


def test_a_run_that_cant_be_read_hides_no_other(
    store: Store, task: MemberTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    took(store, task, 10, 60.0)
    store.run("closed").write("run.json", {})
    names = Files.names

    def closed(files: Files, folder: str) -> list[str]:
        if folder == "runs/closed/logs":
            raise StoreError("Can't list it: Permission denied.")
        return names(files, folder)

    monkeypatch.setattr(Files, "names", closed)
    assert cost(store, task).device_seconds == 60
