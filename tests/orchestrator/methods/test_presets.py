"""Which preset a request takes by itself, and what the one for random weights is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from muster.orchestrator.methods.loading import load
from muster.workers.methods.dreml.schedule import learning_rate

OWN = {"dreml": {"ensemble.D": 2}, "baseline": {"baseline.loss": "triplet"}, "distill": {"teacher": "other"}}


@pytest.mark.parametrize("method", OWN)
@pytest.mark.parametrize(
    ("dataset", "weights", "preset"),
    [
        ("folder", None, "scratch"),
        ("folder", "none", "scratch"),
        ("folder", "imagenet", "paper"),
        ("table", None, "scratch"),
        ("cub200", None, "paper"),
        ("sop", "imagenet", "paper"),
        ("glyphs", None, "glyphs"),
    ],
)
def test_own_data_from_random_weights_take_the_preset_for_that(
    image_folder: Path, method: str, dataset: str, weights: str | None, preset: str
) -> None:
    flags: dict[str, Any] = {
        "data.dataset": dataset,
        "data.root": str(image_folder),
        "ensemble.weights": weights,
    }
    if dataset == "table":
        (image_folder / "items.csv").write_text("path,label\n")
        flags["data.table"] = str(image_folder / "items.csv")
    if dataset == "glyphs":
        del flags["data.root"]
    request = load(None, {"method": method, **OWN[method], **flags}, [])
    assert request.preset == preset
    named = load(None, {"method": method, **OWN[method], **flags, "preset": "code"}, [])
    assert named.preset == "code"


@pytest.mark.parametrize("epochs", [2, 24, 60])
def test_its_schedule_is_a_share_of_the_run(image_folder: Path, epochs: int) -> None:
    flags = {
        "data.dataset": "folder",
        "data.root": str(image_folder),
        "ensemble.D": 2,
        "recipe.epochs": epochs,
    }
    recipe: Any = load(None, {"method": "dreml", **flags}, []).recipe
    rates = [learning_rate(recipe, epoch, step, 10) for epoch in range(epochs) for step in range(10)]
    highest = max(range(len(rates)), key=rates.__getitem__)
    assert highest / len(rates) == pytest.approx(recipe.warmup, abs=0.05)
    assert rates[-1] < rates[0] < rates[highest] == pytest.approx(recipe.lr, rel=0.05)


@pytest.mark.parametrize(("side", "pad"), [(32, 1), (64, 2), (256, 8)])
def test_its_border_keeps_its_ratio_to_the_picture(image_folder: Path, side: int, pad: int) -> None:
    flags: dict[str, Any] = {"data.dataset": "folder", "data.root": str(image_folder), "image_size": side}
    request = load(None, {"method": "dreml", "ensemble.D": 2, **flags}, [])
    assert (request.recipe.crop, request.recipe.pad) == (side, pad)
