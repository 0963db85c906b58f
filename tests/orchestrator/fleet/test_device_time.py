"""Device-hours are those of the devices, not of the clock: a share of one counts as a share, four ranks as four."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.orchestrator.fleet.budget import device_time, images_per_s, taken
from muster.orchestrator.settings.resources import Resources
from muster.workers.store.layout import Store
from muster.workers.store.records import Done
from tests.orchestrator.fleet.stubs import member


@pytest.mark.parametrize(
    ("resources", "devices"),
    [
        (Resources(), 1.0),
        (Resources(gpus_per_member=0), 1.0),  # on the CPU
        (Resources(gpus_per_member=0.25), 0.25),
        (Resources(ranks=4), 4.0),
    ],
)
def test_devices_that_a_model_takes(resources: Resources, devices: float) -> None:
    assert resources.devices == devices


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3.14, "3.1 device-seconds"),
        (59.9, "59.9 device-seconds"),
        (60, "1.0 device-minutes"),
        (90, "1.5 device-minutes"),
        (359, "6.0 device-minutes"),
        (360, "0.1 device-hours"),
        (4141, "1.2 device-hours"),
        (9000, "2.5 device-hours"),
    ],
)
def test_device_time_is_told_in_the_unit_that_shows_it(seconds: float, text: str) -> None:
    assert device_time(seconds) == text


def test_time_taken_is_that_of_ranks_starts_and_vectors(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    task, other, absent = member(1, splits="test train"), member(2), member(3)
    folder = store.model(task.key)
    folder.commit(Done({}, {"seconds": 100.0, "ranks": 2, "overhead_seconds": 10.0}))
    folder.embedding(task.targets[0].digest).commit(Done({}, {"seconds": 4.0}))
    assert taken(store, [task], Resources()) == 224
    assert taken(store, [task], Resources(gpus_per_member=0.5)) == 112
    store.model(other.key).commit(Done({}, {"seconds": 50.0}))  # as older stores have it
    store.model(other.key).embedding(other.targets[0].digest).commit(Done({}, {}))
    assert taken(store, [absent, task, other], Resources()) == 274


def test_speed_is_that_of_all_epochs() -> None:
    assert images_per_s({"images": 100, "epochs": 3, "seconds": 60.0}) == 5
    assert images_per_s({"images": 100, "epochs": 3, "seconds": 0.0}) == 3e11  # a clock that stood still
