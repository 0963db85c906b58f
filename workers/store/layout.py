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

import dataclasses
import hashlib
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from muster.workers.errors import (
    ChangedFileError,
    CorruptFileError,
    DamagedRunError,
    LackingFactError,
    UsageError,
)
from muster.workers.store import documents
from muster.workers.store.files import FileRecord, Files

#: What a commit record says of its own content, so that a digit of it that changes is found.
CHECK = "check"
#: A run's name becomes a folder, a part of a job's id, of log files and of URLs.
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CHECKPOINT = re.compile(r"epoch-(\d+)(?:\.(\d+))?-([0-9a-f]{16})\.safetensors")


class Facts(dict[str, Any]):
    """What a commit record says beside its files. Raises LackingFactError for what it does not say."""

    def __missing__(self, name: str) -> Any:
        raise LackingFactError(f"A commit record (DONE.json) is damaged: it lacks {name}.")


@dataclass(frozen=True)
class Done:
    """A commit record: which files hold the result, and what else is worth knowing about it."""

    files: dict[str, FileRecord]
    "By name relative to the folder of the record."
    facts: dict[str, Any]

    def to_json(self) -> bytes:
        files = {name: dataclasses.asdict(record) for name, record in self.files.items()}
        found = {**self.facts, "files": files}
        return to_json({**found, CHECK: _check(found)})

    @classmethod
    def from_json(cls, data: bytes, form: documents.Form = documents.DONE) -> Done:
        """Raises ValueError if it has not the form, or is not what was written; older ones vouch for nothing."""
        facts = Facts(parse_json(data, form))
        promised = facts.pop(CHECK, None)
        if promised is not None and promised != _check(facts):
            raise ValueError("its content is not what it was when it was written")
        files = facts.pop("files").items()
        return cls({name: FileRecord(record["size"], record["sha256"]) for name, record in files}, facts)


def _check(facts: dict[str, Any]) -> str:
    """The first 16 hex digits of the SHA-256 of a record's content."""
    return hashlib.sha256(to_json(facts)).hexdigest()[:16]


def parse_json(data: bytes | str, form: documents.Form | None = None) -> Any:
    """JSON of the store, parsed; with a form, of that form. Raises ValueError for whatever is not, also where it is
    nested too deeply."""
    try:
        found = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if form is not None:
        documents.check_form(found, form)
    return found


def to_json(value: Any) -> bytes:
    """The one spelling of JSON files in the store: indented, for people."""
    return (json.dumps(value, indent=1, default=str) + "\n").encode()


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
        try:
            return Done.from_json(data, self.form)
        except ValueError as error:
            raise CorruptFileError(f"{self.files.path(self / 'DONE.json')} is damaged: {error}.") from error

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


class VectorsFolder(Folder):
    """Where vectors are."""

    form = documents.VECTORS


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


