"""Reads the annotation files of a published data set, and collects all that is wrong with them.

A mistake never ends the reading: it is noted with its file and line, its row is left out, and all mistakes
leave together. Nothing here knows a data set, opens an image or compares counts.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from muster.workers.errors import UsageError
from muster.workers.names import is_inner, on_a_line
from muster.workers.store.remote import AnyPath, RemotePath

#: Of each kind of mistake so many are named; all are counted.
SHOWN = 10
#: The longest list that is published, of VehicleID, has 3 MB.
MOST_BYTES = 1 << 28
#: No data set has a million classes.
MOST_DIGITS = 9
#: A list's cells are words: none goes over a line's end.
_OPEN = "a quote is opened and not closed on its line"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Entry:
    """An image as an annotation file names it: its path below the copy's folder, and its class."""

    image: str
    class_id: int
    where: str
    "File and line, for messages."
    role: str = ""

    @property
    def file(self) -> str:
        """The annotation file that names it."""
        return re.split(r":\d+$|, row \d+$", self.where)[0]


@dataclass(frozen=True)
class Row:
    """A row of an annotation file."""

    where: str
    cells: Sequence[str]


class Mistakes:
    """What was found wrong below `home` so far."""

    def __init__(self, home: AnyPath) -> None:
        self.named = home
        self.mistakes: dict[str, list[str]] = {}

    def wrong(self, kind: str, text: str) -> None:
        """Notes a mistake: `kind` as in "3 <kind>:", `text` with file and line."""
        self.mistakes.setdefault(kind, []).append(text)

    def problems(self) -> list[str]:
        """One message for each kind of mistake: how many, and the first ten."""
        return [f"{self.named}: {counted(kind, lines)}" for kind, lines in self.mistakes.items()]

    def inside(self, where: str, path: str) -> bool:
        """Does a listed path stay below the copy's folder? One that leaves it is noted."""
        if not is_inner(path):
            self.wrong("path(s) that lead out of the data root", f"{where}: {_short(path)!r}")
            return False
        return True


