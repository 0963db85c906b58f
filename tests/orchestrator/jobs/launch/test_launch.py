"""The main job through the real command line, on a real local Ray head, with real image files."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.cli import Muster


def weights(store: Path) -> dict[str, str]:
    """The content of each finished member's weights, by key."""
    found = {}
    for folder in sorted((store / "models").iterdir()):
        done = json.loads((folder / "DONE.json").read_text())
        file = folder / "attempts" / done["attempt"] / "weights.safetensors"
        found[folder.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


@pytest.fixture(scope="module")
def launched(
    muster: Muster, small: list[object], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any]:
    """A store with a finished run of four members, and the launch's answer."""
    store = tmp_path_factory.mktemp("launched")
    answer = muster(
        *small, "--L", 4, "--storage", store, "--name", "first", "--parallel", 2, "--json"
    ).document
    return store, answer


def test_a_launch_answers_with_one_json_document(launched: tuple[Path, Any]) -> None:
    store, answer = launched
    assert answer["state"] == "done"
    assert answer["models"] == {"asked": 4, "reused": 0, "trained": 4, "failed": 0}
    assert [row["L"] for row in answer["curve"]] == [1, 2, 3, 4]
    assert all(
        0 <= row[name] <= 1 for row in answer["curve"] for name in ("recall_at_1", "map_at_r", "recall_at_8")
    )
    assert [row["nmi"] is not None for row in answer["curve"]] == [True, True, False, True]
    assert answer["metrics"]["recall_at_1"] == answer["curve"][-1]["recall_at_1"]
    for name in ("report", "plot_png", "plot_svg", "curves", "metrics"):
        assert Path(answer["paths"][name]).stat().st_size > 0
    assert pq.read_table(store / "runs/first/curves.parquet").num_rows == 4


def test_parallel_and_single_file_training_give_identical_weights(
    launched: tuple[Path, Any], muster: Muster, small: list[object], tmp_path: Path
) -> None:
    muster(*small, "--L", 2, "--storage", tmp_path, "--parallel", 1)
    alone = weights(tmp_path)
    assert len(alone) == 2
    assert alone.items() <= weights(launched[0]).items()


def test_a_longer_ensemble_trains_only_the_new_members(
    launched: tuple[Path, Any], muster: Muster, small: list[object], tmp_path: Path
) -> None:
    store = tmp_path / "longer"
    shutil.copytree(launched[0], store)
    longer = muster(*small, "--L", 5, "--storage", store, "--json").document
    assert longer["models"] == {"asked": 5, "reused": 4, "trained": 1, "failed": 0}
    for row, before in zip(longer["curve"], launched[1]["curve"], strict=False):
        shared = row.keys() - {"nmi"}  # of the last size, or not
        assert {name: row[name] for name in shared} == {name: before[name] for name in shared}


def test_the_same_request_again_starts_nothing_and_needs_no_cluster(
    launched: tuple[Path, Any], muster: Muster, small: list[object], tmp_path: Path
) -> None:
    store, answer = launched
    alone = Muster({**muster.env, "MUSTER_STATE_DIR": str(tmp_path / "no head here")})
    ran = alone(*small, "--L", 4, "--storage", store, "--name", "first", "--json")
    assert "all found in the store" in ran.err
    assert "Starting a local Ray head" not in ran.err
    assert ran.document["models"] == {"asked": 4, "reused": 4, "trained": 0, "failed": 0}
    assert ran.document["curve"] == answer["curve"]


def test_a_name_that_is_taken_by_another_request_is_refused(
    launched: tuple[Path, Any], muster: Muster, small: list[object]
) -> None:
    ran = muster(*small, "--L", 4, "--seed", 9, "--storage", launched[0], "--name", "first", code=2)
    assert "ensemble.seed was 0, is 9" in ran.err


def test_duckdb_reads_the_shards_and_finds_the_same_recall(
    launched: tuple[Path, Any], muster: Muster
) -> None:
    """Recall@1 in SQL alone, from the gathered shards and nothing else."""
    store, _ = launched
    shards = store / "runs/first/gathered/test/*.parquet"
    [(found,)] = duckdb.sql(f"""
        WITH images AS (SELECT row_number() OVER () AS n, * FROM '{shards}'),
        ranked AS (
            SELECT q.n, q.label = g.label AS is_right, row_number() OVER (
                PARTITION BY q.n ORDER BY list_dot_product(q.embedding::FLOAT[], g.embedding::FLOAT[]) DESC) AS rank
            FROM images q JOIN images g ON q.n <> g.n)
        SELECT avg(is_right::INT) FROM ranked WHERE rank = 1
    """).fetchall()
    evaluated = muster("evaluate", "first", "--storage", store, "--no-nmi", "--json").document
    assert found == pytest.approx(evaluated["metrics"]["recall_at_1"], abs=1e-9)


def test_shards_describe_themselves(launched: tuple[Path, Any]) -> None:
    store, answer = launched
    folder = Path(answer["paths"]["gathered"])
    table = pq.read_table(folder / "part-00000.parquet")
    manifest = json.loads(folder.with_suffix(".json").read_text())
    described = json.loads(table.schema.metadata[b"muster"])
    assert table.schema.names == ["image_id", "label", "path", "role", "embedding"]
    assert [member["offset"] for member in described["members"]] == [0, 4, 8, 12]
    assert manifest["L"] == 4
    assert manifest["dimension"] == 16
    assert manifest["rows"] == table.num_rows == 96
    vectors = np.array(table["embedding"].to_pylist()).reshape(96, 4, 4)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=2), 1, atol=1e-5)
    assert {row["key"] for row in described["members"]} == set(weights(store))


