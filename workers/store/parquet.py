"""Parquet files that are in memory as bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def read_table(data: bytes) -> pa.Table:
    """A table from the bytes of a Parquet file, read by this thread alone, from memory that is Arrow's own.

    Otherwise Arrow's threads may hold a Python object (a file, or the bytes) a moment longer than the call; one that
    lets go of it while the interpreter ends aborts the process ("terminate called without an active exception"; seen
    with pyarrow 26, about once in 100 short commands).
    """
    buffer = pa.allocate_buffer(len(data))
    memoryview(buffer).cast("B")[:] = data
    return pq.ParquetFile(pa.BufferReader(buffer)).read(use_threads=False)


def table_bytes(table: pa.Table | Sequence[Mapping[str, Any]], **how: Any) -> bytes:
    """The bytes of a Parquet file of a table, or of rows; `how` is as in `pyarrow.parquet.write_table`."""
    buffer = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.Table.from_pylist(table), buffer, **how)
    return buffer.getvalue()
