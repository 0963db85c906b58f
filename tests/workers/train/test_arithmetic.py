"""What a precision is on which device; the GPUs are played."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from muster.workers.errors import UsageError
from muster.workers.spec import Precision
from muster.workers.train.trainer import arithmetic, prepare_device
from tests.orchestrator.fleet.stubs import member

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def flags() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.fixture
def capability(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    found = [(9, 0)]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: found[0])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return found


@pytest.mark.parametrize(("precision", "on"), [("fp32", False), ("bf16", False), ("tf32", True)])
def test_tf32_is_for_training_alone(
    capability: list[tuple[int, int]], precision: Precision, on: bool
) -> None:
    spec = replace(member().spec, precision=precision)
    with arithmetic(spec, GPU):
        assert flags() == (on, on)
    assert flags() == (False, False)
    with pytest.raises(KeyError), arithmetic(spec, GPU):
        raise KeyError
    assert flags() == (False, False)


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_no_gpu_imitates_what_it_has_not(capability: list[tuple[int, int]], precision: Precision) -> None:
    capability[0] = (7, 5)
    spec = replace(member().spec, precision=precision)
    with (
        pytest.raises(UsageError, match=f"precision is {precision}, and Tesla T4 of .* has none"),
        arithmetic(spec, GPU),
    ):
        raise AssertionError
    with arithmetic(replace(spec, precision="fp32"), GPU):
        pass


def test_a_cpu_computes_bf16_and_no_tf32() -> None:
    with arithmetic(replace(member().spec, precision="bf16"), CPU):
        pass
    with pytest.raises(UsageError, match="precision is tf32, and a CPU"):
        arithmetic(replace(member().spec, precision="tf32"), CPU).__enter__()


@pytest.mark.parametrize("before", [True, False])
def test_kernels_are_as_the_spec_asks_whatever_was_asked_before(
    before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("benchmark", "deterministic"):
        monkeypatch.setattr(torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(before)
    try:
        for asked in (True, False):
            prepare_device(replace(member().spec, deterministic=asked), GPU)
            assert torch.are_deterministic_algorithms_enabled() == asked
            assert torch.backends.cudnn.deterministic == asked
            assert torch.backends.cudnn.benchmark != asked
            assert not torch.utils.deterministic.fill_uninitialized_memory
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = True


def test_each_precision_is_a_key_of_its_own() -> None:
    precisions: tuple[Precision, ...] = ("fp32", "tf32", "bf16")
    assert len({replace(member().spec, precision=one).key for one in precisions}) == 3
