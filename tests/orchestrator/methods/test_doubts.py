"""What a run says of training that has not got far: from its members' histories, with what to try."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from muster.orchestrator.methods.loading import load
from tests.orchestrator.bare import BareMuster, bare_muster

__all__ = ["bare_muster"]


def doubts(*accuracies: Sequence[float], method: str = "dreml", loss: float = 1.0) -> list[str]:
    """Of members whose accuracies were these, epoch by epoch."""
    own: dict[str, Any] = (
        {"baseline.loss": "triplet"} if method == "baseline" else {"ensemble.D": 12, "recipe.epochs": 6}
    )
    request = load(
        None, {"method": method, "data.dataset": "glyphs", "ensemble.backbone": "conv4", **own}, []
    )
    rows = [
        [{"epoch": epoch, "loss": loss, "accuracy": share} for epoch, share in enumerate(shares, 1)]
        for shares in accuracies
    ]
    return request.settings.doubts(request.ensemble, rows)


def test_members_near_guessing_are_told_with_the_loss_beside_that_of_guessing() -> None:
    (told,) = doubts([0.09, 0.1, 0.12], [0.08, 0.1, 0.2], loss=2.4)
    assert told.startswith("Training has not got far: at the end members tell 16 % of the training images'")
    assert f"(guessing: 8 %), at a loss of 2.40 where guessing has ln D = {math.log(12):.2f}" in told
    assert (
        "Train longer (--epochs 12), at a higher rate (--set lr=0.09), or from pretrained --weights." in told
    )


def test_members_that_still_learn_in_their_last_epoch_are_told() -> None:
    (told,) = doubts([0.4, 0.6, 0.7], [0.4, 0.5, 0.62])
    assert told.startswith("Members were still learning: 11 points more in the last epoch")
    assert told.endswith("Train longer (--epochs 12).")


@pytest.mark.parametrize(
    "shares",
    [[0.4, 0.8, 0.82], [0.5, 0.9, 0.97], [0.7]],
    ids=["no longer rising", "nearly all", "a single epoch"],
)
def test_what_is_learnt_is_not_doubted(shares: list[float]) -> None:
    assert doubts(shares) == []


def test_without_a_history_and_without_accuracies_nothing_is_said() -> None:
    assert doubts() == []
    assert doubts([0.1, 0.1], method="baseline") == []


def test_a_launch_says_it_in_its_answer_its_report_and_its_scores(
    bare_muster: BareMuster, image_folder: Path, tmp_path: Path
) -> None:
    where = ["--data-root", str(image_folder), "--storage", str(tmp_path / "store"), "--name", "one"]
    small = [
        "--D",
        "4",
        "--L",
        "2",
        "--epochs",
        "1",
        "--backbone",
        "conv4",
        "--image-size",
        "16",
        "--set",
        "lr=1e-6",
    ]
    words = ["launch", "dreml", "--dataset", "folder", *where, *small, "--json"]
    for _ in range(2):  # trained, and from the store
        warnings = bare_muster(*words).document["warnings"]
        assert any(text.startswith("Training has not got far: ") for text in warnings)
    assert "Training has not got far: " in (tmp_path / "store/runs/one/report.html").read_text()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"recipe.epochs": 4}, "divides the rate every 4 of 12 epochs; brought to 4, that is every 1."),
        ({"recipe.epochs": 24}, "brought to 24, that is every 8."),
        ({"recipe.epochs": 12}, ""),
        ({"recipe.epochs": 24, "recipe.step_epochs": 5}, ""),
        ({"recipe.epochs": 4, "preset": "code"}, ""),
        ({"recipe.epochs": 4, "preset": "glyphs"}, ""),
    ],
)
def test_a_schedule_that_was_brought_to_the_epochs_is_told(given: dict[str, Any], told: str) -> None:
    flags = {"data.dataset": "glyphs", "ensemble.backbone": "conv4", "preset": "paper", **given}
    request = load(None, flags, [])
    assert request.settings.fitted(request.preset).endswith(told)
    assert bool(request.settings.fitted(request.preset)) == bool(told)


def test_the_plan_and_the_report_say_so(bare_muster: BareMuster, image_folder: Path, tmp_path: Path) -> None:
    where = ["--data-root", str(image_folder), "--storage", str(tmp_path / "store"), "--name", "one"]
    small = ["--D", "2", "--L", "1", "--epochs", "2", "--backbone", "conv4", "--image-size", "16"]
    words = ["launch", "dreml", "--dataset", "folder", "--preset", "paper", *where, *small, "--json"]
    told = "The preset paper divides the rate every 4 of 12 epochs; brought to 2, that is every 1."
    assert {"what": "warning", "value": told} in bare_muster(*words, "--dry-run").document["rows"]
    bare_muster(*words)
    assert told in (tmp_path / "store/runs/one/report.html").read_text()
