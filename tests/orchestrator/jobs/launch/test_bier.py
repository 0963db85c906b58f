"""BIER through the real command line: one Ray Train job of two ranks, stored and reused like a member."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muster.cluster import procs
from tests.cli import Muster

#: A gathered shard of 12 dimensions.
SHARD = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("image_id", "label", "path", "role")),
        pa.field("embedding", pa.list_(pa.float32(), 12)),
    ]
)


@pytest.fixture(scope="module")
def small_bier(shapes: Path) -> list[object]:
    """Flags of a launch that trains in some seconds."""
    return [
        "launch", "bier", "--dataset", "folder", "--data-root", shapes, "--image-size", 24, "--backbone", "conv4",
        "--preset", "glyphs", "--learners", "4,8", "--P", 4, "--K", 4, "--steps", 30, "--no-floors",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def launched(
    muster: Muster, small_bier: list[object], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any]:
    store = tmp_path_factory.mktemp("bier")
    with listening(muster) as heard:
        ran = muster(
            *small_bier, "--ranks", 2, "--checkpoint-steps", 10, "--storage", store, "--name", "b", "--json"
        )
    return store, {**ran.document, "heard": heard}


@contextlib.contextmanager
def listening(muster: Muster) -> Iterator[dict[str, set[str]]]:
    """The addresses that the head's processes listen at while the block runs, by what the process is called."""
    (record,) = Path(muster.env["MUSTER_STATE_DIR"]).glob("head-*.json")
    head, heard, over = json.loads(record.read_text()), {}, threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            for pid in procs.of_head(head["temp_dir"], head["pid"]):
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(pid)
                    name = " ".join(process.cmdline()).split(" ")[0]
                    ips = {one.laddr.ip for one in process.net_connections("inet") if one.status == "LISTEN"}
                    heard.setdefault(name, set()).update(ips)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield heard
    finally:
        over.set()
        thread.join()


def test_no_port_of_ranks_is_open_to_the_network(launched: tuple[Path, Any]) -> None:
    """torch's own meeting place would listen at every address, and take orders from anybody."""
    heard = launched[1]["heard"]
    assert any("RayTrainWorker" in name for name in heard)
    assert set().union(*heard.values()) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, heard


def test_two_ranks_train_one_model_and_each_learner_is_scored(launched: tuple[Path, Any]) -> None:
    store, answer = launched
    assert answer["state"] == "done"
    assert answer["models"] == {"asked": 1, "reused": 0, "trained": 1, "failed": 0}
    assert [row["L"] for row in answer["curve"]] == [1]
    assert [(row["learner"], row["dimension"]) for row in answer["learners"]] == [(1, 4), (2, 8)]
    table = pq.read_table(next(Path(answer["paths"]["gathered"]).glob("*.parquet")))
    labels, vectors = table["label"].to_numpy(), np.stack(table["embedding"].to_numpy(zero_copy_only=False))
    parts = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in np.split(vectors, [4], axis=1)]
    for row, part in zip(answer["learners"], parts, strict=True):
        nearest = (part @ part.T - 9 * np.eye(len(part))).argmax(axis=1)
        plain = float((labels[nearest] == labels).mean())
        assert row["recall_at_1"] == pytest.approx(plain, abs=1.01 / len(part))  # but for a near tie
    pairs = np.triu_indices(len(vectors), 1)
    learners = np.corrcoef(*((part @ part.T)[pairs] for part in parts))[0, 1]
    dimensions = np.abs(np.corrcoef(np.concatenate(parts, axis=1).T)[:4, 4:]).mean()
    assert answer["correlation"]["between_learners"] == pytest.approx(learners, abs=1e-3)
    assert answer["correlation"]["between_dimensions"] == pytest.approx(dimensions, abs=1e-3)
    (done,) = [json.loads(path.read_text()) for path in store.glob("models/*/DONE.json")]
    assert done["ranks"] == 2
    for name in ("report", "heat_png", "heat_svg"):
        assert Path(answer["paths"][name]).stat().st_size > 0
    assert "Learners" in Path(answer["paths"]["report"]).read_text()


def test_the_same_model_is_found_again_by_any_number_of_ranks_and_without_a_cluster(
    launched: tuple[Path, Any], muster: Muster, small_bier: list[object], tmp_path: Path
) -> None:
    store, answer = launched
    alone = Muster({**muster.env, "MUSTER_STATE_DIR": str(tmp_path / "no head here")})
    ran = alone(*small_bier, "--ranks", 1, "--storage", store, "--name", "b", "--json")
    assert "Starting a local Ray head" not in ran.err
    assert ran.document["models"] == {"asked": 1, "reused": 1, "trained": 0, "failed": 0}
    assert ran.document["curve"] == answer["curve"]


def test_shards_have_the_schema_of_any_method(launched: tuple[Path, Any]) -> None:
    schema = pq.read_schema(next(Path(launched[1]["paths"]["gathered"]).glob("*.parquet")))
    assert schema.remove_metadata().equals(SHARD)  # as those of an ensemble of 3 members of D = 4
    assert json.loads(schema.metadata[b"muster"])["combine"] == "share"


