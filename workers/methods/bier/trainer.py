"""BIER's training, on one rank of a team: N ranks come to what one would, up to rounding."""

from __future__ import annotations

import time
from typing import Any

import torch

from muster.workers.methods.bier import batchnorm
from muster.workers.methods.bier.network import Bier, BierStep, build_bier, parameter_groups
from muster.workers.methods.bier.settings import BierSpec
from muster.workers.store.checkpoint import Checkpoint
from muster.workers.train.augment import epoch_draws
from muster.workers.train.label_batches import LabelBatches
from muster.workers.train.trainer import Materials, Samples, StepLoss, Trainer, below


def network(spec: BierSpec) -> Bier:
    return build_bier(spec.backbone, spec.bier, 0, pretrained=spec.weights != "none")


class BierTrainer(Trainer):
    """A network with boosted learners. Raises ValueError if the batch does not fit the classes or the ranks.

    Source: BIER section II; optimiser and batches: authors' code.
    """

    unit = "step"
    title, rate_setting = "BIER", "bier.lr"

    def __init__(self, spec: BierSpec, materials: Materials) -> None:
        super().__init__(spec, materials)
        self.settings, self.base_rate, self.names = spec.bier, spec.bier.lr, ("bier", spec.seed)
        built = build_bier(spec.backbone, spec.bier, spec.seed, materials.initial)
        if spec.batch_norm == "frozen":
            batchnorm.freeze(built)
        batchnorm.convert(built, self.device, self.team.size)
        self.module = BierStep(built, spec.bier, spec.seed).to(self.device)
        self.module = self.module.to(memory_format=torch.channels_last)
        self.joined = self.team.join(self.module, self.device)
        self.optimizer = torch.optim.Adam(parameter_groups(self.module, spec.bier))
        self.batches = LabelBatches(self.part.labels, spec.bier, spec.seed, self.team.size)

    @property
    def units(self) -> int:
        return self.settings.steps

    @property
    def steps(self) -> int:
        return 1

    def images(self, step: int) -> int:
        return self.batches.size

    def samples(self, step: int) -> Samples:
        chosen, mine = self.batches.share(step, self.team.rank), self.batches.positions(self.team.rank)
        draws = epoch_draws(self.names, step, self.batches.size)[mine]
        return Samples(self.part.rows[chosen], self.part.labels[chosen], draws)

    def rate(self, step: int) -> float:
        return self.settings.lr * self.settings.annealing(step)

    def set_rates(self, step: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.settings.annealing(step)

    def loss(self, step: int, images: torch.Tensor, labels: torch.Tensor) -> StepLoss:
        with self.autocast():
            found = self.joined(images, labels)
        sums = torch.cat([found.total.detach()[None], found.boosted.learners])
        return StepLoss(found.total, found.boosted.loss.detach(), sums)

    def row(self, sums: torch.Tensor, steps: int, images: int) -> dict[str, Any]:
        means = self.team.mean(sums[0]) / steps, sums[1:] / steps
        learners = {f"learner_{m}": loss for m, loss in enumerate(means[1].tolist(), start=1)}
        return {"loss": means[0].item(), **learners, "ended": time.time()}

    def kept(self, state: Checkpoint) -> dict[str, torch.Tensor]:
        """The network's weights alone: the regressors are scaffolding."""
        return below("network.", state.model)


trainer = BierTrainer
