"""Files of images that lie in a table's column: Parquet files, and Arrow's own as Hugging Face saves them to disk.

An image is named by its file and row ("data/train-00000-of-00002.parquet#17"), and read when it is needed. Files are
read forwards, some rows at a time, as packing asks for neighbours: a row group may be larger than the memory.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from muster.workers.datasets.base import Split
from muster.workers.datasets.pictures import BadPictureError
from muster.workers.errors import SourceError
from muster.workers.store.parquet import check_size
from muster.workers.store.records import parse_json
from muster.workers.store.remote import AnyPath

#: Rows that are read at once, as many of these are kept of a part of a file, and as many parts of files.
ROWS = 32
KEPT_BATCHES = 4
KEPT_PARTS = 3
#: Bytes of a file that are read ahead.
BUFFER = 1 << 20
ARROW = ".arrow"
#: How Arrow's streams and files end.
STREAM_END, FILE_END = b"\xff\xff\xff\xff\0\0\0\0", b"ARROW1"


def image_file(home: AnyPath, image_id: str, column: str = "") -> io.BytesIO:
    """The file of one image, from its row; without a `column`, from the one that holds images. Safe to call from many
    threads. Raises BadPictureError if there is none."""
    name, _, row = image_id.rpartition("#")
    value = _files.value(home / name, int(row), column)
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        path = value.get("path") if isinstance(value, dict) else None
        raise BadPictureError(
            "the row holds no image bytes" + (f", and names the file {path}" if path else "")
        )
    return io.BytesIO(data)


def rows_digest(home: AnyPath, names: Sequence[str], split: Split, extra: str) -> str:
    """Changes with the files' names, sizes and times, and with the split's rows and classes."""
    found = hashlib.sha256(extra.encode())
    for name in names:
        stat = (home / name).stat()
        found.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    for item in split.items:
        role = f"\0{item.role}" if item.role else ""
        found.update(f"{item.image_id}\0{item.class_name}{role}\n".encode())
    return found.hexdigest()[:32]


def schema_of(path: AnyPath) -> pa.Schema:
    """A file's columns. Raises ValueError, pa.ArrowException and OSError if it is no such file."""
    if path.suffix == ARROW:
        with path.open("rb") as end:
            end.seek(-min(len(STREAM_END), path.stat().st_size), os.SEEK_END)
            if not end.read().endswith((STREAM_END, FILE_END)):  # Arrow takes what there is for all
                raise ValueError("its end is missing")
        with _mapped(path) as file, _arrow(file) as reader:
            return reader.schema
    check_size(pq.read_metadata(_source(path)), path.stat().st_size)
    return pq.read_schema(_source(path))


def column_batches(path: AnyPath, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a file, of these columns alone, in their order."""
    if path.suffix == ARROW:
        with _mapped(path) as file, _arrow(file) as reader:
            for batch in reader:
                yield batch.select(columns)
        return
    with pq.ParquetFile(_source(path), buffer_size=BUFFER) as file:
        yield from file.iter_batches(columns=list(columns))


def _source(path: AnyPath) -> Any:
    """A file for pyarrow's readers."""
    return path if isinstance(path, Path) else path.open("rb", 0)


def _mapped(path: AnyPath) -> Any:
    """A file for Arrow's own format."""
    return pa.memory_map(str(path)) if isinstance(path, Path) else pa.PythonFile(path.open("rb"), "r")


def image_columns(schema: pa.Schema) -> list[str]:
    """The columns that can hold image files: bytes, or structs with bytes."""
    return [
        field.name
        for field in schema
        if _is_bytes(field.type)
        or (pa.types.is_dictionary(field.type) and _is_bytes(field.type.value_type))
        or (pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0)
    ]


def _is_bytes(kind: pa.DataType) -> bool:
    kinds = pa.types
    return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_binary_view(kind))


