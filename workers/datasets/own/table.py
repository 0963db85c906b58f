"""`table`: pictures that a table lists, or holds: in CSV, TSV, JSON lines, Parquet, or as Hugging Face saves them.

A row has a `path` below the root, or a column with the bytes of an image file, and a `label`; if they are there, also
`split`, and `role` or `is_query` and `is_gallery`. Without a list, the root is a data set of Hugging Face: its Parquet
files, or one that was saved to disk.
"""

from __future__ import annotations

import datetime
import math
import posixpath
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from typing import IO, Any, NamedTuple

from muster.workers.datasets import cells
from muster.workers.datasets.base import Item, Reading, Split, Traits, files_digest
from muster.workers.datasets.lists import Mistakes, absent
from muster.workers.datasets.own.account import Account
from muster.workers.datasets.own.pictures import MEAN, STD, OwnPictures
from muster.workers.datasets.own.rows import Row, cell_text
from muster.workers.datasets.own.sources import Source, sources
from muster.workers.datasets.own.splits import KINDS, LEAST_CLASSES, SIDES, kind_of
from muster.workers.errors import UsageError
from muster.workers.names import shortened
from muster.workers.store.remote import AnyPath, inner_name, no_folder, place
from muster.workers.watch import watched

AGAIN = "that name a picture again"
NO_SIDE = "of test that neither ask nor answer"
TWO_SIDES = (
    "picture(s) whose rows say two sides of the search (one that asks and answers has a single row, of the split test "
    "and without a role)"
)
GONE = "whose pictures are not there"
NOT_THERE = "picture(s) that are not there, without which --skip-bad-images goes on"
#: The role of a row on neither side, until it is known whether its class is tested.
NEITHER = "neither"
LABELS = (str, int, float, datetime.date, datetime.time, Decimal, type(None))
TRUE = frozenset({"true", "t", "yes", "1", "1.0"})
FALSE = frozenset({"false", "f", "no", "0", "0.0"})


class Seen(NamedTuple):  # there may be a million of them
    """What the first row of a picture says of it, and where that is."""

    label: str
    split: str
    role: str
    where: str


@dataclass
class _Taken:
    """What the rows came to so far."""

    lists: Mistakes
    account: Account = field(default_factory=lambda: Account(what="rows"))
    items: dict[str, list[Item]] = field(default_factory=dict)
    'By split; "" where none is given.'
    seen: dict[str, Seen] = field(default_factory=dict)
    "The pictures that are named by a path."


