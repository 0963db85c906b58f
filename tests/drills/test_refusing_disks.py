"""A disk that is full, turns read-only or loses the store in the middle of a run: what is said, what is left, and that
the run goes on to the very same numbers."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from muster.orchestrator.records import log as log_module
from muster.workers.store import files as files_module
from muster.workers.store.layout import Store
from tests.drills.conftest import Struck
from tests.drills.test_kills import weights
from tests.orchestrator.bare import BareMuster, bare_muster

__all__ = ["bare_muster"]
SHARD = "runs/one/gathered/test/part-00000.parquet"


@pytest.fixture(scope="module")
def launch(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """A launch of two members on a few images, with two checkpoints each."""
    root = tmp_path_factory.mktemp("few") / "shapes"
    for folder in sorted(shapes.iterdir())[:8]:
        (root / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[:4]:
            shutil.copy(file, root / folder.name)
    return [
        "launch", "dreml", "--dataset", "folder", "--data-root", root, "--image-size", 24, "--backbone", "conv4",
        "--D", 3, "--L", 2, "--epochs", 2, "--set", "batch_size=8", "--set", "lr=0.02", "--name", "one", "--json",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def calm(launch: list[object], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The store of an undisturbed run, and its answer."""
    store = tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patch:
        muster = bare_muster.__wrapped__(patch)  # type: ignore[attr-defined]
        return store, muster(*launch, "--storage", store).document


@pytest.fixture(autouse=True)
def segments_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run of hours would notice in its course is noticed in one of a second."""
    monkeypatch.setattr(log_module, "SEGMENT_SECONDS", 0.0)


class Refusing:
    """The store's one write call, which begins to refuse at a file, by a part of its name; what is written by then is
    half of the file, as a disk that becomes full leaves it."""

    def __init__(self, code: int, part: str, after: int) -> None:
        self.code, self.part, self.left, self.refused = code, part, after, 0
        self.write = files_module._write_synced

    def __call__(self, path: Path, data: bytes) -> None:
        if self.part in str(path.parent) and self.left > 0:
            self.left -= 1
        elif self.refused or self.part in str(path.parent):
            self.refused += 1
            path.write_bytes(data[: len(data) // 2])
            raise OSError(self.code, os.strerror(self.code), str(path))
        self.write(path, data)


def nothing_is_half_written(store: Path) -> None:
    """No scratch file is left, and whatever a commit record names is there as it says."""
    left = [str(path) for path in store.rglob(f"{files_module.SCRATCH}*")]
    assert left == []
    found = Store(str(store))
    for key in found.files.names("models"):
        folder = found.model(key)
        for part in (
            folder,
            *(folder.embedding(digest) for digest in found.files.names(folder / "embeddings")),
        ):
            if (done := part.done()) is not None:
                assert all(part.get(name, done) for name in done.files)
    for file in store.rglob("epoch-*.safetensors"):
        assert file.name.split("-")[2].startswith(files_module.FileRecord.of(file.read_bytes()).sha256[:16])
    record = found.run("one").record()
    assert found.run("one").spoilt(record) == []


def the_same(calm: tuple[Path, Any], store: Path, answer: Any) -> None:
    assert answer["curve"] == calm[1]["curve"]
    assert answer["models"]["failed"] == 0
    assert weights(store) == weights(calm[0])
    assert pq.read_table(store / SHARD).equals(pq.read_table(calm[0] / SHARD))


@pytest.mark.drill("c: a full or read-only disk in the middle")
@pytest.mark.parametrize(
    ("code", "part", "after"),
    [
        (errno.ENOSPC, "attempts", 1),
        (errno.ENOSPC, "gathered", 0),
        pytest.param(errno.ENOSPC, "runs/one", 12, marks=pytest.mark.long),
        pytest.param(errno.EROFS, "attempts", 2, marks=pytest.mark.long),
        pytest.param(errno.EROFS, "embeddings", 1, marks=pytest.mark.long),
    ],
    ids=["full in a checkpoint", "full in the gathering", "full in a record", "read-only", "read-only later"],
)
def test_a_disk_that_refuses_in_the_middle(
    bare_muster: BareMuster,
    launch: list[object],
    calm: tuple[Path, Any],
    tmp_path: Path,
    code: int,
    part: str,
    after: int,
    struck: Struck,
) -> None:
    store = tmp_path / "store"
    refusing = Refusing(code, part, after)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files_module, "_write_synced", refusing)
        ran = bare_muster(*launch, "--storage", store, code=None)
    assert refusing.refused > 0
    assert ran.code == 2, ran.err
    assert os.strerror(code) in ran.err
    assert str(store) in ran.err
    assert ran.document["state"] == "failed"
    nothing_is_half_written(store)
    answer = bare_muster("resume", "one", "--storage", store, "--json").document
    the_same(calm, store, answer)
    struck.faults = refusing.refused
    struck.count(store, asked=2)


@pytest.mark.drill("c: the store deleted in the middle")
@pytest.mark.parametrize(
    "when", ["embeddings", *(pytest.param(when, marks=pytest.mark.long) for when in ("attempts", "gathered"))]
)
def test_a_store_that_is_deleted_in_the_middle(
    bare_muster: BareMuster,
    launch: list[object],
    calm: tuple[Path, Any],
    tmp_path: Path,
    when: str,
    struck: Struck,
) -> None:
    store = tmp_path / "store"
    write, deleted = files_module._write_synced, list[bool]()

    def deleting(path: Path, data: bytes) -> None:
        write(path, data)
        if when in str(path.parent) and not deleted:
            deleted.append(True)
            shutil.rmtree(store)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files_module, "_write_synced", deleting)
        ran = bare_muster(*launch, "--storage", store, code=None)
    assert deleted
    assert ran.code == 2, ran.err
    assert str(store) in ran.err
    nothing_is_half_written(store)
    assert "There is no run one" in bare_muster("status", "one", "--storage", store, code=2).err
    answer = bare_muster(*launch, "--storage", store).document
    the_same(calm, store, answer)
    struck.faults = len(deleted)
    struck.count(store, asked=2)
