"""How sure the scores of a launch are: in its answer, its table, its report, and again from the store alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from muster.workers.score.interval import over_classes
from tests.orchestrator.bare import BareMuster, bare_muster

__all__ = ["bare_muster"]


@pytest.fixture
def words(image_folder: Path, tmp_path: Path) -> list[str]:
    where = ["--data-root", str(image_folder), "--storage", str(tmp_path / "store"), "--name", "one"]
    small = ["--D", "2", "--epochs", "1", "--backbone", "conv4", "--image-size", "16"]
    return ["launch", "dreml", "--dataset", "folder", *where, *small]


def test_a_score_has_an_interval_over_classes_and_a_gain_over_members(
    bare_muster: BareMuster, words: list[str], tmp_path: Path
) -> None:
    answer = bare_muster(*words, "--L", "4", "--json").document
    queries = pq.read_table(tmp_path / "store/runs/one/queries.parquet").to_pandas()
    whole = (
        (queries["rank_L4"] == 1).to_numpy()[None],
        queries["label"].astype("category").cat.codes.to_numpy(),
    )
    ((low, high),) = over_classes(whole[0], whole[1].astype(np.int64))
    assert answer["interval"]["rows"][-1] == {"L": 4, "low": low, "high": high}
    assert [row["L"] for row in answer["interval"]["rows"]] == [1, 2, 3, 4]
    gain = answer["gain"]
    assert gain["members"] == [1, 2, 3, 4]
    assert gain["alone"][0] == answer["curve"][0]["recall_at_1"]
    assert gain["mean"] == pytest.approx(answer["curve"][3]["recall_at_1"] - np.mean(gain["alone"]))
    assert gain["low"] <= gain["mean"] <= gain["high"]
    again = bare_muster("evaluate", "one", "--storage", str(tmp_path / "store"), "--json").document
    assert (again["interval"], again["gain"]) == (answer["interval"], gain)
    report = (tmp_path / "store/runs/one/report.html").read_text()
    edges = f"{100 * low:.1f} to {100 * high:.1f}"
    assert f"95 %: {edges}" in report
    assert "over a member alone, 95 %" in report
    shown = bare_muster(*words, "--L", "4").out
    assert edges in shown
    assert "Gain by the ensemble over a member alone: " in shown
    assert max(map(len, shown.splitlines()[:12])) <= 80


def test_two_members_tell_nothing_of_how_members_differ(bare_muster: BareMuster, words: list[str]) -> None:
    answer: dict[str, Any] = bare_muster(*words, "--L", "2", "--json").document
    assert "gain" not in answer
    assert len(answer["interval"]["rows"]) == 2
