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
from muster.workers.train.trainer import LabelTrainer, Materials, StepLoss, below, head_groups, plain_network


class BaselineNetwork(nn.Module):
    """A backbone that ends in the embedding, and the loss, whose proxies are trained with it."""

    def __init__(self, spec: BaselineSpec, initial: backbones.State | None) -> None:
        super().__init__()
        seed = torch_seed(("init", "baseline", spec.seed))
        self.network = backbones.build(spec.backbone, spec.dimension, seed, initial)
        self.loss = MetricLoss(spec.baseline, spec.classes, spec.seed)
        self.backbone = spec.backbone

    def groups(self, settings: BaselineSettings) -> list[dict[str, Any]]:
        """Adam's parameter groups; `factor` is what a group's rate is, times the backbone's."""
        groups = head_groups(self.network, self.backbone, settings.embedding_lr, settings.weight_decay)
        proxies = list(self.loss.parameters())
        if proxies:
            groups.append({"params": proxies, "factor": settings.proxy_lr, "weight_decay": 0.0})
        return groups


class BaselineTrainer(LabelTrainer):
    """A network that learns one embedding. Raises UsageError if the losses' library is missing."""

    def __init__(self, spec: BaselineSpec, materials: Materials) -> None:
        super().__init__(spec, materials, spec.baseline)
        self.title = f"Baseline {spec.baseline.loss}"
        built = BaselineNetwork(spec, materials.initial)
        self.model = built.to(self.device).to(memory_format=torch.channels_last)
        self.module = self.model
        self.optimizer = torch.optim.Adam(built.groups(self.settings), lr=self.base_rate)

    def rate(self, step: int) -> float:
        return float(self.settings.rate(step // self.steps))

    def loss(self, step: int, images: torch.Tensor, labels: torch.Tensor) -> StepLoss:
        self.seed(step, self.names)
        with self.autocast():
            output = self.model.network(images)
        loss: torch.Tensor = self.model.loss(output.float(), labels)
        return StepLoss(loss, loss.detach(), loss.detach())

    def kept(self, state: Checkpoint) -> dict[str, torch.Tensor]:
        """The network's weights alone: the proxies are scaffolding."""
        return below("network.", state.model)


trainer = BaselineTrainer
network = plain_network