def test_evaluating_again_and_another_combination_need_no_training(
    launched: tuple[Path, Any], muster_without_cluster: Muster
) -> None:
    store, answer = launched
    found = muster_without_cluster("evaluate", "b", "--storage", store, "--json").document
    assert found["metrics"]["recall_at_1"] == pytest.approx(answer["metrics"]["recall_at_1"], abs=1e-12)
    assert [row["recall_at_1"] for row in found["learners"]] == [
        row["recall_at_1"] for row in answer["learners"]
    ]


def test_correlation_is_written_beside_its_heat_maps(
    launched: tuple[Path, Any], muster_without_cluster: Muster
) -> None:
    store, answer = launched
    found = muster_without_cluster("correlation", "b", "--storage", store, "--json").document
    assert [row["measure"] for row in found["rows"]] == ["between learners", "between dimensions"]
    assert found["rows"][0]["b"] == pytest.approx(answer["correlation"]["between_learners"], abs=1e-9)
    assert all(Path(path).stat().st_size > 0 for path in found["paths"].values())


def test_a_loss_that_turns_nan_ends_the_run_and_keeps_the_last_good_checkpoint(
    muster: Muster, small_bier: list[object], tmp_path: Path
) -> None:
    ran = muster(*small_bier, "--set", "bier.lr=1e18", "--checkpoint-steps", 1, "--storage", tmp_path, code=1)
    for part in ("at step ", "learning rate of 1e+18", "last finite loss", "--set bier.lr="):
        assert part in ran.err
    assert list(tmp_path.glob("models/*/attempts/*/epoch-*.safetensors"))
    assert not list(tmp_path.glob("models/*/DONE.json"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--learners", "96,0"], ["sizes = (96, 0)", "at least 1"]),
        (["--learners", "96,x"], ["sizes", "x"]),
        (["--learners", "--5"], ["sizes", "--5", "a valid integer"]),
        (["--learners", "512"], ["boost needs at least 2 learners", "--no-boost"]),
        (["--learners", "512", "--no-boost", "--auxiliary", "adversarial"], ["at least 2 learners"]),
        (["--P", 201], ["labels = 201", "only 200 training classes"]),
        (["--K", 1], ["images = 1", "no positive pairs"]),
        (["--P", 25, "--K", 5, "--ranks", 2], ["125", "2 ranks", "labels = 24", "labels = 26"]),
        (["--ranks", 0], ["ranks = 0"]),
        (["--variant", "beta"], ["variant", "shrinkage", "eta", "balanced"]),
        (["--combine", "sum"], ["combine = 'sum'", "share, sqrt, concat"]),
        (["--preset", "paper"], ["preset = 'paper'", "authors"]),
        (["--batch-norm", "frozen"], ["batch_norm = frozen", "--weights"]),
        (["--set", "ensemble.L=3"], ["ensemble.L", "BIER is one model"]),
        (["--set", "epochs=3"], ["epochs", "no such key"]),
        (["--lambda-div", 0.1], ["lambda_div", "no effect"]),
        (["--lambda-div", "inf", "--auxiliary", "adversarial"], ["lambda_div = inf", "finite"]),
        (["--set", 'preset=["a"]'], ["preset = ['a']", "must be text"]),
    ],
)
def test_a_wrong_flag_is_named_with_its_cure(
    muster_without_cluster: Muster, tmp_path: Path, flags: list[object], said: list[str]
) -> None:
    store = tmp_path / "store"
    ran = muster_without_cluster("launch", "bier", "--storage", store, *flags, code=2)
    assert all(part in ran.err for part in said), ran.err
    assert ran.out == ""
    assert not list(store.glob("*"))


def test_a_dry_run_counts_models(muster_without_cluster: Muster, tmp_path: Path) -> None:
    found = muster_without_cluster("launch", "bier", "--storage", tmp_path / "s", "--dry-run", "--json")
    assert found.document["sentence"].startswith("1 model: ")


def test_more_ranks_than_the_cluster_has_place_for_are_refused(
    muster: Muster, small_bier: list[object], tmp_path: Path
) -> None:
    ran = muster(*small_bier, "--ranks", 4, "--storage", tmp_path, code=2)
    assert "--ranks 4: the cluster has 2 CPUs" in ran.err
    assert not list(tmp_path.glob("models/*/DONE.json"))


def test_a_dreml_launch_refuses_what_is_biers(muster_without_cluster: Muster, tmp_path: Path) -> None:
    wrong = ["--set", "resources.ranks=2", "--set", "ensemble.batch_norm=frozen"]
    ran = muster_without_cluster("launch", "dreml", "--storage", tmp_path / "s", *wrong, code=2)
    assert "resources.ranks" in ran.err
    assert "ensemble.batch_norm" in ran.err
