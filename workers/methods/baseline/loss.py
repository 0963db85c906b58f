"""The compared methods' losses: pytorch-metric-learning's, called here and nowhere else."""

from __future__ import annotations

import torch
from torch import nn

from muster.workers.errors import UsageError
from muster.workers.methods.baseline.settings import BaselineSettings, library_problem
from muster.workers.rng import torch_seed


class MetricLoss(nn.Module):
    """A loss over a batch: embeddings float32 [n, dim], not normalised, and classes int64 [n] to a scalar.

    triplet: the mean over all semi-hard triplets, whose negative is farther than the positive by less than the
    margin; 0 if there are none (Schroff et al. 2015, section 3). npairs: cross-entropy of each label's pair among
    the pairs of all labels (Sohn 2016, eq. 6), plus the mean squared length. proxynca: the nearest proxy among all
    training classes, the class's own included (PML's form; Movshovitz-Attias et al. 2017, eq. 4, leaves it out).
    Raises UsageError if the library is missing.
    """

    def __init__(self, settings: BaselineSettings, classes: int, seed: int) -> None:
        super().__init__()
        if problem := library_problem():
            raise UsageError(problem)
        self.miner: nn.Module | None = None
        if settings.loss == "triplet":
            self.miner, self.loss = _triplet(settings.margin)
        elif settings.loss == "npairs":
            self.loss = _npairs(settings.embedding_l2)
        else:
            self.loss = _proxy_nca(settings, classes, seed)

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.miner is None:
            found: torch.Tensor = self.loss(embeddings, labels)
        else:
            found = self.loss(embeddings, labels, self.miner(embeddings, labels))
        return found


def _triplet(margin: float) -> tuple[nn.Module, nn.Module]:
    from pytorch_metric_learning import distances, losses, miners

    squared = distances.LpDistance(normalize_embeddings=True, p=2, power=2)
    miner = miners.TripletMarginMiner(margin=margin, type_of_triplets="semihard", distance=squared)
    return miner, losses.TripletMarginLoss(margin=margin, distance=squared)


def _npairs(embedding_l2: float) -> nn.Module:
    from pytorch_metric_learning import distances, losses, regularizers

    found: nn.Module = losses.NPairsLoss(
        distance=distances.DotProductSimilarity(normalize_embeddings=False),
        embedding_regularizer=regularizers.LpRegularizer(p=2, power=2),
        embedding_reg_weight=embedding_l2,
    )
    return found


def _proxy_nca(settings: BaselineSettings, classes: int, seed: int) -> nn.Module:
    from pytorch_metric_learning import distances, losses

    squared = distances.LpDistance(normalize_embeddings=True, p=2, power=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(("baseline-proxies", seed)))
        found: nn.Module = losses.ProxyNCALoss(
            classes, settings.dim, softmax_scale=settings.scale, distance=squared
        )
        return found
