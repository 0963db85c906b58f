"""BIER: one network whose last layer is M linear learners, trained with online gradient boosting.

This module owns the learners, the boosted loss over the global batch, and how embeddings of all ranks come
together with the right gradient. It never draws a batch, steps an optimiser or writes a file.

The distributed scheme: every rank gathers the learners' vectors and labels and computes the same loss on
them; in the backward pass it keeps the gradient of its own rows and multiplies it by the number of ranks. As
every rank computed the same function, that equals summing the ranks' gradients of these rows, but costs no
second collective; DistributedDataParallel's average over ranks then gives the gradient that one rank would
have on the whole batch. Terms that are not gathered (the auxiliary loss) take no factor: local sample means
and weight penalties average to the right value by themselves. Multiplying the gradient, and not the loss,
keeps the reported value true.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from muster.workers.methods.bier.auxiliary import Auxiliary
from muster.workers.methods.bier.settings import BierSettings
from muster.workers.networks.backbones import State, build, without_head
from muster.workers.rng import torch_seed

ALPHA = 2.0
BETA = 0.5
NEGATIVE_COST = 25.0
SMALLEST_NORM = 1e-5
FIRST_PREDICTION = 0.5
NEGATIVE_WEIGHT = 2.0
#: Layers of torch and torchvision that drop at random; by name, as torchvision may not be loaded.
DROPPING = {"Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "StochasticDepth"}


class Learners(nn.Module):
    """M linear learners on the same features, side by side in one matrix.

    Each learner's rows are Glorot-uniform for its own size, biases are 0 (authors' code).
    """

    def __init__(self, features: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes
        self.weight = nn.Parameter(torch.empty(sum(sizes), features))
        self.bias = nn.Parameter(torch.zeros(sum(sizes)))
        for part in self.weight.data.split(sizes):
            nn.init.xavier_uniform_(part)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Features [n, features] to the learners' raw vectors, joined: [n, sum of sizes]."""
        return F.linear(hidden, self.weight, self.bias)


class Bier(nn.Module):
    """A backbone's pooled features and the learners on them, with nothing in between."""

    def __init__(self, features: nn.Module, learners: Learners) -> None:
        super().__init__()
        self.features, self.learners = features, learners

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [n, 3, side, side] to raw learner vectors [n, sum of sizes]."""
        vectors: torch.Tensor = self.learners(self.features(images))
        return vectors


def build_bier(
    backbone: str,
    settings: BierSettings,
    seed: int,
    initial: State | None = None,
    *,
    pretrained: bool = False,
) -> Bier:
    """The network on the CPU: a backbone of `workers/networks` with the learners in place of its last layer.

    Dropout is switched off: the authors' network has none before the learners, and masks drawn by each rank
    would make the result depend on how many there are. `initial`, `pretrained` and what is raised are as for
    `backbones.build`.
    """
    network = build(backbone, 1, seed, initial, pretrained=pretrained)
    features = without_head(network, backbone)
    for module in network.modules():
        if type(module).__name__ in DROPPING:
            module.p = 0.0  # type: ignore[assignment]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(("bier-learners", seed)))
        return Bier(network, Learners(features, settings.sizes))


class Boosted(NamedTuple):
    """The boosted loss of a batch of B images and M learners."""

    loss: torch.Tensor
    "Scalar: the mean over the learners."
    learners: torch.Tensor
    "[M]: each learner's own weighted loss, detached."
    weights: torch.Tensor
    "[M, B, B]: the weight of each pair for each learner, detached; the first learner's are 1."


def boosted_loss(vectors: torch.Tensor, labels: torch.Tensor, settings: BierSettings) -> Boosted:
    """Binomial deviance on the cosine similarities of all ordered pairs, each learner reweighting the next.

    `vectors`: raw learner vectors of the global batch [B, sum of sizes]; `labels`: int64 [B]. Computed in
    float32, or in float64 if given it, whatever the autocast. A batch of one label has no negative pairs
    and so no negative term. Source: BIER section II; constants, pair masks and normalisation from the
    authors' code.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        vectors = _full_precision(vectors)
        same = labels[:, None] == labels[None, :]
        mask, share = _pair_tables(same, vectors.dtype)
        weight = torch.ones_like(mask)
        prediction = torch.full_like(mask, FIRST_PREDICTION)
        losses, weights = [], []
        for m, part in enumerate(vectors.split(settings.sizes, dim=1), start=1):
            unit = F.normalize(part, dim=1, eps=SMALLEST_NORM)
            margin = ALPHA * (unit @ unit.T - BETA) * mask
            # -logsigmoid is softplus(-margin) without the threshold beyond which torch's becomes linear.
            losses.append((share * weight * -F.logsigmoid(margin)).sum())
            weights.append(weight)
            if settings.boost:
                prediction, weight = _next_weights(settings, m, prediction, margin.detach(), same)
        each = torch.stack(losses)
        return Boosted(each.mean(), each.detach(), torch.stack(weights))


