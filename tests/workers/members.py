"""A small member on a real store, for tests of its whole life."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from muster.workers.datasets import ImageFolder
from muster.workers.member import run_member
from muster.workers.packs.build import build_pack
from muster.workers.store.layout import Store
from muster.workers.store.vectors import read_vectors
from muster.workers.task import Images, MemberTask, Target
from tests.workers.samples import CPU, VIEW, small_recipe, small_spec


def task_for(store: Store, images: Path, **changes: Any) -> MemberTask:
    """A member of two epochs, wanted with the vectors of the test and the training images."""
    data = ImageFolder(images)
    train, test = (build_pack(store, data, data.splits()[name], "squash:20") for name in ("train", "test"))
    part, other = train.part(), test.part()
    spec = small_spec(part, small_recipe(epochs=3, select="best-train"), **changes)
    wanted = Images(pack=train.digest, class_ids=None, digest=part.digest)
    unseen = Images(pack=test.digest, class_ids=None, digest=other.digest)
    targets = (
        Target(split="test", images=unseen, view=VIEW),
        Target(split="train", images=wanted, view=VIEW),
    )
    return MemberTask(spec=spec, train=wanted, targets=targets)


def run(store: Store, task: MemberTask, attempt: str = "one") -> list[str]:
    """Runs a member and returns its log."""
    lines: list[str] = []
    run_member(store, task, attempt, CPU, log=lines.append)
    return lines


def snapshot(store: Store) -> dict[str, tuple[int, bytes]]:
    assert store.files.local_root is not None
    return {
        str(path.relative_to(store.files.local_root)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in store.files.local_root.rglob("*")
        if path.is_file()
    }


def weights_of(store: Store, task: MemberTask) -> bytes:
    folder = store.model(task.key)
    done = folder.done()
    assert done is not None
    return folder.get(f"attempts/{done.facts['attempt']}/weights.safetensors", done)


def damage(store: Store, pattern: str) -> None:
    assert store.files.local_root is not None
    (path,) = store.files.local_root.glob(pattern)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def same_result(store: Store, task: MemberTask, weights: bytes, vectors: list[np.ndarray]) -> None:
    folder = store.model(task.key)
    assert weights_of(store, task) == weights
    for target, wanted in zip(task.targets, vectors, strict=True):
        assert np.array_equal(read_vectors(folder.embedding(target.digest)), wanted)


def result(store: Store, task: MemberTask) -> tuple[bytes, list[np.ndarray]]:
    folder = store.model(task.key)
    return weights_of(store, task), [read_vectors(folder.embedding(t.digest)) for t in task.targets]
