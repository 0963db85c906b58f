"""The one walk through a data root: every file and link below it is taken as a picture, or left out for a reason.

Nothing is decoded. A file is a picture by its suffix or, where that says nothing, by its first bytes. Folders are
listed once, each by itself, and links are followed only where classes are expected: at the root, and in a folder that
is named like a split. An object store is listed whole, many folders at once; it has no links.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from muster.workers.datasets.own import account as why
from muster.workers.datasets.own.account import Account
from muster.workers.datasets.own.splits import SPLITS
from muster.workers.datasets.pictures import HEAD, HEIC_SUFFIXES, is_picture, suffixes
from muster.workers.names import is_text
from muster.workers.store.remote import AnyPath, RemotePath
from muster.workers.watch import Tell, watched

#: What programs leave in folders of pictures, beside all that is hidden: a NAS's thumbnails and bins, what archives
#: hold of Macs, Windows' and camera's own files.
LITTER = frozenset({
    "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "__macosx", "$recycle.bin", "recycler",
    "system volume information", "lost+found", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
    "network trash folder", "temporary items", "picasa.ini",
})  # fmt: skip
#: Copies of editors, and what was never finished.
LITTER_ENDS = ("~", ".tmp", ".part", ".partial", ".crdownload", ".swp", ".bak")
#: Their first bytes need not be read.
NO_PICTURES = frozenset(
    ".txt .csv .tsv .json .jsonl .xml .yaml .yml .md .html .htm .pdf .svg .eps .ps .wav .mp3 .ogg .flac .mp4 .avi .mov "
    ".mkv .webm .zip .gz .tar .tgz .bz2 .xz .7z .rar .py .ipynb .mat .npy .npz .pt .pth .h5 .parquet .db .lock .log "
    ".doc .docx .xls .xlsx .ini .sh .dat .safetensors .tfrecord".split()
)
RAW = frozenset(".cr2 .cr3 .nef .arw .dng .orf .rw2 .raf .srw .pef".split())
#: What a store of ours holds at its top.
STORE_PARTS = frozenset({"packs", "models", "runs", "weights"})


@dataclass
class Found:
    """What a scan found. Names are relative to the root, with / between their parts."""

    root: AnyPath
    account: Account = field(default_factory=Account)
    folders: dict[str, list[str]] = field(default_factory=dict)
    "The pictures of each folder at the top, relative to it, sorted; none of a folder without any."
    dangling: list[str] = field(default_factory=list)
    "Links that lead nowhere, where a picture or a class could have been."
    unread: list[str] = field(default_factory=list)
    "Folders and files that can't be read, with the cause."
    heic: list[str] = field(default_factory=list)
    "Pictures that need a package that is not here."
    odd: list[str] = field(default_factory=list)
    "Names that are no text."

    @cached_property
    def named(self) -> dict[str, str]:
        """The top folders that are named like a split, and which."""
        return {name: SPLITS[name.casefold()] for name in self.folders if name.casefold() in SPLITS}

    def has_classes(self, name: str) -> bool:
        """Whether a top folder holds folders of pictures, and no picture itself."""
        return bool(self.folders[name]) and all("/" in picture for picture in self.folders[name])


def scan(root: AnyPath) -> Found:
    """Walks through a data root. Raises OSError if the root itself can't be listed, and StoreError where an object
    store can't."""
    with watched("files seen") as tell:
        if isinstance(root, RemotePath):
            root.tree.walk(tell)
            walk = _Walk(root, _Remote(root), lambda number: None)
        else:
            walk = _Walk(root, _Disk(str(root)), tell)
        walk.top()
    return walk.found


