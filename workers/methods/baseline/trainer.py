"""The compared methods: one network, one embedding, and a loss of pytorch-metric-learning, on one device."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from muster.workers.methods.baseline.loss import MetricLoss
from muster.workers.methods.baseline.settings import BaselineSettings, BaselineSpec
from muster.workers.networks import backbones
from muster.workers.rng import torch_seed
from muster.workers.store.checkpoint import Checkpoint
from muster.workers.train.augment import epoch_draws
from muster.workers.train.label_batches import LabelBatches
from muster.workers.train.trainer import Materials, Samples, StepLoss, Trainer, below


def trainer(spec: BaselineSpec, materials: Materials) -> BaselineTrainer:
    return BaselineTrainer(spec, materials)


def network(spec: BaselineSpec) -> nn.Module:
    return backbones.build(spec.backbone, spec.dimension, 0, pretrained=spec.weights != "none")


class BaselineNetwork(nn.Module):
    """A backbone that ends in the embedding, and the loss, whose proxies are trained with it."""

    def __init__(self, spec: BaselineSpec, initial: backbones.State | None) -> None:
        super().__init__()
        seed = torch_seed(("init", "baseline", spec.seed))
        self.network = backbones.build(spec.backbone, spec.dimension, seed, initial)
        self.loss = MetricLoss(spec.baseline, spec.classes, spec.seed)
        self.head = backbones.head(self.network, spec.backbone)[0]

    def groups(self, settings: BaselineSettings) -> list[dict[str, Any]]:
        """Adam's parameter groups; `factor` is what a group's rate is, times the backbone's."""
        head = list(self.network.get_submodule(self.head).parameters())
        body = [one for one in self.network.parameters() if all(one is not other for other in head)]
        groups: list[dict[str, Any]] = [
            {"params": body, "factor": 1.0, "weight_decay": settings.weight_decay},
            {"params": head, "factor": settings.embedding_lr, "weight_decay": settings.weight_decay},
        ]
        proxies = list(self.loss.parameters())
        if proxies:
            groups.append({"params": proxies, "factor": settings.proxy_lr, "weight_decay": 0.0})
        return groups


class BaselineTrainer(Trainer):
    """A network that learns one embedding, by batches of P labels x K images as BIER's.

    Raises UsageError if the losses' library is missing.
    """

    rate_setting = "baseline.lr"

    def __init__(self, spec: BaselineSpec, materials: Materials) -> None:
        super().__init__(spec, materials)
        self.settings, self.base_rate, self.names = spec.baseline, spec.baseline.lr, ("baseline", spec.seed)
        self.title = f"Baseline {spec.baseline.loss}"
        built = BaselineNetwork(spec, materials.initial)
        self.model = built.to(self.device).to(memory_format=torch.channels_last)
        self.module = self.model
        self.optimizer = torch.optim.Adam(built.groups(self.settings), lr=self.settings.lr)
        self.batches = LabelBatches(self.part.labels, self.settings, spec.seed)

    @property
    def units(self) -> int:
        return self.settings.epochs

    @property
    def steps(self) -> int:
        return self.settings.steps(len(self.part.rows))

    def images(self, step: int) -> int:
        return self.batches.size

    def samples(self, step: int) -> Samples:
        chosen = self.batches.batch(step)
        draws = epoch_draws(self.names, step, self.batches.size)
        return Samples(self.part.rows[chosen], self.part.labels[chosen], draws)

    def rate(self, step: int) -> float:
        return self.settings.rate(step // self.steps)

    def loss(self, step: int, images: torch.Tensor, labels: torch.Tensor) -> StepLoss:
        self.seed(step, self.names)
        with self.autocast():
            output = self.model.network(images)
        loss: torch.Tensor = self.model.loss(output.float(), labels)
        return StepLoss(loss, loss.detach(), loss.detach())

    def row(self, sums: torch.Tensor, steps: int, images: int) -> dict[str, Any]:
        return {"loss": float(sums) / steps}

    def kept(self, state: Checkpoint) -> dict[str, torch.Tensor]:
        """The network's weights alone: the proxies are scaffolding."""
        return below("network.", state.model)
