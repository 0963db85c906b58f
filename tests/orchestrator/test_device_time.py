"""Device-hours are those of the devices, not of the clock: a share of one counts as a share, four ranks as four."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.orchestrator.ensemble.plan import Plan
from muster.orchestrator.fleet.device_time import device_time, taken
from muster.orchestrator.jobs.search.plan import SearchCost
from muster.orchestrator.settings.resources import Resources
from muster.workers.store.layout import Store
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
    task = task_for(Store(str(tmp_path)), image_folder)
    plan = Plan((task,), (task.key,), (), 7200, "measured", devices=0.25)
    assert plan.device_seconds == 1800
    assert "about 0.5 device-hours, measured" in plan.sentence()
    cost = SearchCost(2, 16, 10, 0, 16, 36, "measured", devices=0.5)
    assert cost.device_seconds == 180
    assert "about 3.0 device-minutes, measured" in cost.sentence()
    assert device_time(360) == "0.1 device-hours"
