"""A few queries, the whole gallery, one ensemble prefix after another: which right images rank where.

Owns the running similarities of one block of queries, the tie rule and the counts that the scores are made of.
It checks nothing and starts no threads: `muster.workers.score.retrieval` gives it vectors that are checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from muster.workers.score.metrics import MAP_AT_R, R_PRECISION, RECALL
from muster.workers.score.protocol import Protocol
from muster.workers.score.queries import QueryRecord

#: Of each ensemble size, whether each query found a right image: bool [L, Q].
Hits = npt.NDArray[np.bool_]
TIE_TOLERANCE = 1e-6  # for each member: similarities closer than this differ by rounding


@dataclass(frozen=True)
class PrefixScore:
    """What the first `members` members find together, kept as counts; `+` joins disjoint sets of queries exactly.

    `hits[k]`: queries with a right image among their k nearest. `near_ties`: queries whose answer at the smallest
    k could change if similarities moved by TIE_TOLERANCE for each member. `sums`: of the other metrics over the
    queries, by name; empty if they were not asked for.
    """

    members: int
    queries: int
    hits: dict[int, int]
    near_ties: int
    sums: Mapping[str, float] = field(default_factory=dict)

    @property
    def recall(self) -> dict[int, float]:
        """Recall@K for each K, a share in 0 .. 1. A K beyond the gallery's size finds all there is: 1."""
        return {k: found / self.queries for k, found in self.hits.items()}

    @property
    def row(self) -> dict[str, float]:
        """All metrics under the names that files have for them (`metrics`), shares in 0 .. 1."""
        recall = {f"{RECALL}{k}": share for k, share in self.recall.items()}
        return recall | {name: total / self.queries for name, total in self.sums.items()}

    @property
    def full_row(self) -> dict[str, float]:
        """A row of a curve: the size, all metrics, and the near ties."""
        return {"L": self.members, **self.row, "near_ties": self.near_ties}

    def __add__(self, other: PrefixScore) -> PrefixScore:
        if self.members != other.members or self.hits.keys() != other.hits.keys():
            raise ValueError("only scores of the same prefix at the same K add up")
        sums = {name: total + other.sums[name] for name, total in self.sums.items()}
        hits = {k: n + other.hits[k] for k, n in self.hits.items()}
        near_ties = self.near_ties + other.near_ties
        return PrefixScore(self.members, self.queries + other.queries, hits, near_ties, sums)


def bytes_per_query(protocol: Protocol, full: bool) -> tuple[int, int]:
    """(kept between members, temporary): bytes of a `Block` for each of its queries; `full` as there."""
    gallery, most_right = len(protocol.gallery), int(protocol.references.max()) + 1
    kept = 4 * gallery + 9 * most_right  # similarities; which columns are right, and which of them repeated
    temporary = 4 * gallery + (72 if full else 16) * most_right  # a copy to count in; the sorts of ranks
    return kept, temporary


