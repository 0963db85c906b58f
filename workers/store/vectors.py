"""Vectors in the store: an artefact of their own, committed once and checked when read.

A finished model can be embedded again for any split or view without being touched; the vectors' name is the digest
of the images and of the view.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from muster.workers.errors import CorruptFileError
from muster.workers.store.files import FileRecord
from muster.workers.store.layout import Folder
from muster.workers.store.parquet import read_table, table_bytes
from muster.workers.store.records import Done

Float32 = npt.NDArray[np.float32]
VECTORS = "vectors.parquet"


def write_vectors(folder: Folder, vectors: Float32, facts: dict[str, object]) -> None:
    """Commits vectors [n, D] to the store, once: those that another attempt has committed stand."""
    if folder.done() is not None:
        return
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    data = table_bytes(pa.table({"vector": column}), compression="none", use_dictionary=False)
    folder.files.put(folder / VECTORS, data)
    folder.commit(
        Done({VECTORS: FileRecord.of(data)}, {**facts, "rows": len(vectors), "D": vectors.shape[1]})
    )


def read_vectors(folder: Folder, start: int = 0, stop: int | None = None) -> Float32:
    """Rows start .. stop of committed vectors, float32 [n, D], checked against their record.

    Raises CorruptFileError if they are damaged or missing.
    """
    done = folder.done()
    if done is None:
        raise CorruptFileError(f"{folder.files.path(folder.name)} holds no finished vectors.")
    where = folder.files.path(folder / VECTORS)
    schema = pa.schema([("vector", pa.list_(pa.float32(), done.facts["D"]))])
    column = read_table(folder.get(VECTORS, done), where, schema)["vector"].combine_chunks()
    if len(column) != done.facts["rows"]:
        raise CorruptFileError(f"{where} is damaged: it has {len(column)} rows, not {done.facts['rows']}.")
    flat = column.flatten().to_numpy(zero_copy_only=False)
    vectors: Float32 = flat.reshape(len(column), done.facts["D"])
    return vectors[start:stop]