class ImageTable(OwnPictures):
    """A table of pictures. Their order, in each split, is the table's."""

    name = "table"
    together = "put them together and split by class (--layout classes)"
    ungiven = "Leave it out, or read no splits: --layout classes."

    def __init__(self, root: AnyPath | None, reading: Reading = Reading()) -> None:
        """Without a root, paths are below the folder of the list."""
        self.list = place(reading.table) if reading.table else None
        if root is None:
            assert self.list is not None
            root = self.list.parent
        super().__init__(root, reading)

    @cached_property
    def sources(self) -> list[Source]:
        """Its files. Raises UsageError."""
        if not self.root.is_dir():
            raise UsageError(no_folder(self.root))
        return sources(self.root, self.list, self.reading)

    @cached_property
    def traits(self) -> Traits:
        found = Traits(
            title=f"table {self.list or self.root}", flip=True, mean=MEAN, std=STD, published=False
        )
        try:
            columns = {name for source in self.sources for name in source.columns}
        except UsageError:  # is said when the splits are asked for
            return found
        if columns & {"role", "is_query", "is_gallery"}:
            return replace(found, protocol="the table says which test images ask and which answer")
        return found

    def splits(self) -> Mapping[str, Split]:
        """The splits. Raises UsageError with all that is wrong with the table, by row."""
        if self.sources[0].says_splits:
            self.as_given()
        taken = _Taken(Mistakes(self.list or self.root))
        with watched("rows read") as tell:
            for number, (source, row) in enumerate(self._rows(), 1):
                self._take(taken, source, row)
                tell(number)
        self._look(taken)
        if taken.lists.mistakes:
            raise UsageError([*taken.lists.problems(), self._cure(taken)])
        taken.account.taken = sum(map(len, taken.items.values()))
        if not taken.account.taken:
            raise UsageError([f"{self.traits.title} has no row with a picture.", *taken.account.texts()])
        self.account, self.warnings = taken.account, tuple(self._joined())
        parts = self._tested(taken.items) if self.sources[0].says_splits else self._by_class(taken)
        return self.kept_apart({name: Split.of(name, items) for name, items in parts.items()})

    def _cure(self, taken: _Taken) -> str:
        """What to do about mistakes in rows."""
        gone = len(taken.lists.mistakes.get(NOT_THERE, ()))
        if gone and gone == len(taken.seen):
            return f"None of its pictures is there: paths are looked for below {self.root}. Is --data-root right?"
        return "Mend these rows, or give --list another table."

    def opened(self, item: Item) -> AnyPath | IO[bytes]:
        image = self.sources[0].columns.get("image")
        if image is None:
            return self.root / item.image_id
        return cells.image_file(self._home, item.image_id, image)

    def whereabouts(self, image_ids: Collection[str]) -> Mapping[str, str]:
        """The row that names each of these pictures first; the table is read once more for it."""
        if not image_ids or self.image_root is None:
            return {}
        found: dict[str, str] = {}
        for source, row in self._rows():
            given = dict(zip(source.told, row.cells, strict=True))
            image = self._image(Mistakes(self.root), source, row, given)
            if image is not None and image in image_ids:
                found.setdefault(image, row.where)
        return found

    @property
    def image_root(self) -> str | None:
        return str(self.root.absolute()) if "path" in self.sources[0].columns else None

    def source_digest(self, split: Split) -> str:
        extra = f"{self.read_how(split)}table/{split.name}/{self.root.absolute()}"
        if self.image_root is None:
            extra += self._which_pictures()
            return cells.rows_digest(
                self._home, [source.table.shown for source in self.sources], split, extra
            )
        return files_digest(self.root, split, extra)

    def _which_pictures(self) -> str:
        """The column of pictures that is read, where it was chosen of several; else it is known by the files."""
        several = any(len(source.table.image_columns) > 1 for source in self.sources)
        return "".join(f"\0{one}" for one in self.reading.columns if several and one.startswith("image="))

    def gives_validation(self) -> bool:
        """Whether a file or a row is of such a split; only that column is read."""
        if not self.sources[0].says_splits:
            return self.reading.split_by == "file" and "val" in self.listed_classes().values()
        for source in self.sources:
            column = source.columns.get("split")
            given = (row.cells[0] for row in source.table.rows([column])) if column else (source.split,)
            if any(kind_of(one) == "val" for one in given):
                return True
        return False

    @cached_property
    def _home(self) -> AnyPath:
        """Where the files are that hold pictures: a list need not lie below the root."""
        path = self.sources[0].table.path
        return self.root if inner_name(path, self.root) is not None else path.parent

    def _rows(self) -> Iterator[tuple[Source, Row]]:
        for source in self.sources:
            for row in source.table.rows(list(source.told.values())):
                yield source, row

    def _take(self, taken: _Taken, source: Source, row: Row) -> None:
        """Adds a row's picture, leaves it out, or notes what is wrong with it."""
        given = dict(zip(source.told, row.cells, strict=True))
        label = self._label(taken.lists, source, row, given["label"])
        image = self._image(taken.lists, source, row, given)
        split, role = self._side(taken, source, row, given)
        if label is None or image is None or split is None:
            return
        if "path" in given:
            now = Seen(label, split, role, row.where)
            before = taken.seen.setdefault(image, now)
            if before is not now:
                if problem := _against(before, now):
                    taken.lists.wrong(problem[0], f"{row.where}: {image}: {problem[1]} in {before.where}")
                taken.account.leave(AGAIN, f"{row.where}: {image}")
                return
        taken.items.setdefault(split, []).append(Item(image, label, role))

    def _label(self, lists: Mistakes, source: Source, row: Row, value: Any) -> str | None:
        """A row's class as it is shown; None where it has none."""
        names = source.table.names(source.columns["label"])
        if names is not None and isinstance(value, int):
            if 0 <= value < len(names):
                return names[value]
            lists.wrong(
                f"label(s) beyond the {len(names)} classes that the file names", f"{row.where}: {value}"
            )
            return None
        if not isinstance(value, LABELS) or (isinstance(value, float) and math.isinf(value)):
            lists.wrong("label(s) that are no word, number or date", f"{row.where}: {value!r:.80}")
            return None
        if not (text := cell_text(value)):
            lists.wrong("row(s) without a label", row.where)
        return text or None

    def _joined(self) -> Iterator[str]:
        """Rows that go over several lines: quoted text may, and so do rows between a stray quote and the next one."""
        rows = [where for source in self.sources for where in source.table.joined]
        if rows:
            yield (
                f"{len(rows):,} row(s) of the table go over several lines: {shortened(rows)}. Is that meant, or is a "
                "quote not closed?"
            )

    def _image(self, lists: Mistakes, source: Source, row: Row, given: Mapping[str, Any]) -> str | None:
        """The name of a row's picture: its path below the root, or its file and row."""
        if "path" not in given:
            return f"{source.table.shown}#{row.number}"
        path = given["path"]
        if path is not None and not isinstance(path, str):
            lists.wrong("path(s) that are no text", f"{row.where}: {path!r:.80}")
            return None
        if path is None or not path.strip():
            lists.wrong("row(s) without a path", row.where)
            return None
        path = path.strip()
        path = path.removeprefix(f"{self.root.absolute()}/")
        if "://" in path:
            lists.wrong(
                "path(s) that are addresses: pictures should lie below the data root", f"{row.where}: {path}"
            )
            return None
        if "\\" in path and "/" not in path:  # of a table that Windows wrote
            path = path.replace("\\", "/")
        path = posixpath.normpath(path).removeprefix(f"{self.root.absolute()}/")
        return path if lists.inside(row.where, path) else None

    def _side(
        self, taken: _Taken, source: Source, row: Row, given: Mapping[str, Any]
    ) -> tuple[str | None, str]:
        """A row's split, "" where none is given and None where it is left out, and its role."""
        split = source.split
        if "split" in given:
            kind = kind_of(given["split"])
            if not cell_text(given["split"]):
                taken.lists.wrong("row(s) without a split", row.where)
                return None, ""
            if kind is not None and source.split not in {"", kind}:
                said = f"{row.where}: {given['split']}"
                taken.lists.wrong("row(s) of another split than their file's name says", said)
                return None, ""
            if kind is None:
                said = f"{row.where}: {given['split']!r}"
                taken.lists.wrong(f"split(s) that are none of {KINDS}", said)
                return None, ""
            split = kind
        if split in SIDES:
            return "test", split
        role = self._role(taken.lists, row, given)
        if split == "train":
            return split, ""
        if role is None and split:
            taken.account.leave(NO_SIDE, row.where)
        return (None, "") if role is None and split else (split, NEITHER if role is None else role)

    def _role(self, lists: Mistakes, row: Row, given: Mapping[str, Any]) -> str | None:
        """Which side of a search a row is on; None for neither."""
        if role := cell_text(given.get("role")):
            if role.casefold() in SIDES:
                return role.casefold()
            lists.wrong("role(s) that are neither query nor gallery", f"{row.where}: {role!r}")
        sides = []
        for side in sorted(SIDES):
            text = cell_text(given.get(f"is_{side}")).casefold()
            if text and text not in TRUE | FALSE:
                lists.wrong(f"is_{side} that are neither true nor false", f"{row.where}: {text!r}")
            sides += [side] * (f"is_{side}" not in given or text in TRUE)
        if len(sides) == 2:
            return ""
        return sides[0] if sides else None

    def _look(self, taken: _Taken) -> None:
        """Looks whether the pictures that have paths are there."""
        gone = set()
        for name in absent(self.root, taken.seen):
            gone.add(name)
            said = f"{taken.seen[name].where}: {name}"
            if self.reading.skip_bad:
                taken.account.leave(GONE, said)
            else:
                taken.lists.wrong(NOT_THERE, said)
        for split, items in taken.items.items() if gone else ():
            taken.items[split] = [item for item in items if item.image_id not in gone]

    def _tested(self, parts: Mapping[str, list[Item]]) -> dict[str, list[Item]]:
        """The splits as they are given; what validates is tested where nothing else is."""
        found = {name: parts[name] for name in ("train", "val", "test") if parts.get(name)}
        if "test" not in found and "val" in found:
            found["test"] = found.pop("val")
            self.warnings = (
                *self.warnings,
                "There is no test split: the validation split is what is tested.",
            )
        if lacking := [name for name in ("train", "test") if name not in found]:
            raise UsageError(
                f"{self.traits.title} has no pictures for {' and '.join(lacking)}. Put all classes beside each other: "
                "--layout classes."
            )
        return found

    def _by_class(self, taken: _Taken) -> dict[str, list[Item]]:
        """Splits by class."""
        items = taken.items.get("", [])
        classes = sorted({item.class_name for item in items})
        if len(classes) < LEAST_CLASSES:
            raise UsageError(
                f"{self.traits.title} has {len(classes)} class(es): at least {LEAST_CLASSES} are needed to keep "
                "training and test classes apart."
            )
        side = {name: split for split, names in self.divided(classes).items() for name in names}
        found: dict[str, list[Item]] = {}
        for item in items:
            split = side.get(item.class_name)
            if split and split != "train" and item.role == NEITHER:
                taken.account.leave(NO_SIDE, item.image_id)
                taken.account.taken -= 1
            elif split:
                found.setdefault(split, []).append(item._replace(role="" if split == "train" else item.role))
        return found


def _against(before: Seen, now: Seen) -> tuple[str, str] | None:
    """What two rows of a picture say against each other: the kind of mistake, and what the first one says."""
    if before.label != now.label:
        return "picture(s) with two labels", before.label
    if before.split != now.split:
        return "picture(s) with two splits", before.split
    if before.role != now.role:
        return TWO_SIDES, f"{now.role or 'both'}, and {before.role or 'both'}"
    return None
