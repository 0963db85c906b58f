"""What results say of the code and the machine that made them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from muster.workers import provenance


def test_the_versions_here_are_those_that_run() -> None:
    found = provenance.here()
    versions = found["versions"]
    assert found["node"]
    assert found["cpu"]
    assert versions["torch"] == torch.__version__.partition("+")[0]
    assert versions.get("cuda") == torch.version.cuda
    assert {"muster", "python", "pyarrow", "numpy", "torchvision"} <= set(versions)


def test_gpus_and_their_driver_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_DRIVER", tmp_path)
    assert {"driver", "gpus"}.isdisjoint(provenance.here()["versions"])
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5\n"
    )
    for number in (0, 1):
        folder = tmp_path / f"gpus/0000:0{number}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 16\n")
    versions = provenance.here()["versions"]
    assert versions["driver"] == "550.54.15"
    assert versions["gpus"] == "NVIDIA H100 80GB HBM3, NVIDIA H100 80GB HBM3"


def test_the_commit_is_found_or_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(provenance.COMMIT, "abc")
    assert provenance.versions()["commit"] == "abc"
