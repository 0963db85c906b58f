"""Launches on tables of pictures: by path, from bytes, with splits and roles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.orchestrator.bare import BareMuster, bare_muster
from tests.orchestrator.cli.tables import csv_file, hub_rows, rows, with_features

__all__ = ["bare_muster", "rows"]

CLASSES = [f"class {number:02d}" for number in range(8)]


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A launch of one tiny member on a table."""
    where = ["--storage", str(tmp_path / "store"), "--json"]
    small = ["--D", "2", "--L", "1", "--epochs", "1", "--backbone", "conv4", "--image-size", "16"]
    return ["launch", "dreml", "--dataset", "table", *where, *small]


def run_file(tmp_path: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "store/runs" / name).read_text())
    return found


def gathered(tmp_path: Path, run: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = pq.read_table(tmp_path / f"store/runs/{run}/gathered/test").to_pydict()
    return found


def test_pictures_by_path_and_the_same_as_bytes_give_the_same_model(
    bare_muster: BareMuster, words: list[str], rows: list[dict[str, Any]], image_folder: Path, tmp_path: Path
) -> None:
    table = csv_file(tmp_path / "items.csv", rows)
    listed = ["--list", str(table), "--data-root", str(image_folder)]
    bare_muster(*words, *listed, "--name", "listed")
    (tmp_path / "hub").mkdir()
    held = with_features(hub_rows(image_folder, CLASSES))
    pq.write_table(held, tmp_path / "hub" / "data.parquet", row_group_size=5)
    answer = bare_muster(*words, "--data-root", str(tmp_path / "hub"), "--name", "held").document
    assert answer["models"] == {"asked": 1, "trained": 0, "reused": 1, "failed": 0}
    assert [
        row["recall_at_1"] for row in run_file(tmp_path, "listed/metrics.json")["splits"]["test"]["curve"]
    ] == [row["recall_at_1"] for row in run_file(tmp_path, "held/metrics.json")["splits"]["test"]["curve"]]
    paths = gathered(tmp_path, "listed")["path"]
    assert Path(paths[0]).is_file()
    assert gathered(tmp_path, "held")["path"] == [None] * 24
    assert gathered(tmp_path, "held")["label"][0] == "bird class 04"


def test_the_same_is_asked_for_from_another_folder(
    bare_muster: BareMuster,
    words: list[str],
    rows: list[dict[str, Any]],
    image_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A path of a table is the node's: it is kept whole, whatever folder the terminal is in."""
    csv_file(image_folder / "items.csv", rows)
    monkeypatch.chdir(image_folder)
    answer = bare_muster(*words, "--list", "items.csv", "--name", "here").document
    kept = run_file(tmp_path, "here/run.json")["data"]
    assert kept["table"] == str(image_folder / "items.csv")
    assert kept["root"] is None
    assert answer["models"]["trained"] == 1
    monkeypatch.chdir(tmp_path)
    again = bare_muster("resume", "here", "--storage", str(tmp_path / "store"), "--json").document
    assert again["models"]["reused"] == 1


def test_who_asks_whom_is_as_the_table_says(
    bare_muster: BareMuster, words: list[str], rows: list[dict[str, Any]], image_folder: Path, tmp_path: Path
) -> None:
    def told(number: int, row: dict[str, Any]) -> dict[str, Any]:
        trained = row["label"] < CLASSES[4]
        asks, answers = ("", "") if trained else (number % 3 == 0, number % 3 != 0)
        return {**row, "split": "train" if trained else "test", "is_query": asks, "is_gallery": answers}

    table = csv_file(tmp_path / "items.csv", [told(*each) for each in enumerate(rows)])
    bare_muster(*words, "--list", str(table), "--data-root", str(image_folder), "--name", "one")
    roles = gathered(tmp_path, "one")["role"]
    assert (roles.count("query"), roles.count("gallery")) == (8, 16)


def test_a_random_half_is_kept_with_the_run(
    bare_muster: BareMuster, words: list[str], rows: list[dict[str, Any]], image_folder: Path, tmp_path: Path
) -> None:
    table = csv_file(tmp_path / "items.csv", rows)
    listed = ["--list", str(table), "--data-root", str(image_folder), "--name", "one"]
    bare_muster(*words, *listed, "--split-by", "random", "--split-seed", "4")
    kept = run_file(tmp_path, "one/run.json")["data"]
    assert (kept["split_by"], kept["split_seed"]) == ("random", 4)
    tested = set(gathered(tmp_path, "one")["label"])
    assert tested != set(CLASSES[4:])
    refused = bare_muster(*words, *listed, "--split-by", "random", "--split-seed", "5", code=2)
    assert "split_seed" in refused.err