def test_another_split_is_embedded_on_demand_without_touching_the_weights(
    launched: tuple[Path, Any], muster: Muster
) -> None:
    store, _ = launched
    before = weights(store)
    stamps = {path: path.stat().st_mtime_ns for path in store.glob("models/*/attempts/*/weights.safetensors")}
    answer = muster("gather", "first", "--split", "train", "--storage", store, "--json").document
    assert Path(answer["paths"]["gathered_train"]).with_suffix(".json").exists()
    assert weights(store) == before
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}
    found = muster("evaluate", "first", "--split", "train", "--storage", store, "--no-nmi", "--json").document
    assert found["queries"] == 96


def test_the_run_can_be_read_with_the_cluster_off(
    launched: tuple[Path, Any], muster: Muster, tmp_path: Path
) -> None:
    store, answer = launched
    alone = Muster({**muster.env, "MUSTER_STATE_DIR": str(tmp_path / "none")})
    status = alone("status", "first", "--storage", store, "--json").document
    assert status["state"] == "done"
    assert status["done"] == status["asked"] == 4
    losses = {
        file.parent.name: json.loads(file.read_text())["loss"] for file in store.glob("models/*/DONE.json")
    }
    assert all(row["loss"] == losses[row["key"]] for row in status["members"])
    assert [row["run"] for row in alone("runs", "--storage", store, "--json").document] == ["first"]
    logs = alone("logs", "first", "--member", 2, "--storage", store).out
    assert "epoch 2: loss" in logs
    assert "member 2," in logs
    assert alone("evaluate", "first", "--storage", store, "--json").document["curve"] == answer["curve"]


def test_a_store_that_was_moved_answers_with_its_own_paths(
    launched: tuple[Path, Any], muster: Muster, small: list[object], tmp_path: Path
) -> None:
    store = tmp_path / "moved"
    shutil.copytree(launched[0], store)
    found = muster(*small, "--L", 4, "--storage", store, "--name", "first", "--json").document
    assert found["models"]["reused"] == 4
    for place in found["paths"].values():
        assert Path(place).is_relative_to(store)
        assert Path(place).exists()


def test_status_tells_of_a_model_that_the_store_lost(
    launched: tuple[Path, Any], muster: Muster, tmp_path: Path
) -> None:
    store = tmp_path / "copy"
    shutil.copytree(launched[0], store)
    victim = next(store.glob("models/*/DONE.json"))
    victim.write_text("{}")
    states = muster("status", "first", "--storage", store, "--json").document["members"]
    assert [row["state"] for row in states if row["key"] == victim.parent.name] == ["lost"]
    assert sum(row["state"] == "lost" for row in states) == 1
    assert "muster resume makes it again" in " ".join(
        muster("status", "first", "--storage", store).out.split()
    )


