"""timm's networks in every method: a convolutional network and a transformer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm

from muster.workers.provenance import versions
from tests.orchestrator.bare import BareMuster, bare_muster

__all__ = ["bare_muster"]

CONVOLUTIONAL, TRANSFORMER = "timm/test_efficientnet", "timm/test_vit"
METHODS = {
    "dreml": ["--D", "2", "--L", "1", "--epochs", "1"],
    "bier": ["--learners", "4,6", "--P", "4", "--K", "2", "--steps", "2"],
    "baseline": ["--loss", "triplet", "--P", "4", "--K", "2", "--epochs", "1"],
}


@pytest.fixture
def words(image_folder: Path, tmp_path: Path) -> list[str]:
    return [
        "--dataset",
        "folder",
        "--data-root",
        str(image_folder),
        "--storage",
        str(tmp_path / "store"),
        "--json",
    ]


def run_file(tmp_path: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "store/runs" / name).read_text())
    return found


@pytest.mark.parametrize("backbone", [CONVOLUTIONAL, TRANSFORMER])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_them(
    bare_muster: BareMuster, words: list[str], tmp_path: Path, method: str, backbone: str
) -> None:
    small = ["--image-size", "32", "--backbone", backbone, "--name", "one"]
    answer = bare_muster("launch", method, *words, *METHODS[method], *small).document
    assert answer["models"]["trained"] == 1
    again = bare_muster("launch", method, *words, *METHODS[method], *small).document
    assert again["models"]["reused"] == 1


def test_its_own_pictures_are_the_usual_ones_and_its_version_is_recorded(
    bare_muster: BareMuster, words: list[str], tmp_path: Path
) -> None:
    small = ["--D", "2", "--L", "1", "--epochs", "1", "--backbone", TRANSFORMER, "--name", "one"]
    answer = bare_muster("launch", "dreml", *words, *small).document
    kept = run_file(tmp_path, "one/run.json")
    for section in (kept["view"], kept["recipe"]):
        assert (section["crop"], section["mean"], section["std"]) == (160, [0.5] * 3, [0.5] * 3)
    assert versions()["timm"] == timm.__version__
    report = (tmp_path / "store/runs/one/report.html").read_text()
    assert timm.__version__ in report
    assert answer["models"]["trained"] == 1


def test_a_typo_is_told_before_anything_starts(bare_muster: BareMuster, words: list[str]) -> None:
    refused = bare_muster("launch", "dreml", *words, "--backbone", "timm/test_vitt", code=2)
    assert "timm has no network 'test_vitt'. Did you mean timm/test_vit" in refused.err
