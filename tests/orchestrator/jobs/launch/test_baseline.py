"""`muster launch baseline`: a compared method through the real command line, into the same store and report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from muster.workers.store.layout import Store
from tests.cli import Muster

BATCH = ("--P", 4, "--K", 2, "--dim", 8, "--epochs", 2, "--set", "baseline.lr=0.001", "--no-floors")


@pytest.fixture(scope="module")
def trained(
    muster: Muster, pictures: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any]:
    """A store with a triplet model, and the launch's answer."""
    store = tmp_path_factory.mktemp("baseline") / "store"
    ran = muster("launch", "baseline", "--loss", "triplet", *pictures, *BATCH, "--storage", store, "--json")
    return store, ran.document


def test_a_baseline_is_trained_gathered_scored_and_reported(trained: tuple[Path, Any]) -> None:
    _, answer = trained
    assert answer["state"] == "done"
    assert answer["run"].startswith("triplet-folder-8d-")
    assert answer["models"] == {"asked": 1, "reused": 0, "trained": 1, "failed": 0}
    assert [row["L"] for row in answer["curve"]] == [1]
    assert answer["metrics"]["nmi"] > 0
    table = pq.read_table(next(Path(answer["paths"]["gathered"]).glob("*.parquet")))
    vectors = np.stack(table["embedding"].to_numpy(zero_copy_only=False))
    labels = table["label"].to_numpy()
    nearest = (vectors @ vectors.T - 9 * np.eye(96)).argmax(axis=1)
    plain = float((labels[nearest] == labels).mean())
    assert answer["metrics"]["recall_at_1"] == pytest.approx(plain, abs=1.01 / 96)  # but for a near tie
    assert vectors.shape == (96, 8)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    described = json.loads(table.schema.metadata[b"muster"])
    assert described["method"] == "baseline"
    report = Path(answer["paths"]["report"]).read_text()
    assert "Triplet: the loss is pytorch-metric-learning" in report
    assert "meta-classes" not in report


def test_the_same_again_trains_nothing_and_another_setting_trains_again(
    muster: Muster, pictures: tuple[object, ...], trained: tuple[Path, Any]
) -> None:
    store, answer = trained
    again = ("launch", "baseline", "--loss", "triplet", *pictures, *BATCH, "--storage", store, "--json")
    found = muster(*again).document
    assert found["models"]["trained"] == 0
    assert found["metrics"] == answer["metrics"]
    (key,) = Store(str(store)).files.names("models")
    spec = json.loads((store / "models" / key / "spec.json").read_text())
    assert (spec["method"], spec["baseline"]["loss"], spec["baseline"]["dim"]) == ("baseline", "triplet", 8)
    log = next((store / "runs" / answer["run"] / "logs").iterdir()).read_text()
    assert "12 classes, triplet in 8 dimensions" in log
    planned = muster(*again[:-1], "--set", "margin=0.5", "--dry-run").out
    assert "1 to train" in planned


def test_all_mistakes_of_a_baseline_come_at_once(muster_without_cluster: Muster, tmp_path: Path) -> None:
    ran = muster_without_cluster(
        "launch", "baseline", "--loss", "npairs", "--K", 4, "--dim", 1, "--set", "D=12", "--set", "ranks=2",
        "--set", "baseline.margin=0.5", "--storage", tmp_path / "s", code=2,
    )  # fmt: skip
    for said in (
        "baseline.images = 4: npairs takes one pair of each label",
        "baseline.dim = 1: must be at least 2",
        "ensemble.D: its dimension is baseline.dim",
        "resources.ranks: only bier has it",
        "baseline.margin = 0.5 has no effect with loss = npairs",
    ):
        assert said in ran.err
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "baseline.loss: give --loss, one of triplet, npairs, proxynca"),
        (["--loss", "hinge"], "baseline.loss = 'hinge': there are triplet, npairs, proxynca"),
        (["--loss", "triplet", "--P", 300], "there are only 200 training classes. Give --P 200"),
        (["--loss", "triplet", "--preset", "papre"], "there are paper, code, glyphs"),
        (["--loss", "triplet", "--set", "combine=sqrt"], "combine: the method is baseline"),
    ],
)
def test_a_wrong_baseline_is_refused(
    muster_without_cluster: Muster, tmp_path: Path, flags: list[object], said: str
) -> None:
    ran = muster_without_cluster("launch", "baseline", *flags, "--storage", tmp_path / "s", code=2)
    assert said in ran.err
    assert not (tmp_path / "s").exists()


def test_without_the_library_its_extra_is_named_before_anything_starts(
    muster_without_cluster: Muster, tmp_path: Path
) -> None:
    """A start file hides the library from the interpreter, as if it were not installed."""
    (tmp_path / "hide").mkdir()
    hide = "import sys; sys.modules['pytorch_metric_learning'] = None"
    (tmp_path / "hide" / "sitecustomize.py").write_text(hide)
    bare = Muster({**muster_without_cluster.env, "PYTHONPATH": str(tmp_path / "hide")})
    ran = bare("launch", "baseline", "--loss", "proxynca", "--storage", tmp_path / "s", code=2)
    assert "pip install '.[baselines]' in muster's checkout" in ran.err
    assert "Ray" not in ran.err
    assert not (tmp_path / "s").exists()
