"""What `doctor` says of this machine's GPUs; their driver's answers are played."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from muster.orchestrator.client.doctor import examine
from tests.workers.gpus import played


def told(
    monkeypatch: pytest.MonkeyPatch, where: Path, *gpus: dict[str, Any], kernels: str
) -> dict[str, tuple[str, str]]:
    """State and text of each finding on a GPU, where torch has kernels for these alone."""
    monkeypatch.setitem(sys.modules, "pynvml", played.PlayedNvml(*gpus))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_arch_list", kernels.split)
    monkeypatch.setenv("MUSTER_STATE_DIR", str(where / "state"))
    found = list(examine(str(where / "store"), None))
    return {one.check: (one.state, one.detail) for one in found if one.check.startswith("gpu")}


def test_each_gpu_is_told_of_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpus = (played.H100, played.T4, played.V100, played.FAULTY, played.LOST)
    found = told(monkeypatch, tmp_path, *gpus, kernels="sm_75 sm_80 sm_90")
    assert [state for state, _ in found.values()] == ["ok", "ok", "failed", "failed", "failed"]
    assert "NVIDIA H100 80GB HBM3, 85.5 GB, 629.1 MB used, bf16, GPU-" in found["gpu 0"][1]
    assert "no bf16: trains in fp32" in found["gpu 1"][1]
    assert "an older CUDA" in found["gpu 2"][1]
    assert "3 uncorrected ECC errors. Look at `nvidia-smi -q`" in found["gpu 3"][1]
    assert "GPU is lost" in found["gpu 4"][1]


def test_a_divided_gpu_is_told_of_with_its_slices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = told(monkeypatch, tmp_path, played.SHOWN, kernels="sm_80")
    state, text = found["gpu 0"]
    assert state == "warning"
    assert "CUDA_VISIBLE_DEVICES=MIG-0000aaaa,MIG-2222cccc and --num-gpus 2" in text
    assert found["gpu 0, MIG-2222cccc"][1].startswith(
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb, 5.1 GB, 12.6 MB used"
    )


def test_the_one_slice_of_a_container_is_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one = {**played.SHOWN, "slices": {2: played.SLICES[2]}}
    assert [state for state, _ in told(monkeypatch, tmp_path, one, kernels="sm_80").values()] == ["ok", "ok"]
