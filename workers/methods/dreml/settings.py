"""What a DREML member is: its recipe, and the spec whose form is hashed to its key. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from muster.workers.flags import flag
from muster.workers.forms import keyed
from muster.workers.methods.base import Method
from muster.workers.methods.dreml.partition import BALANCED
from muster.workers.spec import InputRecipe, ModelSpec

Schedule = Literal["constant", "step", "milestones", "one-cycle"]


@keyed(
    "epochs batch_size lr momentum nesterov weight_decay schedule step_epochs milestones gamma warmup resize crop pad "
    "flip rotate mean std class_cap select normalize_logits"
)
@dataclass(frozen=True, kw_only=True)
class Recipe(InputRecipe):
    """How a member is trained: its input, and its optimisation by SGD. Every field is part of the key."""

    epochs: int = field(metadata=flag())
    "Passes over the training images."
    batch_size: int = 128
    "Images in a step; the last, smaller batch is kept."
    lr: float = 0.01
    "Learning rate: the first one, or with one-cycle the highest."
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: Schedule = "step"
    "constant; step: times gamma every step_epochs; milestones: times gamma at each share of the epochs; one-cycle."
    step_epochs: int = 4
    milestones: tuple[float, ...] = ()
    "Shares of the epochs, in 0..1, for schedule = milestones; epoch = floor(share x epochs)."
    gamma: float = 0.1
    warmup: float = 0.25
    "Share of the steps in which one-cycle rises to lr."
    pad: int = 10
    "Black border added on each side before the crop, in pixels."
    class_cap: int = 0
    "At most this many images of a class, drawn once for each member; 0: all."
    select: Literal["last", "best-train"] = "last"
    "Which epoch's weights are kept: the last, or the best training accuracy after the first epoch."
    normalize_logits: bool = field(default=False, metadata=flag())
    "L2-normalise the output before the cross-entropy (the other reading of the paper)."

    def own_checks(self) -> dict[str, bool]:
        shares = len(self.milestones) > 0 and all(0 <= m <= 1 for m in self.milestones)
        return {
            f"epochs = {self.epochs}: must be at least 1": self.epochs >= 1,
            f"batch_size = {self.batch_size}: must be at least 2": self.batch_size >= 2,
            f"lr = {self.lr}: must be above 0, and finite": 0 < self.lr < math.inf,
            f"momentum = {self.momentum}: must be in 0..1": 0 <= self.momentum < 1,
            "nesterov needs momentum above 0": not self.nesterov or self.momentum > 0,
            f"weight_decay = {self.weight_decay}: must be at least 0, and finite": (
                0 <= self.weight_decay < math.inf
            ),
            f"step_epochs = {self.step_epochs}: must be at least 1": self.step_epochs >= 1,
            "schedule milestones needs milestones, shares of the epochs in 0..1": (
                self.schedule != "milestones" or shares
            ),
            f"gamma = {self.gamma}: must be in 0..1": 0 < self.gamma <= 1,
            f"warmup = {self.warmup}: must be in 0..1": 0 <= self.warmup < 1,
            f"class_cap = {self.class_cap}: must not be negative": self.class_cap >= 0,
        }


@keyed(
    "method train_digest classes backbone weights D index seed partition recipe precision threads deterministic "
    "batch_norm training_version"
)
@dataclass(frozen=True, kw_only=True)
class MemberSpec(ModelSpec):
    """One member of an ensemble: all that determines its weights, and nothing else."""

    method: Literal["dreml"] = "dreml"
    D: int
    "Meta-classes, and so the embedding's dimension."
    index: int = field()  # type: ignore[misc]
    "Member number, from 1."
    partition: str = BALANCED
    recipe: Recipe
    batch_norm: Literal["batch"] = "batch"

    def own_checks(self) -> dict[str, bool]:
        return {
            f"D = {self.D}: must be in 2..{self.classes} (the training classes)": 2 <= self.D <= self.classes,
            f"index = {self.index}: members are numbered from 1": self.index >= 1,
        }

    @property
    def epochs(self) -> int:
        return self.recipe.epochs

    @property
    def dimension(self) -> int:
        return self.D

    def shown(self, images: int) -> int:
        """With a cap it is the most that it can be: exact where every class has at least so many images."""
        cap = self.recipe.class_cap
        return self.epochs * (min(images, cap * self.classes) if cap else images)

    def described(self) -> str:
        return f"classes in {self.D} meta-classes"


METHOD = Method("dreml", MemberSpec, "muster.workers.methods.dreml.trainer", ensemble=True)