class Lists(Mistakes):
    """The annotation files below `home`, and the mistakes found in them so far."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.home = home
        self.differences: list[str] = []
        "What is no mistake of a row and yet not as published."

    def require(self, *files: str) -> None:
        """Raises UsageError that names every one of these files that is not there."""
        absent = [file for file in files if not (self.home / file).is_file()]
        if absent:
            raise UsageError([f"{self.home / file} is missing." for file in absent])

    def lines(self, file: str) -> list[str]:
        """The lines of a text file. Raises UsageError if it is missing or is no text."""
        path = self.home / file
        try:
            if path.exists() and not path.is_file():
                raise UsageError(f"{path} is no file.")  # a pipe or a device would never end
            if path.stat().st_size > MOST_BYTES:
                raise UsageError(f"{path}: larger than {MOST_BYTES >> 20} MB: is it a list of images?")
            return path.read_bytes().decode("utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise UsageError(f"{path}:{line}: not UTF-8 text.") from error
        except FileNotFoundError as error:
            raise UsageError(f"{path} is missing.") from error
        except OSError as error:
            raise UsageError(f"{path} can't be read: {error.strerror}.") from error

    def header(self, file: str, number: int, expected: str) -> None:
        """Checks that line `number` (from 1) has these column names."""
        lines = self.lines(file)
        line = lines[number - 1] if number <= len(lines) else ""
        if line.split() != expected.split():
            self.wrong("wrong header(s)", f"{file}:{number}: expected {expected!r}, found {_short(line)!r}")

    def rows(self, file: str, columns: Sequence[str], *, path: str = "", first: int = 1) -> Iterator[Row]:
        """The rows of a file of `columns` separated by white space, from line `first`; blank lines don't count.

        The column named by `path`, the first or the last, may hold spaces: it ends like an image file.
        """
        last = len(columns) - 1
        for number, line in enumerate(self.lines(file), start=1):
            if number < first or not line.strip():
                continue
            where = f"{file}:{number}"
            most = last if path else -1
            cells = line.rsplit(None, most) if path == columns[0] else line.split(None, most)
            cells = [cell.strip() for cell in cells]
            words = line.split()
            images = [word for word in words if word.lower().endswith(IMAGE_SUFFIXES)]
            named = cells[columns.index(path)] if path and len(cells) == len(columns) else ""
            if len(cells) == len(columns) and (not path or named.lower().endswith(IMAGE_SUFFIXES)):
                yield Row(where, cells)
            elif named and len(words) == len(columns) and not images:  # they are all there
                if self.inside(where, named):
                    kind = f"path(s) that end in none of {', '.join(IMAGE_SUFFIXES)}"
                    self.wrong(kind, f"{where}: {_short(named)!r}")
            else:
                self._columns(where, columns, len(words), line)

    def table(self, file: str, columns: Sequence[str]) -> Iterator[Row]:
        """The rows of a comma-separated file without a header."""
        reader = csv.reader(self.lines(file))
        while True:
            where = f"{file}:{reader.line_num + 1}"  # where the row begins
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise UsageError(f"{self.home / where}: {_OPEN} ({error}).") from error
            if cells is None:
                return
            if where != f"{file}:{reader.line_num}":
                self.wrong(f"row(s) where {_OPEN}", f"{where}: {_short(','.join(cells))!r}")
            elif len(cells) == len(columns):
                yield Row(where, [cell.strip() for cell in cells])
            elif any(cell.strip() for cell in cells):
                self._columns(where, columns, len(cells), ",".join(cells))

    def _columns(self, where: str, columns: Sequence[str], found: int, line: str) -> None:
        wanted = f"{len(columns)} columns ({' '.join(columns)})"
        self.wrong(
            "row(s) with a missing or an extra column",
            f"{where}: {found} where there should be {wanted}: {_short(line)!r}",
        )

    def number(self, where: str, column: str, text: object) -> int | None:
        """A whole number above 0; anything else is noted, and None."""
        cell = str(text).strip()
        if cell.isascii() and cell.isdigit() and len(cell) <= MOST_DIGITS and int(cell) > 0:
            return int(cell)
        self.wrong(
            "label(s) that are no number of a class (1, 2, 3, ...)", f"{where}: {column} = {_short(cell)!r}"
        )
        return None

    def unique(self, entries: Iterable[Entry]) -> None:
        """Notes the entries whose image was there before."""
        seen: dict[str, str] = {}
        for entry in entries:
            if seen.setdefault(entry.image, entry.where) != entry.where:
                self.wrong(
                    "image(s) listed twice", f"{entry.where}: {entry.image}, as in {seen[entry.image]}"
                )

    def present(self, entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
        """The entries whose files are on the disk, and the others."""
        gone = set(absent(self.home, (entry.image for entry in entries)))
        return [one for one in entries if one.image not in gone], [
            one for one in entries if one.image in gone
        ]


def absent(home: AnyPath, names: Iterable[str]) -> Iterator[str]:
    """Those of these files below `home` that are not there. Each folder is listed once: that is far quicker on a
    network file system than asking for each file."""
    if isinstance(home, RemotePath):
        names = list(names)
        home.look({name.rpartition("/")[0] for name in names})
    listings: dict[str, set[str]] = {}
    for name in names:
        folder, _, last = name.rpartition("/")
        if folder not in listings:
            listings[folder] = _names(home / folder if folder else home)
        if last not in listings[folder]:
            yield name


def counted(kind: str, lines: Sequence[str]) -> str:
    """ "3 <kind>:" with the first ten, a line each; a single one stays on the line."""
    if len(lines) == 1:
        return f"1 {kind}: {on_a_line(lines[0])}"
    shown = [f"{len(lines):,} {kind}:", *(f"  {on_a_line(line)}" for line in lines[:SHOWN])]
    if len(lines) > SHOWN:
        shown.append(f"  and {len(lines) - SHOWN:,} more")
    return "\n".join(shown)


def _names(folder: AnyPath) -> set[str]:
    if isinstance(folder, RemotePath):
        return {path.name for path in folder.iterdir()}
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise UsageError(f"{folder} can't be listed: {error.strerror}.") from error


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}..."
