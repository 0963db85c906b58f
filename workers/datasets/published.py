"""What the published data sets share: facts to show, counts to assert, and lists that become splits.

A data set of this kind is a folder with annotation files. Its own module says where they are and what a row
means; this one looks whether the images are there, whether the counts are those published, and reads images.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

from muster.workers.datasets import cells, image_tables
from muster.workers.datasets.base import Item, Reading, Split, Traits, files_digest
from muster.workers.datasets.lists import Entry, Lists, counted
from muster.workers.datasets.own.account import Account
from muster.workers.datasets.pictures import Picture, PictureRule, read_picture
from muster.workers.errors import UsageError


class Count(NamedTuple):
    """How many images and classes a part of a data set has."""

    images: int
    classes: int


#: A layout: paths below the copy's folder (with * for names), and what each holds.
Tree = Mapping[str, str]


@dataclass(frozen=True)
class About:
    """What people must know of a data set before they have it."""

    title: str
    what: str
    licence: str
    obtained: str
    folder: str
    "The folder that its archive unpacks to; --data-root may name it or its parent."
    trees: Mapping[str, Tree]
    "The layouts in which it circulates, by name."
    counts: Mapping[str, Count]
    'Published images and classes of each part: a split, or a role of the test split ("query").'
    counts_source: str
    note: str = ""


#: The layout of a copy as Parquet, and the files that tell of one, of whatever data set.
TABLES = {"data/*.parquet": "image (bytes, or structs with bytes), label; splits train and test"}
TABLE_MARKS = ["train*.parquet", "*/train*.parquet"]


class Published(ABC):
    """A data set with published counts, in a folder of files. Subclasses list their entries."""

    name: str
    about: ClassVar[About]
    traits: Traits
    differences: Sequence[str] = ()
    "How this copy differs from what was published; empty unless `allow_counts`. Known after `splits`."

    account: Account | None = None
    warnings: Sequence[str] = ()

    def __init__(
        self,
        root: Path,
        allow_counts: bool = False,
        test_list: str = "small",
        reading: Reading = Reading(),
    ) -> None:
        """`test_list`: which test list is the test split, where there are several."""
        self.root = root
        self.allow_counts = allow_counts
        self.reading = replace(reading, version=1)
        self.rule = PictureRule(most_pixels=reading.most_pixels)
        self.choose(test_list)

    def choose(self, test_list: str) -> None:
        """Takes one of several test lists, where there are several. Raises UsageError if there is none such."""
        self.test_list = test_list

    @abstractmethod
    def entries(self, lists: Lists) -> dict[str, list[Entry]]:
        """All images that the annotation files name, by split. Mistakes are noted in `lists`."""

    def class_name(self, class_id: int) -> str:
        """The name of a class: its number in the annotations, so that names sort as numbers do."""
        return f"{class_id:05d}"

    @property
    def counts(self) -> Mapping[str, Count]:
        return self.about.counts

    @cached_property
    def home(self) -> Path:
        """The copy's own folder: the root, or the folder of the archive in it. Raises UsageError."""
        try:
            return self._home()
        except OSError as error:
            raise UsageError(f"The data root {self.root} can't be read: {error}.") from error

    def _home(self) -> Path:
        if not self.root.is_dir():
            raise UsageError(f"The data root {self.root} is not a folder. {self._expected()}")
        tables = TABLE_MARKS if "parquet" in self.about.trees else []
        archive = self.root / self.about.folder
        # Parquet files at the root come last: nothing tells whether they are of this data set.
        for home, marks in [(self.root, self.marks()), (archive, self.marks()), (archive, tables)]:
            if _has(home, marks):
                return home
        deeper = self._deeper()
        if len(deeper) > 1:
            raise UsageError(
                f"There are several copies of {self.traits.title} below {self.root}: {', '.join(map(str, deeper))}. "
                "Give the folder of one as --data-root."
            )
        if deeper:
            return deeper[0]
        if _has(self.root, tables):
            return self.root
        there = sorted(path.name for path in self.root.iterdir())
        held = ", ".join(there[:10]) + (f" and {len(there) - 10} more" if len(there) > 10 else "")
        raise UsageError(
            f"There is no copy of {self.traits.title} at {self.root}, which holds {held or 'nothing'}. "
            f"{self._expected()}"
        )

    def _deeper(self) -> list[Path]:
        """Where it lies if there is a folder too many around it: archives are often unpacked into one of their name."""
        inner = sorted(
            path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith(".")
        )
        homes = [home for folder in inner for home in (folder, folder / self.about.folder)]
        return [home for home in homes if _has(home, self.marks())]

    def marks(self) -> list[str]:
        """Files of which any tells that a folder is such a copy."""
        return [path for tree in self.about.trees.values() for path in tree if "*" not in path]

    def _expected(self) -> str:
        marks = " or ".join(dict.fromkeys(next(iter(tree)) for tree in self.about.trees.values()))
        return f"Expected there: {marks}, or {self.about.folder}/ with it; `muster data list` shows the tree."

    def splits(self) -> Mapping[str, Split]:
        """Train and test. Raises UsageError with all that is wrong; with `allow_counts`, what only differs from
        the published counts is told in `differences` instead."""
        lists = Lists(self.home)
        try:
            parts = self.entries(lists)
        except OSError as error:
            raise UsageError(f"The data root {self.root} can't be read: {error}.") from error
        lists.unique([entry for entries in parts.values() for entry in entries])
        shared = {e.class_id for e in parts["train"]} & {e.class_id for e in parts["test"]}
        for entry in parts["test"]:
            if entry.class_id in shared:
                lists.wrong(
                    "test image(s) of a class that is trained on", f"{entry.where}: class {entry.class_id}"
                )
        absent: list[Entry] = []
        for name, entries in parts.items():
            parts[name], lost = self.present(lists, entries)
            absent += lost
        if absent:
            kind = "image(s) that the lists name are not on the disk"
            named = [f"{entry.where}: {entry.image}" for entry in absent]
            lists.differences.append(f"{self.home}: {counted(kind, named)}")
        if lists.mistakes:
            raise UsageError([*lists.problems(), *lists.differences])
        differences = [*lists.differences, *self._count_differences(parts)]
        if differences and not self.allow_counts:
            raise UsageError([*differences, "Mend the copy, or go on with it as it is: --allow-counts."])
        empty = [name for name, entries in parts.items() if not entries]
        if empty:
            raise UsageError([*differences, f"{self.home} has no images for {' and '.join(empty)}."])
        self.differences = tuple(differences)
        return {name: self._split(name, entries) for name, entries in parts.items()}

    @cached_property
    def in_tables(self) -> bool:
        """Whether this copy is Parquet files with the images in them, and none of the lists is there."""
        lists = _has(self.home, self.marks())
        return "parquet" in self.about.trees and not lists and bool(image_tables.files(self.home))

    def present(self, lists: Lists, entries: list[Entry]) -> tuple[list[Entry], list[Entry]]:
        """The entries whose images are there, and the others."""
        return (entries, []) if self.in_tables else lists.present(entries)

    def _split(self, name: str, entries: Sequence[Entry]) -> Split:
        names = {class_id: self.class_name(class_id) for class_id in sorted({e.class_id for e in entries})}
        items = [Item(entry.image, names[entry.class_id], entry.role) for entry in entries]
        return Split(name, items, list(names.values()))

    def _count_differences(self, parts: Mapping[str, Sequence[Entry]]) -> list[str]:
        """A sentence for all parts whose counts are not the published ones; none if all are."""
        counts = count_parts(parts)
        found = [
            f"{name} has {here.images:,} images of {here.classes:,} classes instead of "
            f"{self.counts[name].images:,} of {self.counts[name].classes:,}"
            for name in self.counts
            if (here := counts.get(name, Count(0, 0))) != self.counts[name]
        ]
        if not found:
            return []
        files = dict.fromkeys(entry.file for entries in parts.values() for entry in entries)
        text = f"{self.home} is not {self.traits.title} as published: {'; '.join(found)}"
        source = f"counts as in {self.about.counts_source}; listed in {', '.join(files) or 'no file'}"
        return [f"{text} ({source}). {self.about.note}".strip()]

    def tree_found(self) -> list[dict[str, str]]:
        """What is there of the layout that fits best: a row for each path expected, then what is beside them."""
        trees = self.about.trees
        counts = {name: {path: _files(self.home, path) for path in tree} for name, tree in trees.items()}
        best = max(counts, key=lambda name: sum(map(bool, counts[name].values())) / len(counts[name]))
        rows = [
            {"expected": path, "holds": holds, "found": _told(path, counts[best][path])}
            for path, holds in trees[best].items()
        ]
        known = {path.partition("/")[0] for path in trees[best]}
        beside = sorted(p.name for p in self.home.iterdir() if not any(p.match(name) for name in known))
        return rows + [{"expected": "", "holds": "", "found": name} for name in beside[:10]]

    def other_counts(self) -> list[str]:
        """Where the folders of this copy hold another number of files than the archive does, which the lists alone do
        not tell: a sentence each."""
        found = []
        for row in self.tree_found():
            wanted, here = (re.match(r"([\d,]+) (images|files)", row[name]) for name in ("holds", "found"))
            if wanted and here and wanted[1] != here[1]:
                found.append(
                    f"{self.home / row['expected']}: {here[1]} files, and {wanted[1]} are published."
                )
        return found

    def read(self, item: Item) -> Picture:
        if self.in_tables:
            return read_picture(cells.image_file(self.home, item.image_id), self.rule)
        return read_picture(self.home / item.image_id, self.rule)

    @property
    def image_root(self) -> str | None:
        return None if self.in_tables else str(self.home.absolute())

    def source_digest(self, split: Split) -> str:
        extra = f"{self.name}/{split.name}/{self.home.absolute()}"
        if self.in_tables:  # whose packs were always named with an end of line
            return cells.rows_digest(self.home, image_tables.files(self.home), split, f"{extra}\n")
        return files_digest(self.home, split, extra)


