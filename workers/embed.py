"""Images to unit vectors, kept in the store as an artefact of their own.

A finished model can be embedded again for any split or view without being touched; the vectors' name is
the digest of the images and of the view.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F

from workers import augment
from workers.errors import CorruptFileError, DivergedError
from workers.files import FileRecord
from workers.model import TestView
from workers.parquet import read_table
from workers.pixels import Pack, Part
from workers.store import Done, Folder

Float32 = npt.NDArray[np.float32]
#: Fixed, not tuned to what is free: the batch's size changes the last bits.
BATCH = 256
VECTORS = "vectors.parquet"


@torch.inference_mode()
def embed(
    network: torch.nn.Module,
    pack: Pack,
    part: Part,
    view: TestView,
    device: torch.device,
    *,
    normalize: bool = True,
) -> Float32:
    """The outputs of a part's images, float32 [n, D], in the part's order, L2-normalised unless told otherwise.

    Computed in float32 whatever precision the network trained in. Raises DivergedError if a vector is not
    finite. Source: DREML section 3.
    """
    network = network.to(device).to(memory_format=torch.channels_last).eval()
    to_float = augment.ToFloat(view.mean, view.std, device)
    found = []
    for start in range(0, len(part.rows), BATCH):
        batch = augment.view_batch(pack, part.rows[start : start + BATCH], view)
        output = network(to_float(batch)).float()
        found.append((F.normalize(output, dim=1) if normalize else output).cpu())
    vectors = torch.cat(found).numpy()
    if not np.isfinite(vectors).all():
        raise DivergedError("The network gives vectors that are not finite: its weights are not usable.")
    return vectors


def write_vectors(folder: Folder, vectors: Float32, facts: dict[str, object]) -> None:
    """Commits vectors [n, D] to the store, once: those that another attempt has committed stand."""
    if folder.done() is not None:
        return
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    buffer = io.BytesIO()
    pq.write_table(pa.table({"vector": column}), buffer, compression="none", use_dictionary=False)
    data = buffer.getvalue()
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
    column = read_table(folder.get(VECTORS, done))["vector"].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    vectors: Float32 = flat.reshape(len(column), -1)
    return vectors[start:stop]
