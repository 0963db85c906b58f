"""What the figures read of a finished ensemble: its vectors of a split, and what its images are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from muster.orchestrator.ensemble.requests import EnsembleResult
from muster.orchestrator.settings.resources import parse_bytes
from muster.orchestrator.vectors import vectors
from muster.orchestrator.vectors.evaluate import all_vectors
from muster.workers.packs.pack import Part
from muster.workers.store.layout import Store


@contextmanager
def ensemble_vectors(store: Store, got: EnsembleResult, split: str) -> Iterator[list[np.ndarray]]:
    """Each finished member's vectors of a split, float32 [n, D], in index order; files on disk where together they
    exceed the request's memory. Raises DamagedMember."""
    memory = parse_bytes(got.request.launch.resources.eval_memory)
    keys = [task.key for task in got.members]
    with tempfile.TemporaryDirectory(prefix="muster-vectors-") as scratch:
        yield all_vectors(store, got.target(split), keys, memory, Path(scratch))


def images_of(store: Store, got: EnsembleResult, split: str) -> tuple[Part, list[str], list[str]]:
    """The part of a split's pack that the vectors are of, its image ids and its class names, a row each.

    Raises CorruptFileError if the pack is gone.
    """
    index, part = vectors.images_of(store, got.target(split))
    table = index.table.select(["image_id", "class_name"]).take(part.rows)
    return part, table["image_id"].to_pylist(), table["class_name"].to_pylist()
