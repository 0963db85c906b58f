"""What a model is asked for, and what the store has of it.

Nothing here computes, and torch is not loaded: plans, the fleet and reports read commit records and never a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from muster.workers.errors import CorruptFileError
from muster.workers.spec import ModelSpec, TestView, embedding_digest
from muster.workers.store.documents import HISTORY, check_form
from muster.workers.store.layout import Folder, ModelFolder, Store
from muster.workers.store.parquet import read_table
from muster.workers.store.records import Done

#: Where a training's images are: in the device's memory, cut by the host at each step, or what fits.
InputPlace = Literal["auto", "device", "host"]


@dataclass(frozen=True, kw_only=True)
class Images:
    """Some classes of a pack, in the order of their labels; the digest is of what they must hold."""

    pack: str
    class_ids: tuple[int, ...] | None
    "None: all classes."
    digest: str


@dataclass(frozen=True, kw_only=True)
class Target:
    """Vectors that are wanted: of which images, under which view."""

    split: str
    images: Images
    view: TestView

    @property
    def digest(self) -> str:
        return embedding_digest(self.images.digest, self.view)


@dataclass(frozen=True, kw_only=True)
class MemberTask:
    """What a member is asked for: weights, and vectors computed with them. A single model is a member by itself."""

    spec: ModelSpec
    train: Images
    targets: tuple[Target, ...]
    ranks: int = 1
    "Processes that train it together; its weights do not depend on them."
    checkpoint_steps: int = 500
    "Where several train together: steps between two checkpoints."
    input: InputPlace = "auto"
    "Where its images are while it trains; its weights do not depend on that."
    inputs: tuple[MemberTask, ...] = ()
    "The models, and the vectors of them, that it is trained from: they are made first."

    @property
    def key(self) -> str:
        return self.spec.key


def missing(store: Store, task: MemberTask) -> tuple[bool, list[Target]]:
    """Whether the weights are missing, and which of the wanted vectors are. Reads commit records only; a
    damaged one counts as missing."""
    folder = store.model(task.key)
    if not finished(folder):
        return True, list(task.targets)
    return False, [target for target in task.targets if not finished(folder.embedding(target.digest))]


def finished(folder: Folder) -> bool:
    """Whether it has a commit record that can be read."""
    try:
        return folder.done() is not None
    except CorruptFileError:
        return False


def read_history(folder: ModelFolder, done: Done) -> list[dict[str, Any]]:
    """A finished model's rows of history, one for each epoch. Raises CorruptFileError."""
    name = f"attempts/{done.facts['attempt']}/history.parquet"
    where = folder.files.path(folder / name)
    rows: list[dict[str, Any]] = read_table(folder.get(name, done), where).to_pylist()
    try:
        check_form(rows, HISTORY)
    except ValueError as error:
        raise CorruptFileError(f"{where} is damaged: {error}.") from error
    return rows
