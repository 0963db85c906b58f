"""Whole files in a folder or an object store: put at once or not at all, and checked when read.

Object stores have no rename, so nothing here relies on one: a file becomes visible by a single put, and on
a local disk by a rename within its own folder. What may be trusted is decided by `muster.workers.store.layout`; this
module knows nothing of models or runs.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.fs as pafs

from muster.workers.errors import CorruptFileError, MusterError, StoreError, said
from muster.workers.names import is_inner, is_text
from muster.workers.store.addresses import parse_address, without_secrets
from muster.workers.store.patience import OF_FILES, asked_again
from muster.workers.store.reading import Reader, open_root

CHUNK = 1 << 22
#: Letters of what a store says went wrong: Google's client tells whole stories.
MOST_CAUSE = 400
Found = TypeVar("Found")
#: Files of this name are being written, or were left by a writer that was killed.
SCRATCH = ".writing-"
#: Folders of a store down to this depth (packs/DIGEST, models/KEY, runs/RUN) may be links to another disk.
LINKED_DEPTH = 2
#: What file systems without hard links answer.
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


@dataclass(frozen=True)
class FileRecord:
    """What a commit record promises about a file."""

    size: int
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> FileRecord:
        return cls(len(data), hashlib.sha256(data).hexdigest())

    @classmethod
    def of_path(cls, path: Path) -> FileRecord:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256")
        return cls(path.stat().st_size, found.hexdigest())


class AbsentError(StoreError):
    """There is no such file."""


class Files:
    """A root folder (a path, or a URI that pyarrow.fs or fsspec opens) and the files below it.

    Every `name` is relative to the root, with forward slashes. All methods raise StoreError, naming the
    file and the cause, where the store can't be read or written; and before anything is touched where a name leads
    out of the root, as one in a store that was handed over may: upwards, to an absolute place, or through a link.
    """

    cure = "Check --storage: the folder or bucket must exist, be writable, and be seen by every node."
    error: type[StoreError] = StoreError
    "What is raised."

    def __init__(self, root: str) -> None:
        self.root = root
        self._fs, self._base = open_root(root)
        self.local_root = Path(self._base) if isinstance(self._fs, pafs.LocalFileSystem) else None
        foreign = isinstance(
            self._fs, pafs.PyFileSystem
        )  # packages of fsspec have errors of kinds of their own
        self._raised = (Exception,) if foreign else OF_FILES

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.root,))

    def path(self, name: str) -> str:
        """The full path or URI of a file, for people and for other programs; without a password."""
        if self.local_root is not None:
            return str(self.local_root / name)
        head, _, query = parse_address(self.root).bare.partition("?")
        return head.rstrip("/") + (f"/{name}" if name else "") + (f"?{query}" if query else "")

    def put(self, name: str, data: bytes) -> None:
        """Writes a file whole; a reader sees the old content or the new, never a part."""
        full = self._full(name, made=True)

        def write() -> None:
            if self.local_root is not None:
                with _beside(Path(full)) as temporary:
                    _write_synced(temporary, data)
                    os.replace(temporary, full)
                return
            with self._fs.open_output_stream(full) as stream:
                stream.write(data)

        self._trying("write", name, write)

    def move_in(self, name: str, source: Path) -> None:
        """Makes a local file the store's, visible when whole: renamed on the same disk, else copied and removed.
        If the copying fails, an object store may keep a part of it: trust what a record names, checked against it.
        """
        full = self._full(name, made=True)

        def write() -> None:
            if self.local_root is None:
                with source.open("rb") as file, self._fs.open_output_stream(full) as stream:
                    shutil.copyfileobj(file, stream, CHUNK)
                source.unlink()
                return
            with _beside(Path(full)) as temporary:
                shutil.move(source, temporary)
                os.replace(temporary, full)

        self._trying("write", name, write)

    def create(self, name: str, data: bytes) -> bool:
        """Writes a file only if there is none; False if there was one.

        Atomic on a local disk. An object store, and a disk without hard links, may let two writers both
        succeed, the later one winning; whoever calls this must be right in either case.
        """
        if self.local_root is None:
            if self.exists(name):
                return False
            self.put(name, data)
            return True
        full = Path(self._full(name, made=True))

        def write() -> bool:
            with _beside(full) as temporary:
                _write_synced(temporary, data)
                try:
                    os.link(temporary, full)
                except FileExistsError:
                    return False
                except OSError as error:
                    if error.errno not in NO_LINKS:
                        raise
                    if full.exists():
                        return False
                    os.replace(temporary, full)
                return True

        return self._trying("write", name, write)

    def get(self, name: str, record: FileRecord | None = None) -> bytes:
        """The content; with a record, checked against it. Raises CorruptFileError if it differs."""

        def read() -> bytes:
            with self._fs.open_input_stream(self._full(name)) as stream:
                return bytes(stream.read())

        data = self._trying("read", name, read)
        if record is not None and FileRecord.of(data) != record:
            raise CorruptFileError(
                f"{self.path(name)} is damaged: its content is not what its record promises."
            )
        return data

    def find(self, name: str) -> bytes | None:
        """The content, or None if there is no such file, or another process deletes it meanwhile."""
        with contextlib.suppress(AbsentError):
            return self.get(name) if self.exists(name) else None
        return None

    def fetch(self, name: str, target: Path, record: FileRecord) -> None:
        """Copies a file to local disk and checks it. Raises CorruptFileError if it differs, and OSError if
        the local disk can't be written."""
        with _beside(target) as temporary:
            with temporary.open("wb") as file:
                shutil.copyfileobj(self.open(name), file, CHUNK)
            if FileRecord.of_path(temporary) != record:
                raise CorruptFileError(
                    f"{self.path(name)} is damaged: its content is not what its record promises."
                )
            os.replace(temporary, target)

    def open(self, name: str) -> Reader:
        """A file that is read where it lies."""
        return Reader(
            lambda: self._fs.open_input_file(self._full(name)), lambda act: self._trying("read", name, act)
        )

    def exists(self, name: str) -> bool:
        return self._info(name) is not None

    def size(self, name: str) -> int | None:
        """A file's bytes, or None if there is no such file."""
        found = self._info(name)
        return None if found is None else int(found.size)

    def modified(self, name: str) -> float | None:
        """When a file was written by the store's own clock, in Unix seconds; None if there is no such file, or if the
        store doesn't know."""
        found = self._info(name)
        return found.mtime_ns / 1e9 if found is not None and (found.mtime_ns or 0) > 0 else None

    def now(self, folder: str) -> float | None:
        """The store's own clock, in Unix seconds; None where it tells no times. A file is written and deleted in
        `folder`; raises StoreError if that can't be done."""
        probe = f"{folder}/{SCRATCH}now-{uuid.uuid4().hex[:8]}"
        self.put(probe, b"")
        try:
            return self.modified(probe)
        finally:
            self.delete(probe)

    def _info(self, name: str) -> Any:
        """What the file system knows of a file; None if there is no such file."""
        found = self.info(name)
        return found if found.type == pafs.FileType.File else None

    def info(self, name: str) -> Any:
        """What the file system knows of a name: a file, a folder, or nothing (`pyarrow.fs.FileInfo`)."""
        return self._trying("read", name, lambda: self._fs.get_file_info(self._full(name)))

    def listing(self, folder: str, *, recursive: bool = False) -> list[Any]:
        """What is in a folder, or all that is below it, as it comes (`pyarrow.fs.FileInfo`)."""
        selector = pafs.FileSelector(self._full(folder), recursive=recursive)
        found: list[Any] = self._trying("list", folder, lambda: self._fs.get_file_info(selector))
        return found

    def relative(self, path: str) -> str:
        """A path of a listing, relative to the root."""
        return path[len(self._base) + 1 :]

    def record(self, name: str, size: int | None = None) -> FileRecord | None:
        """What a file is now; None if there is no such file, if another process deletes it meanwhile, or, where `size`
        is given, if it has not so many bytes."""
        there = self.size(name)
        if there is None or (size is not None and there != size):
            return None
        with contextlib.suppress(AbsentError):
            file = io.BufferedReader(self.open(name), CHUNK)  # few requests, as a store may be far
            return FileRecord(there, hashlib.file_digest(file, "sha256").hexdigest())
        return None

    def below(self, folder: str) -> Iterator[str]:
        """The names of all files below a folder, relative to it."""
        for name in self.names(folder):
            whole = f"{folder}/{name}" if folder else name
            if self.exists(whole):
                yield name
            else:
                yield from (f"{name}/{rest}" for rest in self.below(whole))

    def names(self, folder: str) -> list[str]:
        """The names of the files and folders directly below a folder, sorted, less the scratch files of writers; empty
        if there is no such folder. What is no text, would never end (a pipe) or is a link that is not followed was not
        put there by us."""

        def listed() -> list[str]:
            if self.local_root is not None:
                linked = folder.count("/") + bool(folder) < LINKED_DEPTH
                return _local_names(Path(self._full(folder)), linked=linked)
            selector = pafs.FileSelector(self._full(folder), allow_not_found=True)
            return sorted(
                info.base_name
                for info in self._fs.get_file_info(selector)
                if not info.base_name.startswith(SCRATCH)
            )

        return self._trying("list", folder, listed)

    def delete(self, name: str) -> None:
        """Deletes a file if it is there."""
        with contextlib.suppress(AbsentError):
            self._trying("delete", name, lambda: self._fs.delete_file(self._full(name, made=True)))

    def delete_folder(self, folder: str) -> None:
        """Deletes a folder and all below it, if it is there."""
        with contextlib.suppress(AbsentError):
            self._trying("delete", folder, lambda: self._fs.delete_dir(self._full(folder, made=True)))

    def check_writable(self) -> None:
        """Writes a small file and leaves no trace: below a local root that is not there yet it makes no folder, and
        tries the nearest one above. Raises StoreError with the cure if that fails."""
        if (root := self.local_root) is not None:
            self._trying("write", "", lambda: _try_folder(nearest_folder(root)))
            return
        probe = f"{SCRATCH}probe-{uuid.uuid4().hex[:8]}"
        self.put(probe, b"muster")
        self.get(probe)
        self.delete(probe)

    def _full(self, name: str, *, made: bool = False) -> str:
        """Where a file is, for the file system; `made`: the file itself is put or deleted, and may be a link, as that
        is done to the link."""
        if not name:
            return self._base
        if not is_inner(name):
            raise StoreError(
                f"{name!r} leads out of the store {self.path('')}: no file of that name is touched."
            )
        if self.local_root is not None:
            parts = name.split("/")
            for depth in range(LINKED_DEPTH + 1, len(parts) + (not made)):
                if os.path.islink(link := self.local_root.joinpath(*parts[:depth])):
                    raise StoreError(
                        f"{link} is a link. muster makes none in a store, and follows none at this depth: put what it "
                        "leads to in its place, or delete it."
                    )
        return f"{self._base}/{name}"

    def _trying(self, verb: str, name: str, act: Callable[[], Found]) -> Found:
        """What `act` returns; of a store behind a network, which is asked again for a while, it may be done twice."""
        try:
            return act() if self.local_root is not None else asked_again(act, self._raised)
        except MusterError:
            raise
        except self._raised as error:
            plain = str(error) if isinstance(error, OF_FILES) else ""
            text = getattr(error, "strerror", None) or plain or said(error)
            cause = without_secrets(text.splitlines()[0].rstrip("."), self.root)
            cause = cause if len(cause) <= MOST_CAUSE else f"{cause[:MOST_CAUSE]}..."
            kind = AbsentError if isinstance(error, FileNotFoundError) else self.error
            raise kind(f"Can't {verb} {self.path(name)}: {cause}. {self.cure}") from error


def _local_names(folder: Path, *, linked: bool) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.name
                for entry in entries
                if not entry.name.startswith(SCRATCH)
                and is_text(entry.name)
                and (entry.is_file(follow_symlinks=linked) or entry.is_dir(follow_symlinks=linked))
            )
    except FileNotFoundError:
        return []


def nearest_folder(folder: Path) -> Path:
    """A folder, or what there is of the path to it. Raises OSError where the path can't be followed: links that lead
    in a circle or nowhere, names that are too long."""
    for path in (folder, *folder.absolute().parents):
        try:
            path.stat()
        except FileNotFoundError:
            if path.is_symlink():
                raise
        except NotADirectoryError:
            continue
        else:
            return path
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))


def _try_folder(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"muster")
        file.flush()


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A scratch name in the target's folder, gone at the end whatever happens."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f"{SCRATCH}{uuid.uuid4().hex}"
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
