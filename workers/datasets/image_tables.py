"""Published data sets as Parquet: images as bytes in a column, as data sets lie on Hugging Face.

An image is named by its file and row, and read as `cells` reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from muster.workers.datasets.cells import feature, image_column, schema_of
from muster.workers.datasets.lists import Entry, Lists
from muster.workers.errors import UsageError

#: Names of the column that says which class an image has.
LABELS = ("label", "class_id", "class", "labels")
HALVES = ("train", "test")


class _Labels(NamedTuple):
    """A file's labels, and whether it says that they are Hugging Face class labels, which begin at 0."""

    values: list[int | None]
    begin_at_0: bool


def files(home: Path) -> list[str]:
    """The Parquet files of the splits train and test, in that order, as paths below `home`."""
    paths = [*home.glob("*.parquet"), *home.glob("*/*.parquet")]
    found = sorted(path.relative_to(home).as_posix() for path in paths)
    halves = [[f for f in found if Path(f).name.startswith(half)] for half in HALVES]
    return [file for half in halves for file in half]


def entries(lists: Lists, classes: int, trained: int = 0) -> Iterator[Entry]:
    """All rows of both splits, of `classes` classes. `trained`: the copy's splits are those that are trained and tested
    on, and the first so many classes train; where each split is numbered by itself, those of test go on there.

    Raises UsageError for a file of another kind, and where a split is missing.
    """
    names = files(lists.home)
    for half in HALVES:
        if not any(Path(name).name.startswith(half) for name in names):
            raise UsageError(
                f"{lists.home} has no Parquet file of the split {half}, and both splits are needed."
            )
    columns = {name: _labels(lists.home / name) for name in names}
    base, apart = _numbering(lists.home, columns, classes, trained)
    for name, found in columns.items():
        first = 1 - base + (trained if apart and Path(name).name.startswith("test") else 0)
        for row, label in enumerate(found.values):
            where = f"{name}, row {row + 1}"
            number = lists.number(where, "label", label if label is None else label + first)
            if number is not None:
                yield Entry(f"{name}#{row}", number, where)


def _labels(path: Path) -> _Labels:
    try:
        schema = schema_of(path)
        column = next((name for name in LABELS if name in schema.names), None)
        if column is None or image_column(schema) is None:
            lacking = "a column of labels" if column is None else "a column image with the bytes of files"
            raise UsageError(f"{path} lacks {lacking}; it has {', '.join(schema.names) or 'none'}.")
        if not pa.types.is_integer(schema.field(column).type):
            raise UsageError(f"{path}: {column} is {schema.field(column).type} and should be whole numbers.")
        begin_at_0 = feature(schema, column).get("_type") == "ClassLabel"
        return _Labels(pq.read_table(path, columns=[column])[column].to_pylist(), begin_at_0)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read as Parquet: {str(error).rstrip('.')}.") from error


def _numbering(home: Path, columns: dict[str, _Labels], classes: int, trained: int) -> tuple[int, bool]:
    """Is the first class 0 or 1, and is each split numbered by itself? Copies differ. Raises UsageError if it can't be
    told."""
    sides = {
        half: {
            label
            for name, found in columns.items()
            if Path(name).name.startswith(half)
            for label in found.values
            if label is not None
        }
        for half in HALVES
    }
    labels = sides["train"] | sides["test"]
    apart = bool(trained and sides["test"]) and max(sides["test"]) <= trained
    if 0 in labels or all(found.begin_at_0 for found in columns.values()):
        return 0, apart
    if (trained if apart else classes) in labels:
        return 1, apart
    raise UsageError(
        f"{home}: labels lie in {min(labels, default='-')}..{max(labels, default='-')}, so it can't be told "
        f"whether they begin at 0 or at 1. Expected 0..{classes - 1} or 1..{classes}."
    )
