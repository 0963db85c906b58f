"""What each query found: the rank of its first right image as members are added, and at last the nearest images.

Owns the arrays, which blocks of queries fill while they score. It computes no mean and knows no image by its name.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from muster.workers.score.protocol import Protocol

NEAREST = 10


class QueryRecord:
    """Filled by one pass over `protocol`; a query without a right answer keeps rank 0 and no nearest image.

    `sizes`: the ensemble sizes, ascending, at which ranks are kept; of the last one the nearest images too.
    `ranks` int32 [Q, sizes], from 1: one more than the wrong images at least as similar as the best right one.
    `nearest` int32 [Q, 10] (fewer in a smaller gallery): columns of the gallery, the nearest first, a wrong image
    before a right one exactly as similar; -1 where there is none. `similarity` float32, the same shape: dot products
    of the whole embeddings.
    """

    def __init__(self, protocol: Protocol, sizes: Sequence[int]) -> None:
        queries, most = len(protocol.query), min(NEAREST, len(protocol.gallery))
        self.sizes = tuple(sizes)
        self.ranks = np.zeros((queries, len(self.sizes)), np.int32)
        self.nearest = np.full((queries, most), -1, np.int32)
        self.similarity = np.full((queries, most), np.nan, np.float32)

    def take(
        self, queries: np.ndarray, size: int, wrong: torch.Tensor, right: torch.Tensor, columns: torch.Tensor
    ) -> None:
        """Notes what the queries numbered `queries` find with `size` members, one of `sizes`.

        Similarities to all of the gallery, the right ones at -inf: `wrong` [b, G]; to the right images: `right`
        [b, C], which are the gallery's `columns` [b, C].
        """
        ahead = (wrong >= right.amax(1, keepdim=True)).sum(1)
        self.ranks[queries, self.sizes.index(size)] = (1 + ahead).cpu().numpy()
        if size == self.sizes[-1]:
            self._nearest(queries, wrong, right, columns)

    def _nearest(
        self, queries: np.ndarray, wrong: torch.Tensor, right: torch.Tensor, columns: torch.Tensor
    ) -> None:
        most = self.nearest.shape[1]
        of_wrong, of_right = wrong.topk(most), right.topk(min(most, right.shape[1]))
        values = torch.cat([of_wrong.values, of_right.values], 1)
        found = torch.cat([of_wrong.indices, columns.gather(1, of_right.indices)], 1)
        values, order = values.sort(dim=1, descending=True, stable=True)  # stable: the wrong ones stay first
        values, found = values[:, :most].cpu(), found.gather(1, order)[:, :most].cpu()
        there = values > -torch.inf  # the query itself is not
        self.nearest[queries] = torch.where(there, found, -1).numpy()
        self.similarity[queries] = torch.where(there, values, torch.nan).numpy()
