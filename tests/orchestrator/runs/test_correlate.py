"""A model's learners beside another's: both from the store, and neither trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muster.orchestrator.ensemble.plan import member_tasks, prepare
from muster.orchestrator.methods.loading import load
from muster.orchestrator.runs import correlate as correlating
from muster.orchestrator.runs.correlate import correlate
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.errors import UsageError
from muster.workers.store.layout import Store
from muster.workers.store.vectors import write_vectors

Made = Callable[..., tuple[LaunchRequest, np.ndarray]]


@pytest.fixture
def made(image_folder: Path, tmp_path: Path) -> Made:
    """A run of BIER whose learners share so much of their vectors, and those."""

    def run(name: str, shared: float, **flags: Any) -> tuple[LaunchRequest, np.ndarray]:
        settings = {
            "method": "bier", "data.dataset": "folder", "data.root": str(image_folder), "image_size": 16,
            "preset": "glyphs", "ensemble.backbone": "conv4", "bier.sizes": (2, 3), "bier.labels": 4, "name": name,
            "storage": str(tmp_path),
        }  # fmt: skip
        request = load(None, {**settings, **flags}, [])
        store = Store(request.storage)
        prepared = prepare(request, store, lambda *_: None)
        assert prepared is not None
        (task,) = member_tasks(request, prepared, "none", "fp32")
        (target,) = task.targets
        rng = np.random.default_rng(len(name))
        common = rng.normal(size=(24, 1))
        vectors = (shared * common + rng.normal(size=(24, 5))).astype(np.float32)
        write_vectors(store.model(task.key).embedding(target.digest), vectors, {"split": "test"})
        return request, vectors

    return run


def measures(vectors: np.ndarray) -> tuple[float, float]:
    """Plainly: between learners the correlation of their cosines, between dimensions the mean of |r|."""
    parts = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in np.split(vectors, [2], axis=1)]
    pairs = np.triu_indices(len(vectors), 1)
    learners = np.corrcoef(*((part @ part.T)[pairs] for part in parts))[0, 1]
    return learners, np.abs(np.corrcoef(np.concatenate(parts, axis=1).T)[:2, 2:]).mean()


def test_a_reduction_is_of_the_other_run_s_measure(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    monkeypatch.setattr(correlating, "heat_map", lambda *call: (titles.append(call[2]), {"png": b"drawn"})[1])
    (mine, alike), (other, more_alike) = made("mine", 1.0), made("another", 3.0, **{"ensemble.seed": 1})
    found = correlate(mine, other, "test")
    assert (found["run"], found["baseline"], found["images"]) == ("mine", "another", 24)
    for row, one, two in zip(found["rows"], measures(alike), measures(more_alike), strict=True):
        assert row["mine"] == pytest.approx(one, abs=1e-5)
        assert row["another"] == pytest.approx(two, abs=1e-5)
        assert row["reduction_percent"] == pytest.approx(100 * (1 - one / two), abs=1e-3)
        assert row["reduction_percent"] > 5
    assert {Path(path).parts[-3] for path in found["paths"].values()} == {"mine", "another"}
    assert set(found["paths"]) == {"png", "baseline_png"}
    assert all(Path(path).read_bytes() == b"drawn" for path in found["paths"].values())
    assert len(titles) == 2
    kept = Store(mine.storage).run("mine").read("correlation-test.json")
    assert kept == {name: found[name] for name in ("run", "baseline", "split", "rows")}
    (png,) = (path for path in found["paths"].values() if "/mine/" in path)
    Store(mine.storage).run("mine").seal({}, {})  # from here on it is the run's own, and promised
    for spoil in (lambda: Path(png).write_bytes(b"dra"), Path(png).unlink):
        spoil()
        correlate(mine, None, "test")
        assert Path(png).read_bytes() == b"drawn"


def test_what_cannot_be_compared_is_refused(made: Made) -> None:
    mine, _ = made("mine", 1.0)
    for name, flags, said in (
        ("sizes", {"bier.sizes": (1, 4)}, r"sizes has learners of \(1, 4\), mine of \(2, 3\)"),
        ("data", {"data.train_classes": 4, "data.skip_bad_images": True}, "are of other data"),
    ):
        other, _ = made(name, 1.0, **flags)
        with pytest.raises(UsageError, match=said):
            correlate(mine, other, "test")
    single, _ = made("single", 1.0, **{"bier.sizes": (5,), "bier.boost": False})
    with pytest.raises(UsageError, match="single has no learners to compare"):
        correlate(single, None, "test")
    with pytest.raises(UsageError, match="mine has no vectors of val"):
        correlate(mine, None, "val")