class _Entry(Protocol):
    """What is in a folder and no file, as `os.DirEntry` has it."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> str: ...
    def is_dir(self, *, follow_symlinks: bool = True) -> bool: ...
    def is_symlink(self) -> bool: ...


class _Place(Protocol):
    """Where a walk goes. Folders are named relative to the root."""

    def entries(self, folder: str) -> tuple[list[str], list[_Entry]]:
        """The names of the files in a folder, and what else is in it. Raises OSError."""
        ...

    def head(self, name: str) -> bytes:
        """The first bytes of a file. Raises OSError."""
        ...


class _Disk:
    def __init__(self, root: str) -> None:
        self.root = root

    def entries(self, folder: str) -> tuple[list[str], list[_Entry]]:
        others: list[_Entry] = []
        beside = others.append  # gives None
        with os.scandir(f"{self.root}/{folder}" if folder else self.root) as listing:
            files = [one.name for one in listing if one.is_file(follow_symlinks=False) or beside(one)]
        return files, others

    def head(self, name: str) -> bytes:
        with open(f"{self.root}/{name}", "rb") as file:
            return file.read(HEAD)


class _Remote:
    def __init__(self, root: RemotePath) -> None:
        self.root = root

    def entries(self, folder: str) -> tuple[list[str], list[_Entry]]:
        found = self.root.tree.known.get(folder)  # all that there is was listed
        if found is None:
            raise FileNotFoundError(folder)
        return list(found.files), [_RemoteFolder(name) for name in found.folders]

    def head(self, name: str) -> bytes:
        with (self.root / name).open("rb") as file:
            return bytes(file.read(HEAD))


@dataclass(frozen=True)
class _RemoteFolder:
    name: str
    path = ""

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return True

    def is_symlink(self) -> bool:
        return False


class _Walk:
    def __init__(self, root: AnyPath, place: _Place, tell: Tell) -> None:
        self.found, self.place, self.tell, self.seen = Found(root), place, tell, 0
        self.account = self.found.account
        self.real_root = os.path.realpath(str(root))
        self.known = suffixes()
        self.quick = {spelled for one in self.known if len(one) == 4 for spelled in (one, one.upper())}

    def top(self) -> None:
        """Goes through the folders at the top, each with all that is below it."""
        for name in self._listed("", None, follow=True):
            pictures: list[str] = []
            is_split = name.casefold() in SPLITS
            inner = self._listed(name, pictures, len(name) + 1, follow=is_split)
            waiting = [f"{name}/{below}" for below in reversed(inner)]
            while waiting:
                folder = waiting.pop()
                below = self._listed(folder, pictures, len(name) + 1)
                waiting += [f"{folder}/{one}" for one in reversed(below)]
            pictures.sort()
            self.found.folders[name] = pictures
            if not pictures:
                self.account.empty.append(name)
            elif is_split and self.found.has_classes(name):
                stocked = {picture.partition("/")[0] for picture in pictures}
                self.account.empty += [f"{name}/{one}" for one in inner if one not in stocked]

    def _listed(
        self, folder: str, pictures: list[str] | None, cut: int = 0, *, follow: bool = False
    ) -> list[str]:
        """The folders to go on with, sorted; files are taken into `pictures`, named without the first `cut` letters."""
        prefix = f"{folder}/" if folder else ""
        inside, folders = prefix[cut:], []
        # Lists at once, since there may be a million: most names are files whose last four letters say all.
        files, others = self._entries(folder)
        taken = [one for one in files if one[-4:] in self.quick] if pictures is not None else []
        together = "/" + "/".join(taken)
        if "/." in together or not together.isascii():
            taken = [name for name in taken if name[0] != "." and name.isascii()]
        if pictures is not None:
            pictures += [inside + name for name in taken] if inside else taken
            self.account.taken += len(taken)
        if len(taken) < len(files):
            for name in sorted(set(files).difference(taken)):
                self._file(name, prefix, inside, pictures)
        for entry in others:
            name = entry.name
            if not is_text(name):
                self.found.odd.append(prefix + name)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(name)
            elif not entry.is_symlink():
                self.account.leave(why.NO_FILE, prefix + name)
            elif os.path.isfile(entry.path):
                self._file(name, prefix, inside, pictures)
            elif self._link(entry, prefix + name, follow):
                folders.append(name)
        return sorted(self._meant(prefix, folders))

    def _entries(self, folder: str) -> tuple[list[str], list[_Entry]]:
        """The names of the files in a folder, and what else is in it; nothing of one that can't be listed, which is
        noted. Raises OSError for the root."""
        try:
            files, others = self.place.entries(folder)
        except OSError as error:
            if not folder:
                raise
            self.found.unread.append(f"{folder}: {error.strerror}")
            return [], []
        self.seen += len(files)
        self.tell(self.seen)
        return files, others

    def _meant(self, prefix: str, folders: list[str]) -> Iterator[str]:
        """The folders that may hold pictures; the others are counted and left out."""
        store = not STORE_PARTS.isdisjoint(folders) and self._is_store(prefix)
        for name in folders:
            if name[0] == "." or name.casefold() in LITTER:
                self.account.leave_many(why.LITTER, self._count(prefix + name), prefix + name)
            elif store and name in STORE_PARTS:
                self.account.leave_many(why.OWN_STORE, self._count(prefix + name), prefix + name)
            else:
                yield name

    def _file(self, name: str, prefix: str, inside: str, pictures: list[str] | None) -> None:
        """Takes a file, or leaves it out."""
        whole, suffix = prefix + name, os.path.splitext(name)[1].lower()
        if not is_text(name):
            self.found.odd.append(whole)
        elif name[0] == "." or name.casefold() in LITTER or name.lower().endswith(LITTER_ENDS):
            self.account.leave(why.LITTER, whole)
        elif suffix in RAW:
            self.account.leave(why.RAW, whole, suffix)
        elif suffix not in self.known and not self._looks_like_one(whole, suffix):
            self.account.leave(why.NO_PICTURE, whole, suffix or "no suffix")
        elif pictures is None:
            self.account.leave(why.LOOSE, whole)
        else:
            pictures.append(inside + name)
            self.account.taken += 1
            if suffix in HEIC_SUFFIXES and suffix not in self.known:
                self.found.heic.append(whole)

    def _looks_like_one(self, name: str, suffix: str) -> bool:
        """Whether a file whose suffix says nothing begins as a picture does."""
        if suffix in NO_PICTURES or suffix in HEIC_SUFFIXES:
            return suffix in HEIC_SUFFIXES
        try:
            return is_picture(self.place.head(name))
        except OSError as error:
            self.found.unread.append(f"{name}: {error.strerror}")
            return False

    def _link(self, entry: _Entry, name: str, follow: bool) -> bool:
        """Whether a link that leads to no file leads to a folder that is gone on with; it is accounted for."""
        litter = entry.name[0] == "." or entry.name.casefold() in LITTER
        if litter:
            self.account.leave(why.LITTER, name)
        elif not os.path.exists(entry.path):
            self.account.leave(why.DANGLING, name)
            if follow or os.path.splitext(name)[1].lower() in self.known:
                self.found.dangling.append(name)
        elif not os.path.isdir(entry.path):
            self.account.leave(why.NO_FILE, name)
        elif self._leads_back(entry.path):
            self.account.leave(why.LEADS_BACK, name)
        elif not follow:
            self.account.leave(why.INNER_LINK, name)
        else:
            self.account.followed += 1
            return True
        return False

    def _leads_back(self, path: str) -> bool:
        target, above = os.path.realpath(path), os.path.realpath(os.path.dirname(path))
        return any(f"{place}/".startswith(f"{target}/") for place in (self.real_root, above))

    def _is_store(self, prefix: str) -> bool:
        """Whether a folder is a store of ours: the plots in it would make classes."""
        runs = self._names(f"{prefix}runs")[1]
        return "sources" in self._names(f"{prefix}packs")[1] or any(
            "run.json" in self._names(f"{prefix}runs/{run}")[0] for run in runs
        )

    def _names(self, folder: str) -> tuple[list[str], list[str]]:
        """The names of the files and of the folders in a folder; none of one that can't be listed."""
        try:
            files, others = self.place.entries(folder)
        except OSError:
            return [], []
        return files, [one.name for one in others if one.is_dir()]

    def _count(self, top: str) -> int:
        """Files and links below a folder that is left out; what can't be listed counts for nothing."""
        count, waiting = 0, [top]
        while waiting:
            folder = waiting.pop()
            with contextlib.suppress(OSError):
                files, others = self.place.entries(folder)
                below = [one.name for one in others if one.is_dir(follow_symlinks=False)]
                count += len(files) + len(others) - len(below)
                waiting += [f"{folder}/{name}" for name in below]
        return count
