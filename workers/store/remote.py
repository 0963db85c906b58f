"""Paths behind an address: what readers of pictures ask of `pathlib.Path`, for an object store.

Folders are listed whole and kept, since an object store answers one question about a thousand files as fast as about
one: what a `RemotePath` says of files is what was so when their folder was listed first.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple
from urllib.parse import unquote

import pyarrow.fs as pafs

from muster.workers.errors import SourceError, StoreError
from muster.workers.parallel import in_order
from muster.workers.store.addresses import parse_address
from muster.workers.store.files import AbsentError, Files

#: Requests that wait for answers at once.
AT_ONCE = 16
#: Bytes that are read at once where little of a file is wanted, and where all of it is.
HEADER, BUFFER = 1 << 16, 1 << 20


class Stat(NamedTuple):
    """A file's size, and when it was written, in nanoseconds; 0 where the store does not say."""

    st_size: int
    st_mtime_ns: int


class Folder(NamedTuple):
    """What is directly in a folder."""

    files: dict[str, Stat]
    folders: set[str]


class _SourceFiles(Files):
    cure = (
        "Check --data-root or --list: the bucket must exist, and your credentials let it be listed and read."
    )
    error = SourceError


class Tree:
    """The files below an address, as far as they were listed."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.files = _SourceFiles(address)
        self.known: dict[str, Folder] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return (Tree, (self.address,))

    def folder(self, name: str) -> Folder:
        """A folder's files and folders. Raises StoreError."""
        if name not in self.known:
            self._take(name, self.files.listing(name))
        return self.known[name]

    def look(self, names: Iterable[str]) -> None:
        """Lists folders, many at once; one that is not there is empty."""
        missing = [name for name in names if name not in self.known]
        for name, found in in_order(self._or_nothing, missing, AT_ONCE):
            self._take(name, found)

    def walk(self, tell: Callable[[int], None]) -> None:
        """Lists all that there is, many folders at once. Raises StoreError."""
        top = self.folder("")
        seen = len(top.files)
        below = in_order(lambda name: self.files.listing(name, recursive=True), sorted(top.folders), AT_ONCE)
        for name, found in below:
            self._take(name, found, whole=True)
            seen += len(found)
            tell(seen)

    def _or_nothing(self, name: str) -> list[Any]:
        try:
            return self.files.listing(name)
        except StoreError:
            if self.files.info(name).type == pafs.FileType.NotFound:
                return []
            raise

    def _take(self, top: str, found: Iterable[Any], *, whole: bool = False) -> None:
        """Keeps the listing of a folder; `whole`: with all that is below it."""
        made = {top: Folder({}, set())}

        def at(name: str) -> Folder:
            if name not in made:  # some stores name no folder, only what is in it
                made[name] = Folder({}, set())
                above, _, last = name.rpartition("/")
                at(above).folders.add(last)
            return made[name]

        for info in found:
            name = self.files.relative(info.path)
            above, _, last = name.rpartition("/")
            if info.type != pafs.FileType.Directory:
                at(above).files[last] = Stat(info.size or 0, info.mtime_ns or 0)
            elif whole:
                at(name)
            else:
                at(above).folders.add(last)
        self.known.update(made)


class RemotePath:
    """A file or folder behind an address, as `pathlib` has those of disks. All that asks the store raises StoreError.

    As text it has neither secrets nor options of the address.
    """

    def __init__(self, tree: Tree, inner: str = "") -> None:
        self.tree, self.inner = tree, inner

    def __str__(self) -> str:
        top = parse_address(self.tree.address).bare.partition("?")[0].rstrip("/")
        return f"{top}/{self.inner}" if self.inner else top

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[str, str]:
        return self.tree.address.partition("?")[2], str(self)

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self.tree, f"{self.inner}/{name}" if self.inner else name)

    @property
    def _pure(self) -> PurePosixPath:
        return PurePosixPath(str(self))

    @property
    def name(self) -> str:
        return self._pure.name

    @property
    def suffix(self) -> str:
        return self._pure.suffix

    @property
    def parent(self) -> RemotePath:
        if self.inner:
            return RemotePath(self.tree, self.inner.rpartition("/")[0])
        place, mark, query = self.tree.address.partition("?")
        return RemotePath(Tree(place.rstrip("/").rpartition("/")[0] + mark + query))

    def absolute(self) -> RemotePath:
        return self

    def is_dir(self) -> bool:
        known = self._listed()
        if known is not None:
            return self.name in known.folders
        return bool(self.tree.files.info(self.inner).type == pafs.FileType.Directory)

    def is_file(self) -> bool:
        known = self._listed()
        if known is not None:
            return self.name in known.files
        return self.tree.files.exists(self.inner)

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def stat(self) -> Stat:
        """Raises FileNotFoundError if there is no such file."""
        if not self.inner:  # a file by itself
            info = self.tree.files.info("")
            return Stat(info.size or 0, info.mtime_ns or 0)
        above, _, last = self.inner.rpartition("/")
        found = self.tree.folder(above).files.get(last)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        return found

    def iterdir(self) -> Iterator[RemotePath]:
        found = self.tree.folder(self.inner)
        return (self / name for name in (*found.files, *found.folders))

    def look(self, folders: Iterable[str]) -> None:
        """Lists folders below it, many at once, that are going to be asked for."""
        self.tree.look(f"{self.inner}/{name}".strip("/") for name in folders)

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """For reading, as `pathlib.Path.open`: text, or bytes ("rb")."""
        raw = self.tree.files.open(self.inner)
        if mode == "rb":
            return io.BufferedReader(raw, HEADER) if buffering else raw  # type: ignore[return-value]
        return io.TextIOWrapper(io.BufferedReader(raw, BUFFER), encoding, errors, newline)

    def read_bytes(self) -> bytes:
        """Raises FileNotFoundError if there is no such file."""
        try:
            return self.tree.files.get(self.inner)
        except AbsentError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self)) from error

    def _listed(self) -> Folder | None:
        """The folder that it would be in, if that was listed."""
        return self.tree.known.get(self.inner.rpartition("/")[0]) if self.inner else None


AnyPath = Path | RemotePath


def place(given: str) -> AnyPath:
    """A file or folder as people give it: a path, or an address. Raises StoreError for one that nothing opens."""
    scheme, separator, path = given.partition("://")
    if not separator:
        return Path(given).expanduser()
    if scheme == "file":
        return Path(unquote(path))
    return RemotePath(Tree(given))


def no_folder(root: AnyPath) -> str:
    """What to say of a data root that is none. An object store has no empty folders: nothing is below that name."""
    if isinstance(root, RemotePath):
        return f"There is nothing at {root}: is the bucket called so, and the path in it?"
    return f"The data root {root} is not a folder."


def inner_name(path: AnyPath, root: AnyPath) -> str | None:
    """A path's name below a root, with / between its parts; None if it is not below it."""
    whole, top = str(path), str(root).rstrip("/")
    if isinstance(path, RemotePath) != isinstance(root, RemotePath):
        return None
    if isinstance(path, Path) and isinstance(root, Path):
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else None
    return whole[len(top) + 1 :] if whole.startswith(f"{top}/") else None
