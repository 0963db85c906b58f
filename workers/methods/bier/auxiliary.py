"""What pushes BIER's learners apart: adversarial regressors or the activation loss, and weight penalties.

This module owns the auxiliary loss and the regressors. It never gathers: every similarity is a mean over
samples, so the average of equal ranks' values and gradients is that of the global batch, and weight
penalties are the same on every rank. By default its gradient reaches the learners' weights and the
regressors but not the backbone, as in the authors' code.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from muster.workers.methods.bier.settings import BierSettings, NormAxis

HIDDEN = 512


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return -gradients[0]


def reverse_gradient(tensor: torch.Tensor) -> torch.Tensor:
    """The same values; the gradient changes its sign. Source: BIER section II (Ganin et al. 2016)."""
    reversed_: torch.Tensor = _Reverse.apply(tensor)
    return reversed_


class Regressor(nn.Sequential):
    """Maps a learner's vectors to another's: Linear - ReLU - Linear, 512 hidden units.

    Weights are Glorot-uniform, biases 0. Source: authors' code.
    """

    def __init__(self, source: int, target: int) -> None:
        super().__init__(nn.Linear(source, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, target))
        for layer in _linear(self):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


def _linear(regressor: nn.Module) -> list[nn.Linear]:
    return [module for module in regressor.children() if isinstance(module, nn.Linear)]


def norm_penalty(weight: torch.Tensor, axis: NormAxis) -> torch.Tensor:
    """How far the weights [out, in] are from unit length: mean of (squared length - 1)^2, a scalar.

    The lengths are those of each input's outgoing weights (axis "in") or of each output's incoming weights
    ("out"). Source: authors' code, whose weights are [in, out]: there "in" is axis 1 and "out" axis 0.
    """
    return (weight.square().sum(0 if axis == "in" else 1) - 1).square().mean()


def regressor_penalty(regressor: nn.Module) -> torch.Tensor:
    """Keeps a regressor from growing its output by growing its weights: a scalar.

    Every layer's weights are held near unit length for each input, its bias within unit length; the
    learners' `weight_norm_axis` does not apply here. Source: authors' code.
    """
    terms = []
    for layer in _linear(regressor):
        terms += [norm_penalty(layer.weight, "in"), F.relu(layer.bias.square().sum() - 1)]
    return torch.stack(terms).sum()


def adversarial_similarity(source: torch.Tensor, target: torch.Tensor, regressor: nn.Module) -> torch.Tensor:
    """Minus the mean, over samples and dimensions, of (target x regressor(source))^2: a scalar.

    `source` [n, d_j], `target` [n, d_i]: activations of two learners. Descending it, the regressor raises
    the similarity; both gradients to the learners are reversed, so they lower it. Source: BIER section II.
    """
    product: torch.Tensor = reverse_gradient(target) * regressor(reverse_gradient(source))
    return -product.square().mean()


def activation_similarity(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The mean of (first_nk x second_nl)^2 over samples n and all pairs of dimensions k, l: a scalar.

    `first` [n, d_i], `second` [n, d_j]. The mean over k and l is the product of two means, so no
    [n, d_i, d_j] tensor is made. Source: authors' code.
    """
    return (first.square().mean(1) * second.square().mean(1)).mean()


class Auxiliary(nn.Module):
    """The auxiliary loss that the settings ask for; a loss of 0 without parameters if that is "none"."""

    def __init__(self, settings: BierSettings) -> None:
        super().__init__()
        self.settings = settings
        self.pairs = list(combinations(range(len(settings.sizes)), 2))
        adversarial = settings.auxiliary == "adversarial"
        self.regressors = nn.ModuleList(
            Regressor(settings.sizes[j], settings.sizes[i]) for i, j in self.pairs if adversarial
        )

    def forward(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The loss, times lambda_div, of this rank's features [n, features]: a scalar.

        `weight`: the learners' weights [sum of sizes, features]. Activations are taken without bias and
        without normalisation, and the features without their gradient unless `auxiliary_to_backbone`.
        In float32, or float64 if given it, whatever the autocast. Source: authors' code.
        """
        if self.settings.auxiliary == "none":
            return torch.zeros((), dtype=weight.dtype, device=weight.device)
        with torch.autocast(weight.device.type, enabled=False):
            features = (hidden if self.settings.auxiliary_to_backbone else hidden.detach()).to(weight.dtype)
            parts = F.linear(features, weight).split(self.settings.sizes, dim=1)
            terms = self._adversarial(parts) if len(self.regressors) else self._activation(parts)
            axis = self.settings.weight_norm_axis
            penalties = [norm_penalty(part, axis) for part in weight.split(self.settings.sizes)]
            return self.settings.lambda_div * (
                terms + self.settings.lambda_weight * torch.stack(penalties).sum()
            )

    def _activation(self, parts: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return torch.stack([activation_similarity(parts[i], parts[j]) for i, j in self.pairs]).sum()

    def _adversarial(self, parts: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Similarity and weight penalties of all regressors: the source j is the later learner of a pair."""
        terms = []
        for (i, j), regressor in zip(self.pairs, self.regressors, strict=True):
            terms.append(adversarial_similarity(parts[j], parts[i], regressor))
            terms.append(self.settings.lambda_weight * regressor_penalty(regressor))
        return torch.stack(terms).sum()