def image_column(schema: pa.Schema) -> str | None:
    """The column that holds image files; `image` before others."""
    found = image_columns(schema)
    return "image" if "image" in found else found[0] if len(found) == 1 else None


def feature(schema: pa.Schema, column: str) -> dict[str, Any]:
    """What Hugging Face's `datasets` noted of a column: a class label's `_type` and `names`; empty if nothing."""
    try:
        found: Any = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"))
    except ValueError:
        return {}
    for name in ("info", "features", column):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _arrow(file: Any) -> Any:
    """Arrow's stream or file format; both are in use."""
    try:
        return pa.ipc.open_stream(file)
    except pa.ArrowInvalid:
        file.seek(0)
        reader = pa.ipc.open_file(file)
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        return pa.RecordBatchReader.from_batches(reader.schema, batches)


class _Part:
    """The images of consecutive rows of a file, read forwards."""

    def __init__(self, start: int, begin: Callable[[], Iterator[pa.Array]]) -> None:
        self.start, self.begin = start, begin
        self.restart()

    def restart(self) -> None:
        self.kept: deque[tuple[int, pa.Array]] = deque(maxlen=KEPT_BATCHES)
        self.next, self.coming = self.start, self.begin()
        self.over = "the file has no such row any more"

    def value(self, row: int) -> Any:
        if self.kept and row < self.kept[0][0]:
            self.restart()  # somebody else began later
        while row >= self.next:
            images = self._more()
            if images is None:
                raise BadPictureError(self.over)
            self.kept.append((self.next, images))
            self.next += len(images)
        start, images = next(one for one in reversed(self.kept) if one[0] <= row)
        return images[row - start].as_py()

    def _more(self) -> pa.Array | None:
        """The next rows; None where there are none, or none that can be read, and `over` says why."""
        try:
            return next(self.coming, None)
        except (pa.ArrowException, OSError) as error:
            self.over = f"its file can't be read from row {self.next} on ({str(error).strip().rstrip('.')})"
            return None
        except SourceError:
            self.restart()  # what is behind an address may answer the next time
            raise


class _Files:
    """The parts of files that were read last. One thread reads at a time; the others wait for what it reads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.parts: OrderedDict[tuple[AnyPath, int, str, int], _Part] = OrderedDict()
        self.starts: dict[tuple[AnyPath, int], tuple[list[int], str]] = {}

    def value(self, path: AnyPath, row: int, column: str) -> Any:
        with self.lock:
            version = path.stat().st_mtime_ns
            starts, usual = self._starts(path, version)
            number, name = bisect_right(starts, row) - 1, column or usual
            key = (path, version, name, number)
            if key not in self.parts:
                self.parts[key] = _Part(starts[number], lambda: _images(path, name, number))
                while len(self.parts) > KEPT_PARTS:
                    self.parts.popitem(last=False)
            self.parts.move_to_end(key)
            return self.parts[key].value(row)

    def _starts(self, path: AnyPath, version: int) -> tuple[list[int], str]:
        """The first row of each row group, and the column with the images; Arrow's files are one part."""
        if (path, version) not in self.starts:
            starts = [0]
            if path.suffix != ARROW:
                metadata = pq.read_metadata(_source(path))
                for group in range(metadata.num_row_groups - 1):
                    starts.append(starts[-1] + metadata.row_group(group).num_rows)
            self.starts[path, version] = starts, image_column(schema_of(path)) or "image"
        return self.starts[path, version]


def _images(path: AnyPath, column: str, group: int) -> Iterator[pa.Array]:
    """The images of a row group, some rows at a time; an Arrow file is one."""
    if path.suffix == ARROW:
        for batch in column_batches(path, [column]):
            yield batch.column(0)
        return
    with pq.ParquetFile(_source(path), buffer_size=BUFFER) as file:
        for batch in file.iter_batches(ROWS, row_groups=[group], columns=[column]):
            yield batch.column(0)


_files = _Files()