@dataclass(frozen=True)
class RunFolder:
    """One run's folder: the record of what was asked and what came out."""

    files: Files
    run: str

    def __truediv__(self, name: str) -> str:
        return f"runs/{self.run}/{name}"

    def read(self, name: str, *keys: str) -> Any:
        """A JSON object of the run, parsed; None if it is not there.

        Raises DamagedRunError if it is no JSON object, if one of the `keys` is not in it, if what it says has not the
        form that `documents.RUN_FILES` gives it, or if it is not what was written.
        """
        data = self.get(name, self.record())
        if data is None:
            return None
        try:
            found = parse_json(data)
        except ValueError as error:
            raise self.damaged(name, f"it is no JSON ({error})" if data else "it is empty") from error
        if not isinstance(found, dict):
            raise self.damaged(name, "it holds no JSON object")
        if absent := [key for key in keys if key not in found]:
            raise self.damaged(name, f"it lacks {' and '.join(absent)}")
        manifest = name.startswith("gathered/")
        try:
            documents.check_form(found, documents.MANIFEST if manifest else documents.RUN_FILES.get(name, {}))
        except ValueError as error:
            raise self.damaged(name, str(error)) from error
        return found

    def get(self, name: str, record: Mapping[str, FileRecord]) -> bytes | None:
        """A file of the run; None if it is not there. Raises ChangedFileError if the `record` promises another one."""
        data = self.files.find(self / name)
        if data is not None and name in record and FileRecord.of(data) != record[name]:
            raise ChangedFileError(
                str(self.damaged(name, "its content is not what the run's DONE.json promises"))
            )
        return data

    def changed(self, name: str, record: Mapping[str, FileRecord]) -> bool:
        """Whether a file is promised by the `record` and is not there, or is another one."""
        return name in record and self.files.record(self / name, record[name].size) != record[name]

    def record(self) -> dict[str, FileRecord]:
        """What a finished run's files are, by name; empty while it is not finished, and of an older store's run.

        Raises DamagedRunError.
        """
        data = self.files.find(self / "DONE.json")
        if data is None:
            return {}
        try:
            return Done.from_json(data).files
        except ValueError as error:
            raise self.damaged("DONE.json", str(error)) from error

    def unseal(self) -> list[str]:
        """Its files are about to be written anew: none is promised until they are. What is not as it was promised is
        deleted, so that nobody goes on from it; of shards only their sizes are looked at. The names of what was."""
        try:
            promised = self.record()
        except DamagedRunError:
            promised = {}
        found = self.spoilt(promised)
        for name in found:
            if name != "plan.json":  # that there is one says that the run was begun, and is bound
                self.files.delete(self / name)
        self.files.delete(self / "DONE.json")
        return found

    def spoilt(self, promised: Mapping[str, FileRecord]) -> list[str]:
        """Which of its files are gone or are not what was promised; of shards only their sizes are looked at."""

        def is_spoilt(name: str) -> bool:
            if name.startswith("gathered/") and name.endswith(".parquet"):
                return self.files.size(self / name) != promised[name].size
            return self.changed(name, promised)

        return [name for name in promised if is_spoilt(name)]

    def seal(self, facts: dict[str, Any], known: Mapping[str, FileRecord]) -> None:
        """Records what its files are now, as the last act; `known` are large ones that need not be read for it.

        Of events it has the `known` ones, those of the newest attempt: there are many, and older ones are not read.
        What `muster correlation` leaves is written anew whenever it is asked, and is no part of it.
        """
        aside = ("DONE.json", "correlation-", "events/", "turns/")
        names = [name for name in self.files.below(f"runs/{self.run}") if not name.startswith(aside)]
        files = {name: record for name, record in known.items() if name.startswith("events/")}
        for name in names:
            record = known.get(name) or self.files.record(self / name)
            if record is not None:
                files[name] = record
        self.files.put(self / "DONE.json", Done(files, facts).to_json())

    def place(self, name: str) -> str:
        """The full path or URI of a file of the run."""
        return self.files.path(self / name)

    def kept(self, paths: Mapping[str, str]) -> dict[str, str]:
        """Full paths of files of the run, as they are kept: relative to the run, which may be moved."""
        return {what: path.partition(f"/runs/{self.run}/")[2] or path for what, path in paths.items()}

    def found(self, paths: Mapping[str, str]) -> dict[str, str]:
        """What `kept` keeps, as full paths of where the run lies now; also of older stores, which kept those."""
        return {what: self.place(path) for what, path in self.kept(paths).items()}

    def damaged(self, name: str, cause: str) -> DamagedRunError:
        """What to raise for a file of the run that can't be used: where it is, why, and what to do."""
        cure = f"Delete it: muster resume {self.run} writes it anew."
        if name.startswith("logs/"):
            cure = "It can't be written anew: delete it."
        if name == "run.json":  # it alone says what was asked
            folder = self.files.path(f"runs/{self.run}")
            cure = (
                f"Put a whole copy back, or delete {folder} and launch again: finished models are found in the "
                "store."
            )
        return DamagedRunError(f"{self.place(name)} is damaged: {cause}. {cure}")

    def write(self, name: str, value: Any) -> None:
        self.files.put(self / name, to_json(value))

    def log(self, key: str, attempt: str) -> str:
        return self / f"logs/{key}-{attempt}.log"

    def gathered(self, split: str) -> str:
        """The folder of a split's shards, which holds nothing else."""
        return self / f"gathered/{split}"

    def manifest(self, split: str) -> dict[str, Any] | None:
        """What the shards of a split are: beside their folder; in older stores it lies in it. None where there is none,
        or none that can be used."""
        for name in (f"gathered/{split}.json", f"gathered/{split}/manifest.json"):
            try:
                found: dict[str, Any] | None = self.read(name, "digest", "shards")
            except DamagedRunError:
                continue
            if found is not None:
                return found
        return None


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

    def weights(self, digest: str) -> str:
        return f"weights/{digest}.safetensors"

    def run(self, run: str) -> RunFolder:
        """A run's folder. Raises UsageError if it can't be the name of one."""
        check_run_name(run)
        return RunFolder(self.files, run)

    def runs(self) -> list[str]:
        """The names of all runs, sorted."""
        return [name for name in self.files.names("runs") if RUN_NAME.fullmatch(name)]


def check_run_name(name: str) -> None:
    """Raises UsageError if a run can't have this name."""
    if not RUN_NAME.fullmatch(name):
        raise UsageError(
            f"name = {name!r}: a run's name has at most 100 letters from A to Z, digits, '.', '_' and '-', and begins "
            "with a letter or a digit."
        )


def new_attempt_id() -> str:
    """A fresh name for an attempt; later ones sort after earlier ones."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + "-" + secrets.token_hex(3)
