"""The store: what is where, and what may be trusted. The one owner of every file name.

    packs/<digest>/            pixels.bin, index.parquet, DONE.json
    packs/sources/<digest>.json
    weights/<sha256>.safetensors               initial weights, by content
    models/<key>/spec.json                     what was asked
    models/<key>/attempts/<id>/                epoch checkpoints, weights, history: an attempt writes only here
    models/<key>/DONE.json                     last: names the attempt, its files and their checksums
    models/<key>/embeddings/<digest>/          vectors.parquet and a DONE.json
    runs/<run>/                                run.json, plan.json, events/, logs/, gathered/, metrics.json, ...
    runs/<run>/turns/                          whose turn it is to write the run
    runs/<run>/DONE.json                       last: the files of the newest answer and their checksums

A folder without its DONE.json does not exist for a reader. A late or doubled attempt can overwrite nothing
of another's; the first to put DONE.json is the one that counts.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from muster.workers.errors import CorruptFileError
from muster.workers.store import documents
from muster.workers.store.files import Files
from muster.workers.store.records import Done
from muster.workers.store.runs import RUN_NAME, RunFolder, check_run_name

_CHECKPOINT = re.compile(r"epoch-(\d+)(?:\.(\d+))?-([0-9a-f]{16})\.safetensors")


@dataclass(frozen=True)
class Folder:
    """A folder of the store that is committed by its DONE.json."""

    form: ClassVar[documents.Form] = documents.DONE
    files: Files
    name: str

    def __truediv__(self, name: str) -> str:
        return f"{self.name}/{name}"

    def done(self) -> Done | None:
        """The commit record, or None. Raises CorruptFileError if it can't be parsed."""
        data = self.files.find(self / "DONE.json")
        if data is None:
            return None
        where = self.files.path(self / "DONE.json")
        try:
            found = Done.from_json(data, self.form)
        except ValueError as error:
            raise CorruptFileError(f"{where} is damaged: {error}.") from error
        for name, own in self.own.items():
            if found.facts.get(name, own) != own:
                raise CorruptFileError(
                    f"{where} is damaged: it is that of another {name}, {found.facts[name]}."
                )
        return found

    @property
    def own(self) -> dict[str, str]:
        """What its record must say of it, if it says anything."""
        return {}

    def commit(self, done: Done) -> bool:
        """Puts the commit record, as the last act; False if another attempt was first."""
        return self.files.create(self / "DONE.json", done.to_json())

    def distrust(self) -> None:
        """Forgets a result that proved damaged, so that it is made again."""
        self.files.delete(self / "DONE.json")

    def get(self, name: str, done: Done) -> bytes:
        """A committed file, checked. Raises CorruptFileError if it is damaged or gone."""
        if name not in done.files or not self.files.exists(self / name):
            raise CorruptFileError(f"{self.files.path(self / name)} is promised by DONE.json and missing.")
        return self.files.get(self / name, done.files[name])


class PackFolder(Folder):
    """A pack's folder."""

    form = documents.PACK

    @property
    def own(self) -> dict[str, str]:
        return {"pack": self.name.rpartition("/")[2]}


class VectorsFolder(Folder):
    """Where vectors are."""

    form = documents.VECTORS

    @property
    def own(self) -> dict[str, str]:
        _, key, _, digest = self.name.split("/")
        return {"key": key, "target": digest}


class CheckpointFile(NamedTuple):
    """A checkpoint by its name, which tells how far it is and, once it is read, whether it is whole."""

    epoch: int
    "Epochs finished, or steps where a method counts in steps."
    steps: int
    "Steps after that."
    name: str
    "In the store."
    digest: str
    "The first 16 hex digits of its content's SHA-256."

    @classmethod
    def parse(cls, name: str) -> CheckpointFile | None:
        """From a name in the store; None for another file's."""
        match = _CHECKPOINT.fullmatch(name.rpartition("/")[2])
        return match and cls(int(match[1]), int(match[2] or 0), name, match[3])


@dataclass(frozen=True)
class ModelFolder(Folder):
    """One model's folder."""

    form: ClassVar[documents.Form] = documents.MODEL
    key: str

    @property
    def own(self) -> dict[str, str]:
        return {"key": self.key}

    @property
    def attempts(self) -> str:
        return self / "attempts"

    def attempt(self, attempt_id: str) -> str:
        return self / f"attempts/{attempt_id}"

    def checkpoint(self, attempt_id: str, epoch: int, digest: str, steps: int = 0) -> str:
        """The name of an attempt's checkpoint, after so many epochs and steps. One in the middle of an epoch has a name
        that older releases pass over."""
        middle = f".{steps:05d}" if steps else ""
        return f"{self.attempt(attempt_id)}/epoch-{epoch:03d}{middle}-{digest}.safetensors"

    def checkpoints(self, attempt_id: str | None = None) -> list[CheckpointFile]:
        """Those of one attempt, or of all: the newest epoch first."""
        attempts = [attempt_id] if attempt_id else self.files.names(self.attempts)
        names = [
            f"{self.attempt(one)}/{name}" for one in attempts for name in self.files.names(self.attempt(one))
        ]
        return sorted((found for name in names if (found := CheckpointFile.parse(name))), reverse=True)

    def reached(self) -> tuple[int, int]:
        """How far any attempt has come and saved: epochs, and steps after them; (0, 0) if none."""
        return next(((found.epoch, found.steps) for found in self.checkpoints()), (0, 0))

    def distrust(self) -> None:
        """Forgets the weights, and first the vectors: they belong to the weights they were computed with."""
        for digest in self.files.names(self / "embeddings"):
            self.embedding(digest).distrust()
        super().distrust()

    def embedding(self, digest: str) -> Folder:
        """Where the vectors of one split's images under one test view are."""
        return VectorsFolder(self.files, self / f"embeddings/{digest}")

    def sweep(self) -> None:
        """Deletes what attempts left that the commit record does not name. Call it only when none is running."""
        done = self.done()
        if done is None:
            return
        for attempt in self.files.names(self.attempts):
            if attempt != done.facts["attempt"]:
                self.files.delete_folder(self.attempt(attempt))
        for name in self.files.names(self.attempt(done.facts["attempt"])):
            if f"attempts/{done.facts['attempt']}/{name}" not in done.files:
                self.files.delete(f"{self.attempt(done.facts['attempt'])}/{name}")


class Store:
    """A root folder or URI, and the folders in it."""

    def __init__(self, root: str) -> None:
        self.files = Files(root)

    @property
    def root(self) -> str:
        return self.files.root

    def model(self, key: str) -> ModelFolder:
        return ModelFolder(self.files, f"models/{key}", key)

    def pack(self, digest: str) -> Folder:
        return PackFolder(self.files, f"packs/{digest}")

    def pack_source(self, digest: str) -> str:
        return f"packs/sources/{digest}.json"

    def pack_sources(self) -> list[str]:
        """The files of all that packs were made from."""
        return [f"packs/sources/{name}" for name in self.files.names("packs/sources")]

    def weights(self, digest: str) -> str:
        return f"weights/{digest}.safetensors"

    def run(self, run: str) -> RunFolder:
        """A run's folder. Raises UsageError if it can't be the name of one."""
        check_run_name(run)
        return RunFolder(self.files, run)

    def runs(self) -> list[str]:
        """The names of all runs, sorted."""
        return [name for name in self.files.names("runs") if RUN_NAME.fullmatch(name)]


def new_attempt_id() -> str:
    """A fresh name for an attempt; later ones sort after earlier ones."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + "-" + secrets.token_hex(3)