def _pair_tables(same: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """The mask (1 for positive pairs, -25 for negative ones) and each pair's share in the sum, both [B, B].

    Positive pairs are divided by a count that includes the diagonal, although the diagonal itself is left
    out: with K images of each label the positive shares sum to (K - 1) / K, the negative ones to 1.
    """
    positive, negative = same.to(dtype), (~same).to(dtype)
    share = positive / positive.sum() + negative / negative.sum().clamp(min=1)
    return positive - NEGATIVE_COST * negative, share.fill_diagonal_(0)


def _next_weights(
    settings: BierSettings, m: int, prediction: torch.Tensor, margin: torch.Tensor, same: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The ensemble's prediction after learner m (from 1), and the pair weights of learner m + 1: [B, B] each.

    The weight is the negative gradient of the loss at the prediction, sigmoid(-prediction). The variant eta
    is the paper's; the authors' default adds constant steps and doubles the negative pairs' weights. `balanced`
    is ours: constant steps too, and the balance of the pairs is kept.
    """
    if settings.variant == "eta":
        step = 2 / (m + 1)
        prediction = (1 - step) * prediction + step * margin
        return prediction, torch.sigmoid(-prediction)
    prediction = prediction + settings.shrinkage * margin
    weight = torch.sigmoid(-prediction)
    if settings.variant == "balanced":
        return prediction, _balanced(weight, margin, same)
    return prediction, torch.where(same, weight, NEGATIVE_WEIGHT * weight)


def _balanced(weight: torch.Tensor, margin: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    """The weights [B, B], those of the positive pairs times one factor and those of the negative ones times another, so
    that the slopes of either's losses at learner m's margins have the sum that they have with all weights 1.

    Boosting alone weighs all positive pairs less (docs/bier.md), which parts the classes before they come together.
    """
    slope = torch.sigmoid(-margin).fill_diagonal_(0)
    positive, negative = slope * same, slope * ~same

    def kept(slopes: torch.Tensor) -> torch.Tensor:
        weighted = (weight * slopes).sum()
        return torch.where(weighted > 0, slopes.sum() / weighted, 1.0)

    return weight * torch.where(same, kept(positive), kept(negative))


def _full_precision(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """The rows [n, ...] of every rank, in rank order: [n x ranks, ...]; as given without a process group.

    Every rank must give as many rows, and must compute the same function of the result: its gradient is
    then right after DistributedDataParallel's average (see this module's own docstring).
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows
    gathered: torch.Tensor = _GatherRows.apply(rows)
    return gathered


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        rows = rows.contiguous()
        gathered = rows.new_empty(dist.get_world_size() * len(rows), *rows.shape[1:])
        dist.all_gather_into_tensor(gathered, rows)
        return gathered

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        own = gradients[0].chunk(dist.get_world_size())[dist.get_rank()]
        return own * dist.get_world_size()


class RankLoss(NamedTuple):
    """The loss of one training step on one rank."""

    total: torch.Tensor
    "Scalar to call backward on: boosted + auxiliary."
    boosted: Boosted
    "Of the global batch, the same on every rank."
    auxiliary: torch.Tensor
    "Scalar, detached: this rank's share; the global value is the mean over ranks."


class BierStep(nn.Module):
    """The network, the auxiliary loss and the gathering as one module: what DistributedDataParallel wraps.

    Its forward pass uses every parameter, so DDP sees all of them and needs no search for unused ones.
    """

    def __init__(self, network: Bier, settings: BierSettings, seed: int) -> None:
        super().__init__()
        self.network, self.settings = network, settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(("bier-regressors", seed)))
            self.auxiliary = Auxiliary(settings)

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> RankLoss:
        """This rank's images [n, 3, side, side] and labels int64 [n]: the loss of the global batch."""
        hidden = self.network.features(images)
        vectors = self.network.learners(hidden)
        boosted = boosted_loss(gather_rows(_full_precision(vectors)), gather_rows(labels), self.settings)
        auxiliary = self.auxiliary(hidden, self.network.learners.weight)
        return RankLoss(boosted.loss + auxiliary, boosted, auxiliary.detach())


def parameter_groups(step: BierStep, settings: BierSettings) -> list[dict[str, Any]]:
    """Adam's parameter groups, each with `lr`, `initial_lr` and `weight_decay`.

    Weight decay acts on the weights of the backbone and the learners, not on biases, norms and regressors;
    Adam's own L2 term, not AdamW's. Source: authors' code, where 2e-4 times the squares is added to the
    loss: 4e-4 here. A step sets each lr to initial_lr x settings.annealing(step).
    """
    features = list(step.network.features.parameters())
    learners = step.network.learners
    groups = [
        ([p for p in features if p.ndim > 1], settings.lr, settings.weight_decay),
        ([p for p in features if p.ndim <= 1], settings.lr, 0.0),
        ([learners.weight], settings.lr * settings.learner_lr, settings.weight_decay),
        ([learners.bias], settings.lr * settings.learner_lr, 0.0),
        (list(step.auxiliary.parameters()), settings.lr * settings.regressor_lr, 0.0),
    ]
    return [
        {"params": params, "lr": lr, "initial_lr": lr, "weight_decay": decay}
        for params, lr, decay in groups
        if params
    ]
