"""Parquet files that are in memory as bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from muster.workers.errors import CorruptFileError

#: A file may promise so many values beside those that its bytes could hold at one to the bit.
FEW_VALUES = 1_000_000
#: Names of files pack to a tenth, at the most; vectors and photographs hardly at all.
MOST_PACKED = 64


def read_table(data: bytes, where: str = "The table", schema: pa.Schema | None = None) -> pa.Table:
    """A table from the bytes of a Parquet file, read by this thread alone, from memory that is Arrow's own; `where`
    names the file. With a schema, it must have at least those columns, without nulls.

    Otherwise Arrow's threads may hold a Python object (a file, or the bytes) a moment longer than the call; one that
    lets go of it while the interpreter ends aborts the process ("terminate called without an active exception"; seen
    with pyarrow 26, about once in 100 short commands).

    Raises CorruptFileError if it is damaged, is another table, or promises more values than can be in it.
    """
    buffer = pa.allocate_buffer(len(data))
    memoryview(buffer).cast("B")[:] = data
    try:
        file = pq.ParquetFile(pa.BufferReader(buffer))
        check_size(file.metadata, len(data))
        table = file.read(use_threads=False)
        if schema is not None:
            table = table.select(schema.names)
            if table.schema.types != schema.types or any(column.null_count for column in table.columns):
                raise ValueError(f"its columns are {', '.join(map(str, table.schema))}")
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise CorruptFileError(
            f"{where} is damaged: it is no such table ({str(error).rstrip('.')})."
        ) from error
    return table


def check_size(metadata: pq.FileMetaData, size: int) -> None:
    """Raises ValueError where a file of `size` bytes promises more values than can be meant: some hundred bytes can say
    that a value comes a billion times."""
    chunks = [
        metadata.row_group(group).column(column)
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    ]
    values = max(metadata.num_rows, sum(chunk.num_values for chunk in chunks))
    if values > 8 * size + FEW_VALUES:
        raise ValueError(f"it promises {values:,} values in {size:,} bytes")
    unpacked = sum(chunk.total_uncompressed_size for chunk in chunks)
    if unpacked > MOST_PACKED * (size + FEW_VALUES):
        raise ValueError(f"it unpacks from {size:,} bytes to {unpacked:,}")


def table_bytes(table: pa.Table | Sequence[Mapping[str, Any]], **how: Any) -> bytes:
    """The bytes of a Parquet file of a table, or of rows; `how` is as in `pyarrow.parquet.write_table`."""
    buffer = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.Table.from_pylist(table), buffer, **how)
    return buffer.getvalue()
