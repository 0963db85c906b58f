"""The training of one DREML member, on one device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from muster.workers.methods.dreml.loss import identity_proxy_loss
from muster.workers.methods.dreml.partition import meta_classes
from muster.workers.methods.dreml.schedule import learning_rate
from muster.workers.methods.dreml.settings import MemberSpec
from muster.workers.networks import backbones
from muster.workers.packs.pack import Int64, Part
from muster.workers.rng import torch_seed, uniforms
from muster.workers.store.checkpoint import Checkpoint
from muster.workers.train.passes import Passes
from muster.workers.train.trainer import Materials, Samples, StepLoss, Trainer, plain_network


class MemberTrainer(Trainer):
    """A network that learns the meta-classes of its own partition. Source: DREML section 3."""

    rate_setting = "lr"

    def __init__(self, spec: MemberSpec, materials: Materials) -> None:
        super().__init__(spec, materials)
        self.settings, self.title, self.base_rate = spec.recipe, f"Member {spec.index}", spec.recipe.lr
        self.names = (spec.seed, spec.D, spec.index)
        self.metas = meta_classes(spec.classes, spec.D, spec.seed, spec.index)
        self.rows, self.labels = capped(self.part, self.settings.class_cap, self.names)
        self.passes = Passes(self.names, len(self.rows), self.settings.batch_size)
        seed = torch_seed(("init", *self.names))
        built = backbones.build(spec.backbone, spec.D, seed, materials.initial)
        self.module = built.to(self.device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            self.module.parameters(),
            lr=self.settings.lr,
            momentum=self.settings.momentum,
            nesterov=self.settings.nesterov,
            weight_decay=self.settings.weight_decay,
        )

    @property
    def units(self) -> int:
        return self.settings.epochs

    @property
    def steps(self) -> int:
        return self.passes.steps

    def images(self, step: int) -> int:
        return self.passes.images(step)

    def samples(self, step: int) -> Samples:
        chosen, draws = self.passes.at(step)
        return Samples(self.rows[chosen], self.metas[self.labels[chosen]], draws)

    def rate(self, step: int) -> float:
        return learning_rate(self.settings, *divmod(step, self.steps), self.steps)

    def loss(self, step: int, images: torch.Tensor, labels: torch.Tensor) -> StepLoss:
        self.seed(step, self.names)
        with self.autocast():
            output = self.module(images)
        loss = identity_proxy_loss(output, labels, self.settings.normalize_logits)
        right = (output.argmax(1) == labels).sum()
        return StepLoss(loss, loss.detach(), torch.stack([loss.detach() * len(labels), right.float()]))

    def row(self, sums: torch.Tensor, steps: int, images: int) -> dict[str, Any]:
        loss, right = sums.tolist()
        return {"loss": loss / images, "accuracy": right / images}

    def best(
        self, before: Checkpoint, weights: Mapping[str, torch.Tensor], row: Mapping[str, Any]
    ) -> dict[str, torch.Tensor]:
        """The best epoch's weights, by training accuracy, where the recipe asks for them; the first does not count."""
        earlier = [found["accuracy"] for found in before.history[1:]]
        if self.settings.select != "best-train" or row["epoch"] == 1:
            return before.best
        if earlier and row["accuracy"] <= max(earlier):
            return before.best
        return {name: tensor.clone() for name, tensor in weights.items()}

    def kept(self, state: Checkpoint) -> dict[str, torch.Tensor]:
        """The weights that the recipe's `select` keeps."""
        return state.best if self.settings.select == "best-train" and state.best else state.model


trainer = MemberTrainer
network = plain_network


def capped(part: Part, cap: int, names: tuple[int, int, int]) -> tuple[Int64, Int64]:
    """Rows and labels with at most `cap` images of each class, drawn once for the member; 0: all."""
    if cap == 0:
        return part.rows, part.labels
    draws = uniforms(("class-cap", *names), len(part.rows))[:, 0]
    by_class = np.lexsort((draws, part.labels))
    starts = np.searchsorted(part.labels[by_class], np.arange(part.classes))
    rank = np.arange(len(by_class)) - starts[part.labels[by_class]]
    kept = np.sort(by_class[rank < cap])
    return part.rows[kept], part.labels[kept]
