"""What the driver tells of GPUs; its answers are played (see played.py)."""

from __future__ import annotations

import pytest

from muster.workers.gpus.kernels import unsupported
from muster.workers.gpus.nvml import cards, find
from muster.workers.gpus.probe import fault
from tests.workers.gpus import played
from tests.workers.gpus.played import PlayedNvml

CU130 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


def test_each_gpu_is_told_of() -> None:
    nvml = PlayedNvml(played.H100, played.T4)
    first, second = cards(nvml)
    assert (first.index, first.name, first.capability) == (0, "NVIDIA H100 80GB HBM3", (9, 0))
    assert (first.memory, first.used, first.driver) == (int(79.6 * played.GIB), 600 << 20, "580.95.05")
    assert first.uuid.startswith("GPU-")
    assert (second.index, second.name) == (1, "Tesla T4")
    assert nvml.open == 0


@pytest.mark.parametrize(
    ("gpu", "bf16"),
    [
        (played.H100, True), (played.A100, True), (played.RTX_6000_ADA, True), (played.SLICED, True),
        (played.V100, False), (played.T4, False), (played.RTX_2080_TI, False),
    ],
)  # fmt: skip
def test_bf16_is_a_matter_of_the_compute_capability(gpu: dict[str, object], bf16: bool) -> None:
    (card,) = cards(PlayedNvml(gpu))
    assert card.bf16 is bf16
    assert card.trouble == ""


def test_what_is_wrong_with_a_gpu_is_told_and_hides_no_other() -> None:
    sound, faulty, lost = cards(PlayedNvml(played.H100, played.FAULTY, played.LOST))
    assert sound.trouble == ""
    assert (faulty.errors, faulty.trouble) == (3, "3 uncorrected ECC errors")
    assert lost.trouble == "its driver says: GPU is lost"
    assert (lost.index, lost.capability) == (2, (0, 0))


def test_a_divided_gpu_is_known() -> None:
    assert [card.mig for card in cards(PlayedNvml(played.SLICED, played.A100, played.RTX_2080_TI))] == [
        True, False, False,
    ]  # fmt: skip


def test_the_slices_of_a_divided_gpu_are_known() -> None:
    (card,) = cards(PlayedNvml(played.SHOWN))
    assert [part.uuid for part in card.parts] == ["MIG-0000aaaa", "MIG-2222cccc"]
    large, small = card.slices
    assert (small.name, small.memory) == ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", int(4.75 * played.GIB))
    assert (large.capability, large.bf16, large.mig, large.index) == ((8, 0), True, False, 0)
    assert find("MIG-2222cccc", (card,)) is small
    assert find("0", (card,)) is card
    (whole,) = cards(PlayedNvml(played.H100))
    assert whole.parts == (whole,)


def test_without_a_driver_there_are_none() -> None:
    assert cards(PlayedNvml()) == ()
    assert cards() == () or cards()[0].driver  # of this machine itself


def test_a_gpu_is_found_by_number_and_by_uuid() -> None:
    found = cards(PlayedNvml(played.H100, played.T4))
    assert find("1", found) is found[1]
    assert find(found[0].uuid, found) is found[0]
    assert find(found[1].uuid[:10], found) is found[1]
    assert find("7", found) is None
    assert find("GPU-ffffffff", found) is None
    assert find("", found) is None


@pytest.mark.parametrize(
    ("capability", "runs"),
    [
        ((9, 0), True),
        ((8, 9), True),
        ((7, 5), True),
        ((12, 1), True),
        ((13, 0), True),
        ((7, 0), False),
        ((6, 0), False),
    ],
)
def test_kernels_for_a_gpu(capability: tuple[int, int], runs: bool) -> None:
    text = unsupported(capability, CU130)
    assert (text == "") is runs
    if not runs:
        assert f"compute capability {capability[0]}.{capability[1]}" in text
        assert "an older CUDA" in text


def test_newer_binaries_do_not_run_on_older_gpus() -> None:
    assert unsupported((8, 0), ["sm_86", "sm_90a"])
    assert not unsupported((9, 0), ["sm_86", "sm_90a"])


def test_a_probe_computes() -> None:
    assert fault("cpu", seconds=0.05, side=256) == ""


def test_a_probe_sees_a_device_that_computes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    right = torch.Tensor.__matmul__

    def wrong(left: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        found = right(left, other)
        found[3, 5] += 1
        return found

    monkeypatch.setattr(torch.Tensor, "__matmul__", wrong)
    assert "computes wrong" in fault("cpu", seconds=0.05, side=64)


def test_a_probe_passes_on_what_the_driver_says(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def fails(left: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("CUDA error: unspecified launch failure\nmore")

    monkeypatch.setattr(torch.Tensor, "__matmul__", fails)
    assert fault("cpu", seconds=0.05, side=64) == "CUDA error: unspecified launch failure"


def test_a_divided_gpu_whose_memory_needs_privileges_is_known_as_one() -> None:
    """NVML tells the memory of a divided GPU to those alone who may see all of its slices."""
    (card,) = cards(PlayedNvml({**played.H100, "mig": 1, "hidden": True}))
    assert (card.mig, card.bf16, card.trouble, card.memory) == (True, True, "", 0)


def test_of_a_gpu_that_tells_nothing_nobody_says_that_it_lacks_bf16() -> None:
    (card,) = cards(PlayedNvml(played.LOST))
    assert card.bf16
