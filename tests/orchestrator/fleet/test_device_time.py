"""Device-hours are those of the devices, not of the clock: a share of one counts as a share, four ranks as four."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from muster.orchestrator.ensemble.cost import Cost, cost_of
from muster.orchestrator.fleet.device_time import device_time, taken
from muster.orchestrator.jobs.search.plan import SearchCost
from muster.orchestrator.settings.resources import Resources
from muster.workers.store.layout import Done, Store
from tests.workers.members import task_for


@pytest.mark.parametrize(
    ("resources", "devices"),
    [
        (Resources(), 1.0),
        (Resources(gpus_per_member=0), 1.0),  # on the CPU
        (Resources(gpus_per_member=0.25), 0.25),
        (Resources(gpus_per_member=2), 2.0),
        (Resources(ranks=4), 4.0),
    ],
)
def test_devices_that_a_model_takes(resources: Resources, devices: float) -> None:
    assert resources.devices == devices


def test_time_taken_is_that_of_the_ranks_that_trained() -> None:
    assert taken({"seconds": 100.0, "ranks": 2}, Resources()) == 200
    assert taken({"seconds": 100.0, "ranks": 1}, Resources(gpus_per_member=0.5)) == 50


def test_plans_tell_device_time(tmp_path: Path, image_folder: Path) -> None:
    store = Store(str(tmp_path))
    task = task_for(store, image_folder)
    other = replace(task, spec=replace(task.spec, index=2))
    store.model(other.key).commit(Done({}, {"seconds": 7200, "device": "cpu"}))
    plan = cost_of([((task, other), 0.25), ((task,), 0.5)], {task.key}, store)
    assert (plan.members, plan.in_store, plan.to_train) == (2, 1, 1)  # the second ensemble's is the first's
    assert (plan.seconds, plan.device_seconds) == (7200, 1800)
    expected = (
        "2 members: 1 in the store, 1 to train, about 0.5 device-hours, measured on 1 of its members on cpu."
    )
    assert plan.sentence("2 members", "it") == expected
    cost = SearchCost(2, Cost(16, 16, 576, 288, "measured"), by_schedule=10)
    assert cost.device_seconds == 180
    assert "about 3.0 device-minutes, measured" in cost.sentence()
    assert device_time(360) == "0.1 device-hours"