class Block:
    """The running similarities of the queries numbered `queries` with the whole gallery.

    `ks`: ascending K for recall. `full`: the metrics of ranks too. `record`: what is told what each query finds; `hits`
    [L, Q]: where it is noted which queries have a right image among their nearest ones, at the smallest K. Every query
    must have a right answer.
    """

    def __init__(
        self,
        protocol: Protocol,
        queries: np.ndarray,
        ks: list[int],
        full: bool,
        device: str,
        record: QueryRecord | None = None,
        hits: Hits | None = None,
    ) -> None:
        self.queries, self.record, self.hits = queries, record, hits
        self.rows, self.ks, self.full = torch.from_numpy(protocol.query[queries]).to(device), ks, full
        self.members = 0
        start, stop = (edge[queries, None] for edge in protocol.class_ranges)
        columns = start + np.arange((stop - start).max())
        # Small classes repeat their last image, which changes neither a maximum nor what is written back.
        self.right = torch.from_numpy(protocol.columns_by_class[np.minimum(columns, stop - 1)]).to(device)
        self.repeated = torch.from_numpy(columns >= stop).to(device)
        self.references = torch.from_numpy(protocol.references[queries, None]).to(device)
        self.sims = torch.zeros(len(queries), len(protocol.gallery), device=device)
        own = torch.from_numpy(protocol.own_column[queries]).to(device)
        inside = (own >= 0).nonzero()[:, 0]
        self.sims[inside, own[inside]] = -torch.inf  # and stays so, whatever is added

    def add(self, vectors: torch.Tensor, gallery: torch.Tensor) -> PrefixScore:
        """Score the prefix that ends with this member: its vectors [N, D] and the gallery's [G, D], on the device."""
        self.members += 1
        sims = self.sims.addmm_(vectors[self.rows], gallery.T)
        right = sims.gather(1, self.right)
        sims.scatter_(1, self.right, -torch.inf)  # only the wrong ones are left, until the last line
        hits, near_ties = self._recall(sims, right.amax(1))
        sums = self._by_rank(sims, right) if self.full else {}
        if self.record is not None and self.members in self.record.sizes:
            unlike = right.masked_fill(self.repeated, -torch.inf)
            self.record.take(self.queries, self.members, sims, unlike, self.right)
        sims.scatter_(1, self.right, right)
        return PrefixScore(self.members, len(self.rows), hits, near_ties, sums)

    def _recall(self, wrong: torch.Tensor, best: torch.Tensor) -> tuple[dict[int, int], int]:
        """Hits for each K and near ties, from the wrong similarities [b, G] and the best right one [b]."""
        smallest, b = self.ks[0], len(best)
        if smallest > wrong.shape[1]:
            if self.hits is not None:
                self.hits[self.members - 1, self.queries] = True
            return dict.fromkeys(self.ks, b), 0
        kth = wrong.amax(1) if smallest == 1 else _largest(wrong, smallest)[:, 0]
        missed = (kth >= best).nonzero()[:, 0]
        if self.hits is not None:
            found = np.ones(b, np.bool_)
            found[missed.cpu().numpy()] = False
            self.hits[self.members - 1, self.queries] = found
        near_ties = int(((kth - best).abs() <= TIE_TOLERANCE * self.members).sum())
        hits = {smallest: b - len(missed)}
        if len(self.ks) > 1:  # a larger K can only add what the smallest one missed
            # In place, the comparison gives 0.0 and 1.0, whose sum is exact and much faster than that of booleans.
            before = wrong.index_select(0, missed).ge_(best[missed, None]).sum(1)
            hits |= {k: hits[smallest] + int((before < k).sum()) for k in self.ks[1:]}
        return hits, near_ties

    def _by_rank(self, wrong: torch.Tensor, right: torch.Tensor) -> dict[str, float]:
        """Sums over the block of each metric of ranks, from wrong [b, G] and right [b, C] similarities.

        The j-th best right image has rank j + (wrong ones at least as similar). Ranks beyond R don't count, so the
        R most similar wrong ones are enough.
        """
        most = int(self.references.max())
        right = _largest(right.masked_fill(self.repeated, -torch.inf), most).flip(1)
        ahead = most - torch.searchsorted(_largest(wrong, most), right)
        place = torch.arange(1, most + 1, device=right.device)
        found = place + ahead <= self.references
        precision = torch.where(found, place.double() / (place + ahead), 0.0)
        metrics = {MAP_AT_R: precision, R_PRECISION: found.double()}
        return {metric.name: float((each / self.references).sum()) for metric, each in metrics.items()}


def _largest(values: torch.Tensor, k: int) -> torch.Tensor:
    """The k largest of each row, ascending, [b, k]."""
    if values.device.type != "cpu":
        return values.topk(k).values.flip(1)
    # numpy's selection is vectorised: five times as fast as topk, which keeps track of columns nobody asks for.
    n = values.shape[1]
    return torch.from_numpy(np.sort(np.partition(values.numpy(), n - k, axis=1)[:, n - k :], axis=1))
