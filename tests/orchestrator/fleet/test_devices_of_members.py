"""The device that a member gets: the GPU that the fleet named, its part of the memory, and never a CPU in its place.
What torch says of a GPU is played."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from muster.orchestrator.fleet.actors.member import CONTEXT_BYTES, device_of
from muster.orchestrator.fleet.places.gpus import Gpu
from muster.workers.errors import DeviceError

GPU = Gpu("node", "host", "GPU-1234", "NVIDIA H100 80GB HBM3")


@pytest.fixture
def fractions(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What torch is told to take of a GPU with 80 GiB."""
    told: list[float] = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-1234")
    facts = SimpleNamespace(total_memory=80 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: facts)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", told.append)
    return told


def test_without_a_gpu_it_computes_on_the_cpu() -> None:
    assert device_of(None, 1.0) == torch.device("cpu")


@pytest.mark.parametrize(
    ("share", "told"),
    [(1.0, []), (0.5, [0.5 - CONTEXT_BYTES / (80 << 30)]), (0.01, [0.005])],
)
def test_it_sees_its_gpu_and_takes_its_share(fractions: list[float], share: float, told: Any) -> None:
    assert device_of(GPU, share) == torch.device("cuda", 0)  # some of torch wants a number
    assert fractions == told


def test_a_gpu_that_torch_cannot_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"GPU GPU-1234 \(NVIDIA H100 80GB HBM3\) of node host"):
        device_of(GPU, 1.0)


def test_how_torch_takes_memory_is_said_before_it_is_imported() -> None:
    """It may be read but once."""
    code = """
import sys
from muster.orchestrator.fleet.actors.member import settle_allocator
import muster.orchestrator.fleet.actors.gpus, muster.workers.task
assert "torch" not in sys.modules
settle_allocator()
import os
print(os.environ["PYTORCH_CUDA_ALLOC_CONF"])
"""
    env = {name: value for name, value in os.environ.items() if name != "PYTORCH_CUDA_ALLOC_CONF"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("expandable_segments:True\n", 0), done.stderr
