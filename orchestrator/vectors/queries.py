"""What each query of a split found, a row each: for whoever asks which images an ensemble gets wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from muster.workers.score.protocol import Protocol
    from muster.workers.score.queries import QueryRecord


def queries_name(split: str) -> str:
    """The table's name in a run's folder."""
    return "queries.parquet" if split == "test" else f"queries-{split}.parquet"


def query_table(images: pa.Table, protocols: Sequence[Protocol], records: Sequence[QueryRecord]) -> pa.Table:
    """A row for each query that has a right answer, in the images' order, and for each draw of a gallery.

    `images` has the name and the class of each row of the protocols' labels. Columns: draw (from 0), image_id, label;
    rank_L1, rank_L2, rank_L4, ...: the rank, from 1, of the first right image in ensembles of so many members; and of
    the largest one nearest, nearest_label and similarity: lists of the 10 most similar images, the nearest first, their
    classes, and their dot products with the query.
    """
    return pa.concat_tables(
        _of_draw(images, draw, *found) for draw, found in enumerate(zip(protocols, records, strict=True))
    )


def _of_draw(images: pa.Table, draw: int, protocol: Protocol, record: QueryRecord) -> pa.Table:
    asked = np.flatnonzero(protocol.references)
    queries = images.take(pa.array(protocol.query[asked]))
    there = record.nearest[asked] >= 0
    near = images.take(pa.array(protocol.gallery[record.nearest[asked][there]]))
    starts = pa.array(np.concatenate([[0], np.cumsum(there.sum(1))]).astype(np.int32))

    def lists(values: pa.Array | pa.ChunkedArray) -> pa.Array:
        whole = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        return pa.ListArray.from_arrays(starts, whole)

    return pa.table(
        {
            "draw": pa.array(np.full(len(asked), draw, np.int32)),
            "image_id": queries["image_id"],
            "label": queries["class_name"],
            **{f"rank_L{size}": record.ranks[asked, place] for place, size in enumerate(record.sizes)},
            "nearest": lists(near["image_id"]),
            "nearest_label": lists(near["class_name"]),
            "similarity": lists(pa.array(record.similarity[asked][there])),
        }
    )
