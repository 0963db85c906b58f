"""Tables as people have them: CSV, TSV, JSON lines, Parquet, and Arrow files.

Rows come one after the other, and of each only the columns that are asked for, so that a table may be larger than the
memory.

Every message names the file and the line or row where the trouble begins.
"""

from __future__ import annotations

import csv
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa

from muster.workers.datasets import cells
from muster.workers.errors import UsageError
from muster.workers.store.records import parse_json
from muster.workers.store.remote import AnyPath

COMMAS, TABS, LINES = (".csv",), (".tsv", ".tab"), (".jsonl", ".ndjson")
COLUMNS = (".parquet", cells.ARROW)
SUFFIXES = (*COMMAS, *TABS, *LINES, *COLUMNS)
PACKED = (".gz", ".zip", ".bz2", ".xz", ".zst", ".7z")
#: What can stand between the cells of a text.
BETWEEN = ",;\t|"
#: How files begin that are no text in UTF-8.
OTHER_KINDS = (
    (b"\xff\xfe", "UTF-16 text: save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text: save it as UTF-8"),
    (b"\x1f\x8b", "compressed: unpack it"),
    (b"PK\x03\x04", "an archive, or a file of Excel: save it as CSV"),
    (b"PAR1", "Parquet: name it .parquet"),
    (b"ARROW1", "Arrow: name it .arrow"),
)
#: No row of text is longer: what is, is no table.
LONGEST_LINE = 1 << 20


class Row(NamedTuple):
    """A row's number in its file, from 0, where it is for people, and its cells: None where there is nothing."""

    number: int
    where: str
    cells: tuple[Any, ...]


class Table(ABC):
    """A table in a file. All of its methods raise UsageError, naming file and row, if it can't be read."""

    def __init__(self, path: AnyPath, shown: str = "") -> None:
        self.path, self.shown = path, shown or path.name
        self.joined: list[str] = []
        "Rows of a text that go over several lines, once they were read."

    @property
    @abstractmethod
    def columns(self) -> Sequence[str]:
        """The names of the columns."""

    @abstractmethod
    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """All rows with the cells of these columns, in their order."""

    def at(self, where: str) -> str:
        """Where a row is, with the whole path of the file."""
        return f"{self.path}{where.removeprefix(self.shown)}"

    def names(self, column: str) -> Sequence[str] | None:
        """What the numbers in a column stand for, where the file says so."""
        return None

    @property
    def image_columns(self) -> Sequence[str]:
        """The columns that can hold image files."""
        return ()


def cell_text(value: Any) -> str:
    """A cell as it is shown; empty where there is nothing. Whole numbers are shown without a point, as tables with gaps
    keep them as fractions."""
    if value is None or value != value:  # noqa: PLR0124  (no number)
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def open_table(path: AnyPath, shown: str = "") -> Table:
    """The table in a file, by its suffix; in messages it is called `shown`. Raises UsageError if it is no such file."""
    suffix = path.suffix.lower()
    if suffix in PACKED:
        raise UsageError(f"{path} is compressed: unpack it.")
    if suffix not in SUFFIXES:
        raise UsageError(f"{path} is no table that is read: its name should end in {', '.join(SUFFIXES)}.")
    if not path.is_file():  # a pipe would never end
        raise UsageError(f"{path} is {'no file' if path.exists() else 'missing'}.")
    if suffix in COLUMNS:
        return _Columns(path, shown)
    return (_Lines if suffix in LINES else _Text)(path, shown)


