"""`table`: pictures that a table lists, or holds: in CSV, TSV, JSON lines, Parquet, or as Hugging Face saves them.

A row has a `path` below the root, or a column with the bytes of an image file, and a `label`; if they are there, also
`split`, and `role` or `is_query` and `is_gallery`. Without a list, the root is a data set of Hugging Face: its Parquet
files, or one that was saved to disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from muster.workers.datasets import cells
from muster.workers.datasets.base import Item, Reading, Split, Traits, files_digest
from muster.workers.datasets.lists import Lists, absent
from muster.workers.datasets.own.account import Account
from muster.workers.datasets.own.pictures import MEAN, STD, OwnPictures
from muster.workers.datasets.own.rows import Row
from muster.workers.datasets.own.sources import Source, sources
from muster.workers.datasets.own.splits import LEAST_CLASSES, SIDES, SPLITS
from muster.workers.errors import UsageError
from muster.workers.watch import watched

AGAIN = "that name a picture again"
NO_SIDE = "of test that neither ask nor answer"
GONE = "whose pictures are not there"
TRUE = frozenset({"true", "t", "yes", "1", "1.0"})
FALSE = frozenset({"false", "f", "no", "0", "0.0"})


@dataclass
class _Taken:
    """What the rows came to so far."""

    lists: Lists
    account: Account = field(default_factory=lambda: Account(what="rows"))
    items: dict[str, list[Item]] = field(default_factory=dict)
    'By split; "" where none is given.'
    seen: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    "Of each picture that is named by a path: its label, its split, and the row."


class ImageTable(OwnPictures):
    """A table of pictures. Their order, in each split, is the table's."""

    name = "table"
    together = "put them together and split by class (--layout classes)"

    def __init__(self, root: Path | None, reading: Reading = Reading()) -> None:
        """Without a root, paths are below the folder of the list."""
        self.list = Path(reading.table).expanduser() if reading.table else None
        if root is None:
            assert self.list is not None
            root = self.list.parent
        super().__init__(root, reading)

    @cached_property
    def sources(self) -> list[Source]:
        """Its files. Raises UsageError."""
        if not self.root.is_dir():
            raise UsageError(f"The data root {self.root} is not a folder.")
        return sources(self.root, self.list, self.reading)

    @cached_property
    def traits(self) -> Traits:
        found = Traits(title=f"table {self.list or self.root}", flip=True, mean=MEAN, std=STD)
        try:
            columns = {name for source in self.sources for name in source.columns}
        except UsageError:  # is said when the splits are asked for
            return found
        if columns & {"role", "is_query", "is_gallery"}:
            return replace(found, protocol="the table says which test images ask and which answer")
        return found

    def splits(self) -> Mapping[str, Split]:
        """The splits. Raises UsageError with all that is wrong with the table, by row."""
        taken = _Taken(Lists(self.root))
        with watched("rows read") as tell:
            for number, (source, row) in enumerate(self._rows(), 1):
                self._take(taken, source, row)
                tell(number)
        self._look(taken)
        if taken.lists.mistakes:
            raise UsageError(taken.lists.problems())
        taken.account.taken = sum(map(len, taken.items.values()))
        self.account, self.warnings = taken.account, ()
        parts = self._tested(taken.items) if self.sources[0].says_splits else self._by_class(taken.items)
        return self.kept_apart({name: _split(name, items) for name, items in parts.items()})

    def opened(self, item: Item) -> Path | IO[bytes]:
        image = self.sources[0].columns.get("image")
        if image is None:
            return self.root / item.image_id
        return cells.image_file(self._home, item.image_id, image)

    @property
    def image_root(self) -> str | None:
        return str(self.root.absolute()) if "path" in self.sources[0].columns else None

    def source_digest(self, split: Split) -> str:
        extra = f"{self.read_how(split)}table/{split.name}/{self.root.absolute()}"
        if self.image_root is None:
            return cells.rows_digest(
                self._home, [source.table.shown for source in self.sources], split, extra
            )
        return files_digest(self.root, split, extra)

    def gives_validation(self) -> bool:
        """Whether a file or a row is of such a split; only that column is read."""
        if not self.sources[0].says_splits:
            return self.reading.split_by == "file" and "val" in self.listed_classes().values()
        for source in self.sources:
            column = source.columns.get("split")
            given = (row.cells[0] for row in source.table.rows([column])) if column else (source.split,)
            if any(_kind(one) == "val" for one in given):
                return True
        return False

    @property
    def _home(self) -> Path:
        """Where the files are that hold pictures: a list need not lie below the root."""
        path = self.sources[0].table.path
        return self.root if path.is_relative_to(self.root) else path.parent

    def _rows(self) -> Iterator[tuple[Source, Row]]:
        for source in self.sources:
            for row in source.table.rows(list(source.columns.values())):
                yield source, row

    def _take(self, taken: _Taken, source: Source, row: Row) -> None:
        """Adds a row's picture, leaves it out, or notes what is wrong with it."""
        given = dict(zip(source.columns, row.cells, strict=True))
        label = _text(given["label"], source.table.names(source.columns["label"]))
        image = self._image(taken.lists, source, row, given)
        split, role = self._side(taken, source, row, given)
        if not label:
            taken.lists.wrong("row(s) without a label", row.where)
        if not label or image is None or split is None:
            return
        if "path" in given:
            before = taken.seen.setdefault(image, (label, split, row.where))
            if before[:2] != (label, split):
                what = "labels" if before[0] != label else "splits"
                found = f"{image}: {before[0 if before[0] != label else 1]} in {before[2]}"
                taken.lists.wrong(f"picture(s) with two {what}", f"{row.where}: {found}")
            if before[2] != row.where:
                taken.account.leave(AGAIN, f"{row.where}: {image}")
                return
        taken.items.setdefault(split, []).append(Item(image, label, role))

    def _image(self, lists: Lists, source: Source, row: Row, given: Mapping[str, Any]) -> str | None:
        """The name of a row's picture: its path below the root, or its file and row."""
        if "path" not in given:
            return f"{source.table.shown}#{row.number}"
        path = given["path"]
        if not isinstance(path, str) or not path.strip():
            lists.wrong("row(s) without a path", row.where)
            return None
        path = path.strip()
        if os.path.isabs(path) and Path(path).is_relative_to(self.root.absolute()):
            path = str(Path(path).relative_to(self.root.absolute()))
        path = path.removeprefix("./")
        return path if lists.inside(row.where, path) else None

    def _side(
        self, taken: _Taken, source: Source, row: Row, given: Mapping[str, Any]
    ) -> tuple[str | None, str]:
        """A row's split, "" where none is given and None where it is left out, and its role."""
        split = source.split
        if "split" in given:
            kind = _kind(given["split"])
            if kind is None:
                said = f"{row.where}: {given['split']!r}"
                taken.lists.wrong(
                    f"split(s) that are none of {', '.join(dict.fromkeys(SPLITS.values()))}", said
                )
                return None, ""
            split = kind
        if split in SIDES:
            return "test", split
        if split in {"train", ""}:
            return split, ""
        role = self._role(taken.lists, row, given)
        if role is None:
            taken.account.leave(NO_SIDE, row.where)
        return (None, "") if role is None else (split, role)

    def _role(self, lists: Lists, row: Row, given: Mapping[str, Any]) -> str | None:
        """Which side of a search a row is on; None for neither."""
        if role := _text(given.get("role"), None):
            if role.casefold() in SIDES:
                return role.casefold()
            lists.wrong("role(s) that are neither query nor gallery", f"{row.where}: {role!r}")
        sides = []
        for side in sorted(SIDES):
            text = (_text(given.get(f"is_{side}"), None) or "").casefold()
            if text and text not in TRUE | FALSE:
                lists.wrong(f"is_{side} that are neither true nor false", f"{row.where}: {text!r}")
            sides += [side] * (f"is_{side}" not in given or text in TRUE)
        if len(sides) == 2:
            return ""
        return sides[0] if sides else None

    def _look(self, taken: _Taken) -> None:
        """Looks whether the pictures that have paths are there."""
        gone = set(absent(self.root, taken.seen))
        if not gone:
            return
        if not self.reading.skip_bad:
            for name in sorted(gone, key=list(taken.seen).index if len(gone) < 100 else None):
                taken.lists.wrong(
                    "picture(s) that are not there, without which --skip-bad-images goes on",
                    f"{taken.seen[name][2]}: {name}",
                )
            return
        for name in sorted(gone):
            taken.account.leave(GONE, f"{taken.seen[name][2]}: {name}")
        taken.items = {
            split: [item for item in items if item.image_id not in gone]
            for split, items in taken.items.items()
        }

    def _tested(self, parts: Mapping[str, list[Item]]) -> dict[str, list[Item]]:
        """The splits as they are given; what validates is tested where nothing else is."""
        found = {name: parts[name] for name in ("train", "val", "test") if parts.get(name)}
        if "test" not in found and "val" in found:
            found["test"] = found.pop("val")
            self.warnings = ("There is no test split: the validation split is what is tested.",)
        if lacking := [name for name in ("train", "test") if name not in found]:
            raise UsageError(
                f"{self.traits.title} has no pictures for {' and '.join(lacking)}. Put all classes beside each other: "
                "--layout classes."
            )
        return found

    def _by_class(self, parts: Mapping[str, list[Item]]) -> dict[str, list[Item]]:
        """Splits by class."""
        items = parts.get("", [])
        classes = sorted({item.class_name for item in items})
        if len(classes) < LEAST_CLASSES:
            raise UsageError(
                f"{self.traits.title} has {len(classes)} class(es): at least {LEAST_CLASSES} are needed to keep "
                "training and test classes apart."
            )
        side = {name: split for split, names in self.divided(classes).items() for name in names}
        found: dict[str, list[Item]] = {}
        for item in items:
            if item.class_name in side:
                found.setdefault(side[item.class_name], []).append(item)
        return found


def _split(name: str, items: Sequence[Item]) -> Split:
    return Split(name, items, sorted({item.class_name for item in items}))


def _kind(value: object) -> str | None:
    return SPLITS.get(str(value).strip().casefold())


def _text(value: Any, names: Sequence[str] | None) -> str:
    """A cell as it is shown; empty where there is nothing. Numbers of class labels are shown by their names, and whole
    numbers without a point, as tables with gaps keep them as fractions."""
    if value is None or value != value:  # noqa: PLR0124  (no number)
        return ""
    if names is not None and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()
