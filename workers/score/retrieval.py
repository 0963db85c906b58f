"""Retrieval scores of an ensemble at every size, from one pass over its members.

Owns the way in: it checks the vectors, cuts the queries into blocks and runs them side by side. It never reads
or writes files and never weights or normalises vectors: how members are combined is decided before they come here.

The similarity of two concatenated vectors is the sum of the members' similarities. So one running matrix
[queries, gallery] is enough: each member is added to it once, and is then scored as the ensemble so far.

Tie rule: a wrong image exactly as similar as a right one ranks BEFORE it. A collapsed embedding, for which all
images are alike, therefore finds nothing, or what chance finds where rounding parts equal products. Queries that
rounding could tip are counted as near ties.
"""

from __future__ import annotations

import functools
import operator
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch

from muster.workers.errors import MusterError, UsageError
from muster.workers.score.protocol import Protocol
from muster.workers.score.queries import QueryRecord
from muster.workers.score.ranking import Block, Hits, PrefixScore, bytes_per_query

CACHE_BYTES = 4 << 20  # of similarities in a CPU thread's block: they stay in its cache from member to member
MOST_LENGTH = (
    1e15  # of a vector: sums of products stay far from float32's largest number, whatever their number
)
MIN_CPU_ROWS = 64  # with fewer queries at once the matrix product is slow, however large the gallery

A = TypeVar("A")
B = TypeVar("B")


def prefix_curve(
    members: Sequence[np.ndarray],
    protocol: Protocol,
    ks: Sequence[int] = (1, 2, 4, 8),
    *,
    map_at_r: bool = False,
    device: str = "cpu",
    memory: int = 2 << 30,
    record: QueryRecord | None = None,
    hits: Hits | None = None,
) -> list[PrefixScore]:
    """Score the ensembles of the first 1, 2, ..., L members; element l - 1 of the list is that of l members.

    `members[l]`: float32 [N, D_l], an array or a memory map in the order of `protocol.labels`, one unit vector a
    row (not checked: rows that were weighted on purpose are summed as they are). `ks`: whole numbers from 1 up.
    `memory`: bytes for the matrices of all blocks at work. The members' vectors are not counted: a device holds all of
    them, and the gallery's rows are copied unless they lie in one stretch. A CPU works with `torch.get_num_threads()`
    threads.
    `record`, of the same protocol, is filled with what each query finds; `hits`, bool [L, Q], with whether it has a
    right image among its nearest ones, at the smallest K.

    Queries without a right answer are left out: see `protocol.lone_queries` and `lone_classes`. Raises UsageError
    for arguments that don't fit together, MusterError for a member that holds NaN or infinity. The curve is that
    of DREML's Figure 3 over L; each point equals, up to rounding, a fresh evaluation of the concatenation.
    """
    if not len(members):
        raise UsageError("retrieval: there are no members to score; give one array of vectors for each.")
    ks = _checked_ks(ks)
    blocks = _query_blocks(protocol, device, memory, sum(bytes_per_query(protocol, map_at_r)))
    checked = [_checked_member(vectors, i, protocol, device) for i, vectors in enumerate(members)]

    def score(queries: np.ndarray) -> list[PrefixScore]:
        block = Block(protocol, queries, ks, map_at_r, device, record, hits)
        return [block.add(*member) for member in checked]

    curves = _side_by_side(score, blocks, device)
    return [functools.reduce(operator.add, scores) for scores in zip(*curves, strict=True)]


class PrefixScorer:
    """`prefix_curve` one member at a time: each costs one increment, whenever it arrives.

    Takes what `prefix_curve` takes, on a CPU, but holds the running similarities of all Q queries with all G gallery
    images at once: `memory` must hold 4 * Q * G bytes and the temporaries, or UsageError says so.
    """

    def __init__(
        self,
        protocol: Protocol,
        ks: Sequence[int] = (1, 2, 4, 8),
        *,
        map_at_r: bool = False,
        memory: int = 4 << 30,
    ) -> None:
        kept, temporary = bytes_per_query(protocol, map_at_r)
        kept *= len(protocol.query) - protocol.lone_queries
        if kept >= memory:
            raise UsageError(
                f"retrieval: {len(protocol.query)} queries and {len(protocol.gallery)} gallery images need "
                f"{kept:,} bytes to be scored as members arrive, and memory={memory:,} is less; "
                "raise it, or use prefix_curve once the members are there."
            )
        self.protocol, self.members = protocol, 0
        ks = _checked_ks(ks)
        blocks = _query_blocks(protocol, "cpu", memory - kept, temporary)
        self._blocks = [Block(protocol, queries, ks, map_at_r, "cpu") for queries in blocks]

    def add(self, vectors: np.ndarray) -> PrefixScore:
        """The score with this member added; `vectors` float32 [N, D_l]. A member that is refused changes nothing."""
        member = _checked_member(vectors, self.members, self.protocol, "cpu")
        self.members += 1
        scores = _side_by_side(lambda block: block.add(*member), self._blocks, "cpu")
        return functools.reduce(operator.add, scores)