class _Text(Table):
    """Cells apart by commas, semicolons or tabs, below a line of names."""

    @cached_property
    def columns(self) -> Sequence[str]:
        found = next(self._read(), None)
        names = [cell.strip() for cell in found.cells] if found is not None else []
        if not any(names):
            raise UsageError(f"{self.path} is empty: its first line should name its columns.")
        return names

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        places = [self.columns.index(name) for name in columns]
        wanted = len(self.columns)
        self.joined.clear()
        lines = self._read()
        next(lines)
        for number, row in enumerate(lines):
            if len(row.cells) != wanted:
                raise UsageError(
                    f"{self.at(row.where)}: {len(row.cells)} cells, and there are {wanted} columns. Is a "
                    "quote not closed, or a cell with a comma not quoted?"
                )
            yield Row(number, row.where, tuple(self._cell(row, place) for place in places))

    def _cell(self, row: Row, place: int) -> str | None:
        text = row.cells[place].strip()
        if not text.isascii() and any("\udc80" <= char <= "\udcff" for char in text):
            raise UsageError(f"{self.at(row.where)}: {text!a} is not UTF-8 text.")
        if "\n" in text:
            raise UsageError(f"{self.at(row.where)}: a cell goes over the line's end: is a quote not closed?")
        return text or None

    @cached_property
    def _between(self) -> str:
        """What stands between cells: of what can, that which the first line has most of."""
        with self.path.open("rb") as file:
            first = file.readline(LONGEST_LINE)
        for begin, kind in OTHER_KINDS:
            if first.startswith(begin):
                raise UsageError(f"{self.path} is {kind}.")
        return max(BETWEEN, key=lambda one: first.count(one.encode()))

    def _read(self) -> Iterator[Row]:
        """All rows that are not blank, the names' first; each with the line where it begins."""
        try:
            with self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                reader = csv.reader(file, delimiter=self._between, strict=True)
                while True:
                    before = reader.line_num
                    where = f"{self.shown}:{before + 1}"
                    try:
                        cells = next(reader, None)
                    except csv.Error as error:
                        raise UsageError(
                            f"{self.at(where)}: a quote is opened and not closed, or the file is no text "
                            f"(the reader says: {error})."
                        ) from error
                    if cells is None:
                        return
                    if reader.line_num > before + 1:
                        self.joined.append(where)
                    if any(cells):
                        yield Row(0, where, tuple(cells))
        except OSError as error:
            raise UsageError(f"{self.path} can't be read: {error.strerror}.") from error


class _Lines(Table):
    """A JSON object on each line."""

    @cached_property
    def columns(self) -> Sequence[str]:
        found: dict[str, None] = {}
        for row in self._read():  # any row may have what the first one lacks
            found.update(dict.fromkeys(row.cells[0]))
        if not found:
            raise UsageError(f"{self.path} is empty.")
        return list(found)

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        for row in self._read():
            yield Row(row.number, row.where, tuple(row.cells[0].get(name) for name in columns))

    def _read(self) -> Iterator[Row]:
        number = 0
        try:
            with self.path.open("rb") as file:
                for line_number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
                    where = f"{self.shown}:{line_number}"
                    if not line.strip():
                        continue
                    yield Row(number, where, (self._object(line, where),))
                    number += 1
        except OSError as error:
            raise UsageError(f"{self.path} can't be read: {error.strerror}.") from error

    def _object(self, line: bytes, where: str) -> dict[str, Any]:
        try:
            found = parse_json(line)
        except ValueError as error:
            raise UsageError(f"{self.at(where)}: no JSON (the reader says: {error}).") from error
        if not isinstance(found, dict):
            raise UsageError(f"{self.at(where)}: each line should be an object with columns.")
        return found


class _Columns(Table):
    """A Parquet file, or Arrow's own."""

    @cached_property
    def _schema(self) -> pa.Schema:
        try:
            return cells.schema_of(self.path)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UsageError(f"{self.path} {_why(error)}.") from error

    @property
    def columns(self) -> Sequence[str]:
        return list(self._schema.names)

    @property
    def image_columns(self) -> Sequence[str]:
        return cells.image_columns(self._schema)

    def names(self, column: str) -> Sequence[str] | None:
        found = cells.feature(self._schema, column).get("names")
        return found if isinstance(found, list) and all(isinstance(name, str) for name in found) else None

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        number = 0
        try:
            for batch in cells.column_batches(self.path, columns):
                for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    yield Row(number, f"{self.shown}, row {number + 1}", values)
                    number += 1
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UsageError(f"{self.path}, after row {number}: it {_why(error)}.") from error


def _why(error: Exception) -> str:
    """Why a file is no whole table, with the reader's own words behind ours."""
    if isinstance(error, OSError) and error.strerror and error.errno:
        return f"can't be read: {os.strerror(error.errno)}"
    said = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
    return f"can't be read as a table: it is cut, or another kind of file (the reader says: {said})"
