"""The training of a student, on one device: random crops of its own, and the teacher's vectors of the whole images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from muster.workers.methods.distill.loss import loss_of
from muster.workers.methods.distill.settings import DistillSpec
from muster.workers.networks import backbones
from muster.workers.rng import Int64, torch_seed
from muster.workers.score.combine import combine
from muster.workers.train.trainer import LabelTrainer, Materials, StepLoss, head_groups, plain_network


class StudentTrainer(LabelTrainer):
    """A network that learns to put images where its teacher has them, relative to each other.

    `materials.inputs` are the vectors of the teacher's members of the training images, in the order of the part.
    """

    title = "Student"

    def __init__(self, spec: DistillSpec, materials: Materials) -> None:
        super().__init__(spec, materials, spec.distill)
        seed = torch_seed(("init", *self.names))
        built = backbones.build(spec.backbone, spec.dimension, seed, materials.initial)
        self.module = built.to(self.device).to(memory_format=torch.channels_last)
        groups = head_groups(
            self.module, spec.backbone, self.settings.embedding_lr, self.settings.weight_decay
        )
        self.optimizer = torch.optim.Adam(groups, lr=self.base_rate)
        self.criterion = loss_of(self.settings)
        self.teacher = torch.from_numpy(joined(spec, materials.inputs)).to(self.device)

    def labels_of(self, chosen: Int64) -> Int64:
        """Places in the training set: what the teacher's vectors are found by."""
        return chosen

    def rate(self, step: int) -> float:
        """Half a cosine up in the warm-up, and half a cosine down to 0 after it."""
        total, rising = self.units * self.steps, self.settings.warmup * self.units * self.steps
        share = (step + 1) / rising if step < rising else (total - step) / max(1.0, total - rising)
        return float(self.base_rate * (1 - math.cos(math.pi * min(1.0, share))) / 2)

    def loss(self, step: int, images: torch.Tensor, labels: torch.Tensor) -> StepLoss:
        self.seed(step, self.names)
        with self.autocast():
            output = self.module(images)
        loss: torch.Tensor = self.criterion(output.float(), self.teacher[labels])
        return StepLoss(loss, loss.detach(), loss.detach())


trainer = StudentTrainer
network = plain_network


def joined(spec: DistillSpec, members: Sequence[np.ndarray]) -> np.ndarray:
    """The teacher's vectors at unit length, float32 [images, sum of D]: its members' side by side."""
    teacher = spec.teacher
    parts = [combine(part, teacher.sizes, teacher.how) if teacher.sizes else part for part in members]
    vectors = torch.from_numpy(np.concatenate(parts, axis=1).astype(np.float32))
    return F.normalize(vectors, dim=1).numpy()