def _query_blocks(protocol: Protocol, device: str, memory: int, need: int) -> list[np.ndarray]:
    """The queries that have a right answer, in blocks, ordered by R so that a block's rows are alike.

    `memory` bytes are shared by the blocks at work, and each of their queries needs `need`.
    """
    queries = np.argsort(protocol.references, kind="stable")[protocol.lone_queries :]
    need *= _blocks_at_once(device)
    if memory < need:
        raise UsageError(
            f"retrieval: {need:,} bytes are needed at least, and memory has {memory:,}; raise it."
        )
    rows = memory // need
    if torch.device(device).type == "cpu":
        rows = min(rows, max(MIN_CPU_ROWS, CACHE_BYTES // (4 * len(protocol.gallery))))
    return [queries[i : i + rows] for i in range(0, len(queries), rows)]


def _blocks_at_once(device: str) -> int:
    """How many blocks are at work at the same time."""
    return torch.get_num_threads() if torch.device(device).type == "cpu" else 1


def _side_by_side(work: Callable[[A], B], items: Sequence[A], device: str) -> list[B]:
    """[work(item) for item in items] in full float32 precision; on a CPU each item has one thread to itself.

    The usual way, all threads inside each small operation, makes them wait for each other after each, and that
    takes ten times as long as soon as another process wants one of the cores. Not for two callers at once in one
    process: both settings belong to the process.
    """
    at_once, threads = _blocks_at_once(device), torch.get_num_threads()
    precision = torch.get_float32_matmul_precision()
    torch.set_num_threads(1)
    # Training may have allowed TF32 or bf16 products; here they would decide which image is nearest.
    torch.set_float32_matmul_precision("highest")
    try:
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(work, items))
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


def _checked_ks(ks: Sequence[int]) -> list[int]:
    wrong = [k for k in ks if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1]
    if wrong or not len(ks):
        raise UsageError(
            f"retrieval: K must be one or more whole numbers from 1 up, such as 1, 2, 4, 8; given: {list(ks)}."
        )
    return sorted({int(k) for k in ks})


def _checked_member(
    vectors: np.ndarray, index: int, protocol: Protocol, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """(all vectors [N, D], the gallery's [G, D]) on the device, without a copy there where the gallery is one stretch
    of rows.

    `index` counts from 0; messages count members from 1, as all others do.
    """
    n = len(protocol.labels)
    if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[0] != n or not vectors.shape[1]:
        raise UsageError(
            f"member {index + 1}: its vectors are {vectors.dtype} of shape {list(vectors.shape)}, and the protocol's "
            f"{n} images need float32 of shape [{n}, D]; embed the same split for every member."
        )
    with warnings.catch_warnings():  # files mapped for reading stay unwritten here too
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        table = torch.from_numpy(vectors)
    longest = float(torch.linalg.vector_norm(table, dim=1).amax())
    if not longest <= MOST_LENGTH:  # nor if it is NaN
        bad = ~np.isfinite(vectors).all(axis=1)
        what = f"{bad.sum()} of {n} vectors hold NaN or infinity, the first is row {bad.argmax()}"
        if not bad.any():
            what = f"its longest vector has a length of {longest:.3g}, and such products overflow"
        raise MusterError(
            f"member {index + 1}: {what}; delete its embeddings and embed it again, or train it again."
        )
    table = table.to(device)  # once, and not for each block of queries
    first = int(protocol.gallery[0])
    if np.array_equal(protocol.gallery, np.arange(first, first + len(protocol.gallery))):
        return table, table[first : first + len(protocol.gallery)]
    return table, table[torch.from_numpy(protocol.gallery).to(device)]
