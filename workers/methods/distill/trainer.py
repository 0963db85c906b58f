"""The training of a student, on one device: random crops of its own, and the teacher's vectors of the whole images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from muster.workers.methods.distill.loss import loss_of
from muster.workers.methods.distill.settings import DistillSpec
from muster.workers.networks import backbones
from muster.workers.rng import torch_seed
from muster.workers.score.combine import combine
from muster.workers.train.augment import epoch_draws
from muster.workers.train.label_batches import LabelBatches
from muster.workers.train.trainer import Materials, Samples, StepLoss, Trainer


def trainer(spec: DistillSpec, materials: Materials) -> StudentTrainer:
    return StudentTrainer(spec, materials)


def network(spec: DistillSpec) -> nn.Module:
    return backbones.build(spec.backbone, spec.dimension, 0, pretrained=spec.weights != "none")


class StudentTrainer(Trainer):
    """A network that learns to put images where its teacher has them, relative to each other.

    `materials.inputs` are the vectors of the teacher's members of the training images, in the order of the part.
    """

    title, rate_setting = "Student", "distill.lr"

    def __init__(self, spec: DistillSpec, materials: Materials) -> None:
        super().__init__(spec, materials)
        self.settings, self.base_rate, self.names = spec.distill, spec.distill.lr, ("distill", spec.seed)
        seed = torch_seed(("init", *self.names))
        built = backbones.build(spec.backbone, spec.dimension, seed, materials.initial)
        self.module = built.to(self.device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self._groups(spec.backbone), lr=self.base_rate)
        self.batches = LabelBatches(self.part.labels, self.settings, spec.seed)
        self.criterion = loss_of(self.settings)
        self.teacher = torch.from_numpy(joined(spec, materials.inputs)).to(self.device)

    def _groups(self, backbone: str) -> list[dict[str, Any]]:
        """Adam's parameter groups; `factor` is what a group's rate is, times the backbone's."""
        name = backbones.head(self.module, backbone)[0]
        head = list(self.module.get_submodule(name).parameters())
        body = [one for one in self.module.parameters() if all(one is not other for other in head)]
        decay = self.settings.weight_decay
        return [
            {"params": body, "factor": 1.0, "weight_decay": decay},
            {"params": head, "factor": self.settings.embedding_lr, "weight_decay": decay},
        ]

    @property
    def units(self) -> int:
        return self.settings.epochs

    @property
    def steps(self) -> int:
        return self.settings.steps(len(self.part.rows))

    def images(self, step: int) -> int:
        return self.batches.size

    def samples(self, step: int) -> Samples:
        """Its labels are places in the training set: what the teacher's vectors are found by."""
        chosen = self.batches.batch(step)
        draws = epoch_draws(self.names, step, self.batches.size)
        return Samples(self.part.rows[chosen], chosen, draws)

    def rate(self, step: int) -> float:
        """Half a cosine up in the warm-up, and half a cosine down to 0 after it."""
        total, rising = self.units * self.steps, self.settings.warmup * self.units * self.steps
        share = (step + 1) / rising if step < rising else (total - step) / max(1.0, total - rising)
        return self.settings.lr * (1 - math.cos(math.pi * min(1.0, share))) / 2

    def loss(self, step: int, images: torch.Tensor, labels: torch.Tensor) -> StepLoss:
        self.seed(step, self.names)
        with self.autocast():
            output = self.module(images)
        loss: torch.Tensor = self.criterion(output.float(), self.teacher[labels])
        return StepLoss(loss, loss.detach(), loss.detach())

    def row(self, sums: torch.Tensor, steps: int, images: int) -> dict[str, Any]:
        return {"loss": float(sums) / steps}


def joined(spec: DistillSpec, members: Any) -> np.ndarray:
    """The teacher's vectors at unit length, float32 [images, sum of D]: its members' side by side."""
    teacher = spec.teacher
    parts = [combine(part, teacher.sizes, teacher.how) if teacher.sizes else part for part in members]
    vectors = torch.from_numpy(np.concatenate(parts, axis=1).astype(np.float32))
    return F.normalize(vectors, dim=1).numpy()