def test_damaged_vectors_are_found_and_made_again(
    launched: tuple[Path, Any], muster: Muster, small: list[object], tmp_path: Path
) -> None:
    store = tmp_path / "copy"
    shutil.copytree(launched[0], store)
    shutil.rmtree(store / "runs")
    digest = json.loads((launched[0] / "runs/first/gathered/test.json").read_text())["embedding_digest"]
    victim = next(store.glob(f"models/*/embeddings/{digest}/vectors.parquet"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    ran = muster(*small, "--L", 4, "--storage", store, "--json")
    assert "damaged" in ran.err
    assert ran.document["models"]["trained"] == 0
    assert ran.document["curve"] == launched[1]["curve"]


def test_detaching_leaves_the_run_going(
    muster: Muster, small: list[object], tmp_path: Path, until: Callable[..., Any]
) -> None:
    process = muster.start(*small, "--L", 2, "--storage", tmp_path, "--name", "left", "--epochs", 3)
    until(lambda: list(tmp_path.glob("runs/left/events/*")), 180)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 130
    assert "muster status left" in err
    assert "muster stop left" in err
    assert "muster resume left" in err
    until(lambda: muster("status", "left", "--storage", tmp_path, "--json").document["state"] == "done", 120)


def test_a_stopped_run_keeps_what_was_running_and_resumes(
    muster: Muster, small: list[object], tmp_path: Path, until: Callable[..., Any]
) -> None:
    flags = [*small, "--L", 6, "--storage", tmp_path, "--name", "stopped", "--parallel", 1]
    process = muster.start(*flags, "--json")
    until(lambda: list(tmp_path.glob("models/*/attempts")), 180)
    assert "running members finish" in muster("stop", "stopped").out
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    answer = json.loads(out)
    assert answer["state"].startswith("partial")
    trained = answer["models"]["trained"]
    assert 1 <= trained < 6
    assert len(weights(tmp_path)) == trained
    resumed = muster("resume", "stopped", "--storage", tmp_path, "--json").document
    assert resumed["state"] == "done"
    assert resumed["models"] == {"asked": 6, "reused": trained, "trained": 6 - trained, "failed": 0}


def test_a_run_that_was_ended_at_once_says_so(
    muster: Muster, small: list[object], tmp_path: Path, until: Callable[..., Any]
) -> None:
    where = ["--storage", tmp_path]
    process = muster.start(*small, "--L", 6, *where, "--name", "ended", "--parallel", 1)
    until(lambda: list(tmp_path.glob("models/*/attempts")), 180)
    refused = muster("stop", "endde", *where, code=2).err
    assert "There is no run endde" in refused
    assert "What is running: ended" in " ".join(refused.split())
    assert "ended was ended" in muster("stop", "ended", *where, "--now").out
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130  # as documented: interrupted
    assert "The job was ended" in err
    status = until(lambda: stopped(muster, where), 30)
    assert status["message"] == "The job was ended; finished epochs are kept."
    assert "ended is not running" in muster("stop", "ended", *where).out


def stopped(muster: Muster, where: list[object]) -> Any:
    status = muster("status", "ended", *where, "--json").document
    return status if status["state"] == "stopped" else None


def test_classes_of_one_image_are_named_and_left_out(
    muster: Muster, small: list[object], shapes: Path, tmp_path: Path
) -> None:
    root = tmp_path / "images"
    shutil.copytree(shapes, root)
    lone = root / "class 23"
    for image in sorted(lone.iterdir())[1:]:
        image.unlink()
    flags = [root if flag == shapes else flag for flag in small]
    ran = muster(*flags, "--L", 1, "--storage", tmp_path / "store", "--json")
    assert "class 23" in ran.err
    hits = 88 * ran.document["curve"][0]["recall_at_1"]
    assert hits == pytest.approx(round(hits), abs=1e-9)  # of 88 queries, and not of 89 images
    metrics = json.loads(Path(ran.document["paths"]["metrics"]).read_text())
    assert metrics["splits"]["test"]["queries"] == 88
