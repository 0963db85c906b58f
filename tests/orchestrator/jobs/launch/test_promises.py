"""What a finished run promises, as its user sees it: files, numbers, times and plans, after one launch."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import polars
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from muster.workers.store.records import Done
from tests.cli import Muster

L = 2


@pytest.fixture(scope="module")
def launched(
    muster: Muster, small: list[object], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any]:
    """A store with a finished run of two members, and the launch's answer."""
    store = tmp_path_factory.mktemp("promised")
    return store, muster(*small, "--L", L, "--storage", store, "--name", "first", "--json").document


@pytest.fixture
def copy(launched: tuple[Path, Any], tmp_path: Path) -> Path:
    """The store, moved."""
    return Path(shutil.copytree(launched[0], tmp_path / "moved"))


@pytest.fixture
def again(muster: Muster, small: list[object]) -> Callable[..., Any]:
    """The answer of the same launch on another store."""

    def launch(store: Path, *flags: object) -> Any:
        return muster(*small, "--L", L, "--storage", store, "--name", "first", *flags, "--json").document

    return launch


def test_a_lost_shard_is_written_again(
    launched: tuple[Path, Any], copy: Path, again: Callable[..., Any]
) -> None:
    shard = copy / "runs/first/gathered/test/part-00000.parquet"
    whole = pq.read_table(shard)
    shard.unlink()
    assert again(copy)["models"] == {"asked": L, "reused": L, "trained": 0, "failed": 0}
    assert shard.exists()
    assert pq.read_table(shard).equals(whole)


def test_no_number_is_believed_that_was_changed_by_a_digit(
    launched: tuple[Path, Any], copy: Path, again: Callable[..., Any], muster: Muster
) -> None:
    run, score = copy / "runs/first", launched[1]["curve"][-1]["recall_at_1"]
    text = (run / "metrics.json").read_text()
    assert f'"recall_at_1": {score}' in text
    (run / "metrics.json").write_text(text.replace(f'"recall_at_1": {score}', '"recall_at_1": 0.125'))
    (run / "gathered/test/part-00000.parquet").write_bytes(b"cut")  # both are mended by one launch
    assert again(copy)["curve"] == launched[1]["curve"]
    assert json.loads((run / "metrics.json").read_text())["splits"]["test"]["curve"] == launched[1]["curve"]
    (run / "answer.json").write_text((run / "answer.json").read_text().replace("0.", "1.", 1))
    err = muster("status", "first", "--storage", copy, code=2).err
    assert "answer.json is damaged: its content is not what the run's DONE.json promises" in err


def test_the_folder_of_shards_opens_as_one(launched: tuple[Path, Any]) -> None:
    folder = launched[1]["paths"]["gathered"]
    assert {path.suffix for path in Path(folder).iterdir()} == {".parquet"}
    assert len(pandas.read_parquet(folder)) == 96
    assert polars.read_parquet(folder).height == 96
    assert pyarrow.dataset.dataset(folder).count_rows() == 96


def test_a_moved_store_answers_with_places_that_are_there(copy: Path, again: Callable[..., Any]) -> None:
    assert json.loads((copy / "runs/first/answer.json").read_text())["paths"]["report"] == "report.html"
    for place in again(copy)["paths"].values():
        assert Path(place).is_relative_to(copy)
        assert Path(place).exists()


def test_who_made_it_and_when_is_told(launched: tuple[Path, Any], muster_without_cluster: Muster) -> None:
    run = launched[0] / "runs/first"
    made = json.loads((run / "run.json").read_text()).get("made_by", {})
    assert {"node", "cpu", "versions"} <= set(made)
    assert {"muster", "commit", "ray", "torch", "cuda"} <= set(made["versions"])
    (member, *_) = (launched[0] / "models").glob("*/DONE.json")
    assert json.loads(member.read_text())["cpu"] == made["cpu"]
    report = (run / "report.html").read_text()
    for text in (made["versions"]["commit"], made["versions"]["ray"], made["cpu"]):
        assert text in report
    (row,) = muster_without_cluster("runs", "--storage", launched[0], "--json").document
    times = [row["heard"], json.loads((run / "DONE.json").read_text())["ended"]]
    for moment in times:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", str(moment))


def test_what_auto_became_binds_a_resume(
    launched: tuple[Path, Any], copy: Path, again: Callable[..., Any]
) -> None:
    run = copy / "runs/first"
    (run / "DONE.json").unlink(missing_ok=True)
    (run / "answer.json").unlink()
    shutil.rmtree(copy / "models")
    began = {"device": "gpu", "precision": "bf16", "weights": {"conv4 none": "none"}}
    (run / "settled.json").write_text(json.dumps(began))  # as where the cards can do bf16
    keys = {row["value"].split()[0] for row in again(copy, "--dry-run")["rows"] if "member" in row["what"]}
    as_asked = again(copy, "--dry-run", "--set", "precision=fp32", "--name", "other")["rows"]
    assert keys.isdisjoint(row["value"].split()[0] for row in as_asked)


def test_a_plan_is_measured_on_members_alike(copy: Path, again: Callable[..., Any]) -> None:
    for record in copy.glob("models/*/DONE.json"):
        done = Done.from_json(record.read_bytes())
        record.write_bytes(Done(done.files, {**done.facts, "seconds": 60.0}).to_json())
    plan = again(copy, "--dry-run", "--seed", 5, "--name", "other")
    assert 60 * L < plan["device_seconds"] < 80 * L  # with starts and vectors
    assert plan["clock_seconds"] < plan["device_seconds"]
    other = again(copy, "--dry-run", "--seed", 5, "--name", "other", "--set", "batch_size=32")
    assert other["device_seconds"] is None  # batches of another size tell nothing


def test_what_each_query_found_is_kept(launched: tuple[Path, Any]) -> None:
    assert "queries" in launched[1]["paths"]
    table = pq.read_table(launched[1]["paths"]["queries"]).to_pandas()
    for row in launched[1]["curve"]:
        assert (table[f"rank_L{row['L']}"] == 1).mean() == pytest.approx(row["recall_at_1"])
