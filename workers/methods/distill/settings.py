"""The settings of distillation, and the spec whose form is hashed to a student's key. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from muster.workers.flags import flag
from muster.workers.forms import keyed
from muster.workers.methods.base import Method
from muster.workers.score.combine import Combine
from muster.workers.spec import LabelBatchShape, ModelSpec, VectorsOf, as_declared, check

DistillLoss = Literal["similarities", "relations"]

TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.05
ANGLE_WEIGHT = 2.0
#: Settings that one loss alone has, with their defaults.
OWN = {
    "temperature": ("similarities", TEMPERATURE),
    "teacher_temperature": ("similarities", TEACHER_TEMPERATURE),
    "angle_weight": ("relations", ANGLE_WEIGHT),
}


@keyed(
    "loss dim labels images epochs lr embedding_lr weight_decay warmup temperature teacher_temperature angle_weight"
)
@dataclass(frozen=True, kw_only=True)
class DistillSettings(LabelBatchShape):
    """How a student learns from its teacher. Raises ValueError with all mistakes at once.

    A setting without effect on the weights is refused when it differs from its default: otherwise the same weights
    would have two keys.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    loss: DistillLoss = field(default="similarities", metadata=flag())
    "similarities: the teacher's, as soft labels of a contrastive loss; relations: its distances and angles."
    dim: int = field(default=512, metadata=flag())
    "The embedding's dimension."
    labels: int = field(default=32, metadata=flag("--P"))
    "Different labels in a batch."
    images: int = field(default=4, metadata=flag("--K"))
    "Images of each label in a batch."
    epochs: int = field(default=12, metadata=flag())
    "Each of as many batches as the training images fill, at least 1."
    lr: float = 1e-4
    "Adam's learning rate for the backbone, at its highest: it rises and falls once, in cosines."
    embedding_lr: float = 10.0
    "Times lr for the embedding, the new last layer."
    weight_decay: float = 0.0
    "Adam's L2 term for the network's weights."
    warmup: float = 0.1
    "Share of the steps in which the rate rises to lr."
    temperature: float = TEMPERATURE
    "similarities: what the student's are divided by before their softmax."
    teacher_temperature: float = TEACHER_TEMPERATURE
    "similarities: what the teacher's are divided by; below the other, its nearest images count more."
    angle_weight: float = ANGLE_WEIGHT
    "relations: factor of the loss of angles beside that of distances."

    def __post_init__(self) -> None:
        as_declared(self)
        above = ("lr", "embedding_lr", "temperature", "teacher_temperature", "angle_weight")
        check(
            {
                f"dim = {self.dim}: must be at least 2": self.dim >= 2,
                f"labels = {self.labels}: must be at least 2": self.labels >= 2,
                f"images = {self.images}: must be at least 1": self.images >= 1,
                f"epochs = {self.epochs}: must be at least 1": self.epochs >= 1,
                **{
                    f"{name} = {getattr(self, name)}: must be above 0, and finite": (
                        0 < getattr(self, name) < math.inf
                    )
                    for name in above
                },
                f"weight_decay = {self.weight_decay}: must not be negative": 0
                <= self.weight_decay
                < math.inf,
                f"warmup = {self.warmup}: must be in 0..1": 0 <= self.warmup < 1,
                **{
                    f"{name} = {getattr(self, name)} has no effect with loss = {self.loss}: it is {owner}'s": (
                        self.loss == owner or getattr(self, name) == default
                    )
                    for name, (owner, default) in OWN.items()
                },
            }
        )


@keyed("keys vectors sizes how")
@dataclass(frozen=True, kw_only=True)
class Teacher:
    """The finished ensemble that a student learns from: its members, and their vectors of the training images."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    keys: tuple[str, ...]
    "Its members', in index order."
    vectors: str
    "The digest of the images and the view that their vectors are of."
    sizes: tuple[int, ...] = ()
    "Sizes of the learners that a vector is made of; () where it is stored whole."
    how: Combine = "share"
    "How its learners are combined."


@keyed(
    "method train_digest classes backbone weights seed recipe distill teacher precision threads deterministic "
    "batch_norm training_version"
)
@dataclass(frozen=True, kw_only=True)
class DistillSpec(ModelSpec):
    """One student: all that determines its weights, and nothing else."""

    method: Literal["distill"] = "distill"
    distill: DistillSettings
    teacher: Teacher
    batch_norm: Literal["batch"] = "batch"

    def own_checks(self) -> dict[str, bool]:
        self.distill.check_batch(self.classes, 1)
        return {"teacher: it has no members": len(self.teacher.keys) > 0}

    @property
    def inputs(self) -> tuple[VectorsOf, ...]:
        return tuple(VectorsOf(key, self.teacher.vectors) for key in self.teacher.keys)

    @property
    def dimension(self) -> int:
        return self.distill.dim

    @property
    def epochs(self) -> int:
        return self.distill.epochs

    def shown(self, images: int) -> int:
        return self.epochs * self.distill.steps_of(images) * self.distill.batch_size

    def described(self) -> str:
        return (
            f"classes, {self.distill.loss} of {len(self.teacher.keys)} models in {self.dimension} dimensions"
        )


METHOD = Method("distill", DistillSpec, "muster.workers.methods.distill.trainer")
