"""Published data sets as Parquet: images as bytes in a column, as data sets lie on Hugging Face.

An image is named by its file and row ("data/train-00000-of-00002.parquet#17"). Images are read a row group at a
time, when they are needed; the newest groups are kept, since packing asks for neighbours.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from muster.workers.datasets.base import Split
from muster.workers.datasets.lists import Entry, Lists
from muster.workers.datasets.pictures import BadPictureError
from muster.workers.errors import UsageError
from muster.workers.store.parquet import check_size
from muster.workers.store.records import parse_json

KEPT_GROUPS = 3
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
        check_size(pq.read_metadata(path), path.stat().st_size)
        schema = pq.read_schema(path)
        column = next((name for name in LABELS if name in schema.names), None)
        if column is None or _image_column(schema) is None:
            lacking = "a column of labels" if column is None else "a column image with the bytes of files"
            raise UsageError(f"{path} lacks {lacking}; it has {', '.join(schema.names) or 'none'}.")
        if not pa.types.is_integer(schema.field(column).type):
            raise UsageError(f"{path}: {column} is {schema.field(column).type} and should be whole numbers.")
        kind: Any = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"))
        for name in ("info", "features", column, "_type"):
            kind = kind.get(name) if isinstance(kind, dict) else None
        return _Labels(pq.read_table(path, columns=[column])[column].to_pylist(), kind == "ClassLabel")
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read as Parquet: {str(error).rstrip('.')}.") from error


def _image_column(schema: pa.Schema) -> str | None:
    """The column that holds image files: bytes, or structs with bytes; `image` before others."""
    found = [
        field.name
        for field in schema
        if pa.types.is_binary(field.type)
        or pa.types.is_large_binary(field.type)
        or (pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0)
    ]
    return "image" if "image" in found else found[0] if len(found) == 1 else None


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


def source_digest(home: Path, data_set: str, split: Split) -> str:
    """Changes with the files' names, sizes and times, and with the split's rows and classes."""
    found = hashlib.sha256(f"{data_set}/{split.name}/{home.absolute()}\n".encode())
    for name in files(home):
        stat = (home / name).stat()
        found.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    for item in split.items:
        found.update(f"{item.image_id}\0{item.class_name}\n".encode())
    return found.hexdigest()[:32]


def image_file(home: Path, image_id: str) -> io.BytesIO:
    """The file of one image, from its row. Safe to call from many threads."""
    name, _, row = image_id.rpartition("#")
    value = _groups.image(home / name, int(row))
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise BadPictureError("the row holds no image bytes")
    return io.BytesIO(data)


class _Groups:
    """The row groups read last. One thread reads at a time; the others wait for what it reads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.kept: OrderedDict[tuple[Path, int, int], pa.ChunkedArray] = OrderedDict()
        self.starts: dict[tuple[Path, int], tuple[list[int], str]] = {}

    def image(self, path: Path, row: int) -> Any:
        with self.lock:
            version = path.stat().st_mtime_ns
            starts, name = self._starts(path, version)
            group = next(i for i in reversed(range(len(starts))) if starts[i] <= row)
            key = (path, version, group)
            if key not in self.kept:
                with pq.ParquetFile(path) as file:
                    self.kept[key] = file.read_row_group(group, columns=[name])[name]
                while len(self.kept) > KEPT_GROUPS:
                    self.kept.popitem(last=False)
            self.kept.move_to_end(key)
            column = self.kept[key]
        return column[row - starts[group]].as_py()

    def _starts(self, path: Path, version: int) -> tuple[list[int], str]:
        """The first row of each row group, and the column with the images."""
        if (path, version) not in self.starts:
            starts = [0]
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups - 1):
                    starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
                column = _image_column(file.schema_arrow) or "image"
            self.starts[path, version] = starts, column
        return self.starts[path, version]


_groups = _Groups()
