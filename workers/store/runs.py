"""A run's folder: what was asked, what came out, and a record that promises all of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muster.workers.errors import ChangedFileError, DamagedRunError, UsageError
from muster.workers.store import documents
from muster.workers.store.files import FileRecord, Files
from muster.workers.store.records import Done, parse_json, unvouched, vouched

#: A run's name becomes a folder, a part of a job's id, of log files and of URLs.
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


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
            return unvouched(found)
        except ValueError as error:
            raise self.damaged(name, str(error)) from error

    def get(self, name: str, record: Mapping[str, FileRecord]) -> bytes | None:
        """A file of the run; None if it is not there.

        Raises ChangedFileError if the `record` promises it, and it is gone or another one.
        """
        data = self.files.find(self / name)
        if data is None and name in record:
            raise ChangedFileError(str(self.damaged(name, "it is gone")))
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
        deleted, so that nobody goes on from it; of shards only their sizes are looked at. The names of what was.

        Where there is no record, what can't vouch for itself and can be made anew goes as well.
        """
        try:
            promised = self.record()
        except DamagedRunError:
            promised = {}
        for name in [] if promised else self.files.names(f"runs/{self.run}"):
            if name.startswith("queries") and name.endswith(".parquet"):
                self.files.delete(self / name)
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

    @property
    def begun(self) -> bool:
        """Whether it has come as far as a plan: what it is then bound to stays."""
        return any(self.files.exists(self / name) for name in ("plan.json", "DONE.json"))

    def place(self, name: str) -> str:
        """The full path or URI of a file of the run."""
        return self.files.path(self / name)

    def kept(self, paths: Mapping[str, str]) -> dict[str, str]:
        """Full paths of files of the run, as they are kept: relative to the run, which may be moved."""
        return {what: path.rpartition(f"/runs/{self.run}/")[2] for what, path in paths.items()}

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

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """A JSON object, which vouches for itself."""
        self.files.put(self / name, vouched(value))

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


def check_run_name(name: str) -> None:
    """Raises UsageError if a run can't have this name."""
    if not RUN_NAME.fullmatch(name):
        raise UsageError(
            f"name = {name!r}: a run's name has at most 100 letters from A to Z, digits, '.', '_' and '-', and begins "
            "with a letter or a digit."
        )