def by_class(entries: Iterable[Entry], last_trained: int) -> dict[str, list[Entry]]:
    """The splits, where the classes up to `last_trained` train."""
    parts: dict[str, list[Entry]] = {"train": [], "test": []}
    for entry in entries:
        parts["train" if entry.class_id <= last_trained else "test"].append(entry)
    return parts


def count_parts(parts: Mapping[str, Sequence[Entry]]) -> dict[str, Count]:
    """Images and classes of each split; of one whose images have roles, those of each role."""
    counts = {}
    for name, entries in parts.items():
        roles = ["query", "gallery"] if any(entry.role for entry in entries) else [""]
        for role in roles:
            mine = [entry.class_id for entry in entries if entry.role == role]
            counts[role or name] = Count(len(mine), len(set(mine)))
    return counts


def _has(home: Path, marks: Sequence[str]) -> bool:
    """Whether any of these files is there."""
    return any(any(home.glob(mark)) for mark in marks)


def _files(home: Path, pattern: str) -> int:
    """How many files there are of a path, which may hold *."""
    return (
        sum(1 for path in home.glob(pattern) if path.is_file())
        if "*" in pattern
        else (home / pattern).is_file()
    )


def _told(pattern: str, count: int) -> str:
    if not count:
        return "missing"
    return f"{count:,} files" if "*" in pattern else "yes"
