"""Where a training's images are, and that it makes no difference to its weights. A GPU's memory is played."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from muster.workers.errors import UsageError
from muster.workers.packs.pack import Windows
from muster.workers.packs.resident import Resident, resident_bytes
from muster.workers.train import loop, source
from muster.workers.train.prefetch import Buffer
from muster.workers.train.source import SETTLED_STEPS, Source, room
from tests.workers.methods.test_bier_fit import spec_of as bier_spec
from tests.workers.samples import CPU, small_recipe, small_spec, synthetic_pack, trainer_of

PACK = synthetic_pack()
PART = PACK.index.part()
GPU = torch.device("cuda")
NEED = resident_bytes(PACK, PART.rows)
ASKED = Windows(PART.rows[:4], np.array([-2, 0, 3, 1]), np.array([0, 5, -1, 2]))
SPECS = {
    "dreml": small_spec(PART, small_recipe(rotate=8.0, class_cap=4)),
    "bier": bier_spec(),
}


@pytest.mark.parametrize("name", SPECS)
def test_the_weights_are_the_same_wherever_the_images_are(name: str) -> None:
    at_host = loop.train(trainer_of(SPECS[name], PACK)).model
    on_device = trainer_of(SPECS[name], PACK, input="device")
    assert on_device.source.resident is not None
    begun_on_host = trainer_of(SPECS[name], PACK)
    steps = 0

    def moves(step: int, batch: Any, before: Any = begun_on_host.step) -> Any:
        nonlocal steps
        steps += 1
        if steps == 3:
            begun_on_host.source._move_in()
        return before(step, batch)

    begun_on_host.step = moves  # type: ignore[method-assign]
    for trainer in (on_device, begun_on_host):
        found = loop.train(trainer).model
        assert all(torch.equal(found[key], at_host[key]) for key in at_host)
    assert begun_on_host.source.resident is not None


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A GPU's memory as torch and CUDA tell it, in bytes; what is put there lies in the host's."""
    has = SimpleNamespace(free=80 << 30, total=80 << 30, share=1.0, reserved=0, peak=0, full=False)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (has.free, has.total))
    # As torch does, this one wants to be told which of the devices is meant.
    monkeypatch.setattr(torch.cuda.memory, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch._C, "_cuda_getMemoryFraction", lambda index: has.share, raising=False)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: has.reserved)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: has.peak)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    def put(pack: Any, rows: Any, device: torch.device) -> Resident:
        if has.full:
            raise torch.OutOfMemoryError
        return Resident(pack, rows, CPU)

    monkeypatch.setattr(source, "Resident", put)
    return has


def source_of(asked: Any, told: list[str]) -> Source:
    return Source(PACK, PART.rows, GPU, asked, told.append)


def take_steps(found: Source) -> None:
    for _ in range(SETTLED_STEPS):
        assert found.resident is None
        found.stepped()


def test_left_to_itself_it_moves_in_once_it_is_known_what_training_takes(
    gpu: SimpleNamespace, told: list[str]
) -> None:
    found = source_of("auto", told)
    take_steps(found)
    assert found.resident is not None
    assert told == ["the images are on the device: 36.0 kB"]
    crops = found.images(ASKED, 16, Buffer(CPU))()
    assert (crops.numpy() == PACK.crops(*ASKED, 16)).all()


@pytest.mark.parametrize(
    "has", [{"free": 1 << 30}, {"reserved": 79 << 30}, {"share": 0.01}, {"peak": 320 << 30}, {"full": True}]
)
def test_where_they_do_not_fit_the_images_stay_on_the_host(
    gpu: SimpleNamespace, told: list[str], has: dict[str, Any]
) -> None:
    vars(gpu).update(has)
    found = source_of("auto", told)
    take_steps(found)
    for _ in range(5):
        found.stepped()
    assert found.resident is None
    (line,) = told
    assert line.startswith("the images stay on the host: 36.0 kB, and ")


def test_a_share_of_a_gpu_is_all_that_a_process_counts_with(gpu: SimpleNamespace) -> None:
    gpu.share, gpu.reserved, gpu.peak = 0.25, 6 << 30, 4 << 30
    assert room(GPU) == (20 - 6 - 1 - 1) << 30
    gpu.free = 5 << 30  # somebody else has the rest
    assert room(GPU) == (5 - 1 - 1) << 30
    gpu.free = 0
    assert room(GPU) == 0


def test_on_the_host_they_stay_if_that_is_asked_for(gpu: SimpleNamespace, told: list[str]) -> None:
    found = source_of("host", told)
    for _ in range(10):
        found.stepped()
    assert found.resident is None
    assert told == []


def test_on_the_device_they_are_from_the_first_step_or_it_is_refused(
    gpu: SimpleNamespace, told: list[str]
) -> None:
    assert source_of("device", told).resident is not None
    gpu.full = True  # for now: another attempt may find room
    with pytest.raises(torch.OutOfMemoryError):
        source_of("device", told)
    gpu.share = 30_000 / (80 << 30)
    with pytest.raises(
        UsageError, match=r"--input device: 36.0 kB of images do not fit into the 30.0 kB .*host"
    ):
        source_of("device", told)


def test_a_cpu_reads_them_where_they_are() -> None:
    found = Source(PACK, PART.rows, CPU, "auto", lambda line: None)
    for _ in range(10):
        found.stepped()
    assert found.resident is None
    assert NEED == 3 * (1 + 30 * 400)
