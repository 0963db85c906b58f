"""Tables as people have them: CSV, TSV, JSON lines, Parquet, and Arrow files.

Rows come one after the other, and of each only the columns that are asked for, so that a table may be larger than the
memory.

Every message names the file and the line or row where the trouble begins.
"""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from muster.workers.datasets import cells
from muster.workers.errors import UsageError
from muster.workers.store.records import parse_json

COMMAS, TABS, LINES = (".csv",), (".tsv", ".tab"), (".jsonl", ".ndjson")
COLUMNS = (".parquet", cells.ARROW)
SUFFIXES = (*COMMAS, *TABS, *LINES, *COLUMNS)
#: No row of text is longer: what is, is no table.
LONGEST_LINE = 1 << 20


class Row(NamedTuple):
    """A row's number in its file, from 0, where it is for people, and its cells: None where there is nothing."""

    number: int
    where: str
    cells: tuple[Any, ...]


class Table(ABC):
    """A table in a file. All of its methods raise UsageError, naming file and row, if it can't be read."""

    def __init__(self, path: Path, shown: str = "") -> None:
        self.path, self.shown = path, shown or path.name

    @property
    @abstractmethod
    def columns(self) -> Sequence[str]:
        """The names of the columns."""

    @abstractmethod
    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """All rows with the cells of these columns, in their order."""

    def names(self, column: str) -> Sequence[str] | None:
        """What the numbers in a column stand for, where the file says so."""
        return None

    @property
    def image_columns(self) -> Sequence[str]:
        """The columns that can hold image files."""
        return ()


def open_table(path: Path, shown: str = "") -> Table:
    """The table in a file, by its suffix; in messages it is called `shown`. Raises UsageError if it is no such file."""
    suffix = path.suffix.lower()
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
        lines = self._read()
        next(lines)
        for number, row in enumerate(lines):
            if len(row.cells) != wanted:
                raise UsageError(
                    f"{self.path.parent / row.where}: {len(row.cells)} cells, and there are {wanted} columns. Is a "
                    "quote not closed, or a cell with a comma not quoted?"
                )
            yield Row(number, row.where, tuple(self._cell(row, place) for place in places))

    def _cell(self, row: Row, place: int) -> str | None:
        text = row.cells[place].strip()
        if not text.isascii() and any("\udc80" <= char <= "\udcff" for char in text):
            raise UsageError(f"{self.path.parent / row.where}: {text!a} is not UTF-8 text.")
        if "\n" in text:
            raise UsageError(
                f"{self.path.parent / row.where}: a cell goes over the line's end: is a quote not closed?"
            )
        return text or None

    @cached_property
    def _between(self) -> str:
        if self.path.suffix.lower() in TABS:
            return "\t"
        with self.path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            first = file.readline(LONGEST_LINE)
        return ";" if ";" in first and "," not in first else ","

    def _read(self) -> Iterator[Row]:
        """All rows that are not blank, the names' first; each with the line where it begins."""
        try:
            with self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                reader = csv.reader(file, delimiter=self._between, strict=True)
                while True:
                    where = f"{self.shown}:{reader.line_num + 1}"
                    try:
                        cells = next(reader, None)
                    except csv.Error as error:
                        raise UsageError(
                            f"{self.path.parent / where}: a quote is opened and not closed, or the file is no text "
                            f"({error})."
                        ) from error
                    if cells is None:
                        return
                    if any(cells):
                        yield Row(0, where, tuple(cells))
        except OSError as error:
            raise UsageError(f"{self.path} can't be read: {error.strerror}.") from error


class _Lines(Table):
    """A JSON object on each line."""

    @cached_property
    def columns(self) -> Sequence[str]:
        found = next(self._read(), None)
        if found is None:
            raise UsageError(f"{self.path} is empty.")
        return list(found.cells[0])

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
            raise UsageError(f"{self.path.parent / where}: no JSON ({error}).") from error
        if not isinstance(found, dict):
            raise UsageError(f"{self.path.parent / where}: each line should be an object with columns.")
        return found


class _Columns(Table):
    """A Parquet file, or Arrow's own."""

    @cached_property
    def _schema(self) -> pa.Schema:
        try:
            return cells.schema_of(self.path)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UsageError(f"{self.path} can't be read as a table: {_first_line(error)}.") from error

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
            raise UsageError(
                f"{self.path} can't be read after row {number}: {_first_line(error)}."
            ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__
