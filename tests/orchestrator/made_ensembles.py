"""Ensembles with made vectors in a real store: real packs of real JPEG files, real keys, nothing trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from muster.orchestrator.ensemble.plan import member_tasks, prepare
from muster.orchestrator.ensemble.requests import EnsembleRequest, EnsembleResult
from muster.orchestrator.methods.loading import load
from muster.orchestrator.vectors.evaluate import evaluate_here
from muster.workers.store.layout import Store
from muster.workers.store.vectors import write_vectors


def made_ensemble(
    store: Store, root: Path, name: str, *, D: int, L: int, train_classes: int = 0, done: int | None = None
) -> EnsembleResult:
    """An ensemble of the data set `folder` of which the first `done` members (default: all) have vectors.

    A vector is its class's direction, another in each member, and noise.
    """
    flags: dict[str, Any] = {
        "data.dataset": "folder", "data.root": str(root), "data.train_classes": train_classes, "image_size": 24,
        "ensemble.backbone": "conv4", "ensemble.D": D, "ensemble.L": L, "storage": store.root,
    }  # fmt: skip
    launch = load(None, flags, [])
    request = EnsembleRequest(name=name, launch=launch, splits=("train",))
    prepared = prepare(launch, store, lambda *_: None, request.splits)
    assert prepared is not None
    tasks = member_tasks(launch, prepared, "none", "fp32")
    members = tasks[:done]
    got = EnsembleResult(request=request, prepared=prepared, tasks=tasks, members=members)
    for task in members:
        for target in task.targets:
            labels = labels_of(store, got, target.split)
            rng = np.random.default_rng([task.spec.index, D, len(target.split)])
            vectors = rng.normal(size=(labels.max() + 1, D))[labels] + 0.7 * rng.normal(size=(len(labels), D))
            unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
            write_vectors(store.model(task.key).embedding(target.digest), unit, {"split": target.split})
    if not members:
        return replace(got, trouble="no member was trained: the disk is full")
    keys = [task.key for task in members]
    scores = evaluate_here(store, got.target("test"), keys, (1, 2, 4), memory=1 << 30, nmi=False)
    return replace(got, metrics={"splits": {"test": scores}})


def labels_of(store: Store, got: EnsembleResult, split: str) -> np.ndarray:
    """int64 [n]: the class of each image of a split."""
    from muster.orchestrator.jobs.reproduce.figures.vectors import images_of

    labels: np.ndarray = images_of(store, got, split)[0].labels
    return labels


def concatenation(store: Store, got: EnsembleResult, split: str, members: int) -> np.ndarray:
    """float64 [n, members * D]: what the paper compares, put together plainly from the files."""
    from muster.workers.store.vectors import read_vectors

    digest = got.target(split).digest
    parts: Sequence[np.ndarray] = [
        read_vectors(store.model(task.key).embedding(digest)) for task in got.members[:members]
    ]
    return np.concatenate(parts, axis=1).astype(np.float64)
