"""Cars-196 as Parquet: images as bytes in a column, as data sets lie on Hugging Face.

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
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from muster.workers.datasets.base import Split
from muster.workers.datasets.lists import Entry, Lists
from muster.workers.errors import UsageError
from muster.workers.store.parquet import check_size
from muster.workers.store.records import parse_json

CLASSES = 196
KEPT_GROUPS = 3


def files(home: Path) -> list[str]:
    """The Parquet files of the splits train and test, in that order, as paths below `home`."""
    paths = [*home.glob("*.parquet"), *home.glob("*/*.parquet")]
    found = sorted(path.relative_to(home).as_posix() for path in paths)
    halves = [[f for f in found if Path(f).name.startswith(half)] for half in ("train", "test")]
    return [file for half in halves for file in half]


def entries(lists: Lists) -> Iterator[Entry]:
    """All rows of both splits. Raises UsageError for a file of another kind, and where a split is missing."""
    names = files(lists.home)
    for half in ("train", "test"):
        if not any(Path(name).name.startswith(half) for name in names):
            raise UsageError(
                f"{lists.home} has no Parquet file of the split {half}, and both splits are needed."
            )
    columns = {name: _labels(lists.home / name) for name in names}
    base = _base(lists.home, columns)
    for name, (labels, _) in columns.items():
        for row, label in enumerate(labels):
            where = f"{name}, row {row + 1}"
            number = lists.number(where, "label", label if label is None else label + 1 - base)
            if number is not None:
                yield Entry(f"{name}#{row}", number, where)


def _labels(path: Path) -> tuple[list[int | None], bool]:
    """The labels, and whether the file says that they are Hugging Face class labels, which begin at 0."""
    try:
        check_size(pq.read_metadata(path), path.stat().st_size)
        schema = pq.read_schema(path)
        lacking = {"image", "label"} - set(schema.names)
        if lacking:
            raise UsageError(f"{path} lacks the column(s) {', '.join(sorted(lacking))}.")
        if not pa.types.is_integer(schema.field("label").type):
            raise UsageError(f"{path}: label is {schema.field('label').type} and should be whole numbers.")
        kind: Any = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"))
        for name in ("info", "features", "label", "_type"):
            kind = kind.get(name) if isinstance(kind, dict) else None
        return pq.read_table(path, columns=["label"])["label"].to_pylist(), kind == "ClassLabel"
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read as Parquet: {str(error).rstrip('.')}.") from error


def _base(home: Path, columns: dict[str, tuple[list[int | None], bool]]) -> int:
    """Is the first class 0 or 1? Copies differ. Raises UsageError if it can't be told."""
    labels = {label for found, _ in columns.values() for label in found if label is not None}
    if 0 in labels or all(is_class_label for _, is_class_label in columns.values()):
        return 0
    if CLASSES in labels:
        return 1
    raise UsageError(
        f"{home}: labels lie in {min(labels, default='-')}..{max(labels, default='-')}, so it can't be told "
        f"whether they begin at 0 or at 1. Expected 0..{CLASSES - 1} or 1..{CLASSES}."
    )


def source_digest(home: Path, split: Split) -> str:
    """Changes with the files' names, sizes and times, and with the split's rows and classes."""
    found = hashlib.sha256(f"cars196/{split.name}/{home.absolute()}\n".encode())
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
    if value is None or value.get("bytes") is None:
        raise ValueError("the row holds no image bytes")
    return io.BytesIO(value["bytes"])


class _Groups:
    """The row groups read last. One thread reads at a time; the others wait for what it reads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.kept: OrderedDict[tuple[Path, int, int], pa.ChunkedArray] = OrderedDict()
        self.starts: dict[tuple[Path, int], list[int]] = {}

    def image(self, path: Path, row: int) -> dict[str, Any] | None:
        with self.lock:
            version = path.stat().st_mtime_ns
            starts = self._starts(path, version)
            group = next(i for i in reversed(range(len(starts))) if starts[i] <= row)
            key = (path, version, group)
            if key not in self.kept:
                with pq.ParquetFile(path) as file:
                    self.kept[key] = file.read_row_group(group, columns=["image"])["image"]
                while len(self.kept) > KEPT_GROUPS:
                    self.kept.popitem(last=False)
            self.kept.move_to_end(key)
            column = self.kept[key]
        value: dict[str, Any] | None = column[row - starts[group]].as_py()
        return value

    def _starts(self, path: Path, version: int) -> list[int]:
        """The first row of each row group."""
        if (path, version) not in self.starts:
            starts = [0]
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups - 1):
                    starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
            self.starts[path, version] = starts
        return self.starts[path, version]


_groups = _Groups()
