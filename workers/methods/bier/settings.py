"""BIER's hyper-parameters and what else makes a model's key; it never imports torch.

Kept apart from `network`, so that a command line can parse and check settings before anything heavy is loaded. A
setting that would have no effect on the weights is refused when it differs from its default: otherwise the same weights
would have two keys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from muster.workers.flags import flag
from muster.workers.forms import keyed
from muster.workers.methods.base import Method
from muster.workers.spec import LabelBatchShape, ModelSpec, as_declared, check

Variant = Literal["shrinkage", "eta", "balanced"]
AuxiliaryKind = Literal["none", "adversarial", "activation"]
NormAxis = Literal["in", "out"]

SHRINKAGE = 0.06
LAMBDA_DIV = 5e-5
LAMBDA_WEIGHT = 1e5


@keyed(
    "sizes boost variant shrinkage auxiliary lambda_div lambda_weight weight_norm_axis auxiliary_to_backbone labels "
    "images steps lr learner_lr regressor_lr weight_decay anneal_every anneal_factor"
)
@dataclass(frozen=True, kw_only=True)
class BierSettings(LabelBatchShape):
    """What BIER adds to a backbone and its input recipe. Raises ValueError with all mistakes at once.

    The defaults are those of the authors' code and of its script for Stanford Online Products.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    sizes: tuple[int, ...] = field(default=(96, 160, 256), metadata=flag("--learners"))
    "Dimensions of the learners, in the order in which they are boosted."
    boost: bool = field(default=True, metadata=flag())
    "Reweight pairs by earlier learners; off: every pair has weight 1 for every learner."
    variant: Variant = field(default="shrinkage", metadata=flag())
    "shrinkage: the authors' default; eta: the paper's form; balanced (ours): both kinds of pairs keep their shares."
    shrinkage: float = SHRINKAGE
    "Step of the variants shrinkage and balanced."
    auxiliary: AuxiliaryKind = field(default="none", metadata=flag())
    "What pushes the learners apart: nothing (BIER), adversarial regressors (A-BIER), or the activation loss."
    lambda_div: float = field(default=LAMBDA_DIV, metadata=flag())
    "Factor of the whole auxiliary loss, its weight penalties included."
    lambda_weight: float = field(default=LAMBDA_WEIGHT, metadata=flag())
    "Factor of the weight penalties within the auxiliary loss."
    weight_norm_axis: NormAxis = field(default="in", metadata=flag())
    "The learners' weights are kept near unit length for each input (in) or each output (out)."
    auxiliary_to_backbone: bool = field(default=False, metadata=flag())
    "Let the auxiliary loss's gradient through to the backbone (the other reading of the paper's text)."
    labels: int = field(default=64, metadata=flag("--P"))
    "P: different labels in the global batch."
    images: int = field(default=2, metadata=flag("--K"))
    "K: images of each label in the global batch."
    steps: int = field(default=20_000, metadata=flag())
    "Optimiser steps."
    lr: float = 1e-5
    "Adam's learning rate for the backbone."
    learner_lr: float = 10.0
    "Times lr for the learners."
    regressor_lr: float = 1.0
    "Times lr for the adversarial regressors."
    weight_decay: float = 4e-4
    "Adam's L2 term for the backbone's and the learners' weights; biases, norms and regressors have none."
    anneal_every: int = 0
    "Steps between two decays of the learning rates; 0: they stay."
    anneal_factor: float = 0.5
    "What each decay multiplies the learning rates by."

    def __post_init__(self) -> None:
        as_declared(self)
        check({**self._learner_checks(), **self._auxiliary_checks(), **self._training_checks()})

    def _learner_checks(self) -> dict[str, bool]:
        several = len(self.sizes) != 1
        return {
            f"sizes = {self.sizes}: there must be at least one learner": len(self.sizes) > 0,
            f"sizes = {self.sizes}: each must be at least 1": all(d >= 1 for d in self.sizes),
            f"boost needs at least 2 learners, sizes = {self.sizes} is one: use boost = False (--no-boost)": several
            or not self.boost,
            f"auxiliary = {self.auxiliary} needs at least 2 learners, sizes = {self.sizes} is one": several
            or self.auxiliary == "none",
            f"shrinkage = {self.shrinkage}: must be above 0, at most 1": 0 < self.shrinkage <= 1,
            f"variant = {self.variant} has no effect with boost = False": self.boost
            or self.variant == "shrinkage",
            f"shrinkage = {self.shrinkage} has no effect without boost, or with variant = eta": (
                self.boost and self.variant != "eta"
            )
            or self.shrinkage == SHRINKAGE,
        }

    def _auxiliary_checks(self) -> dict[str, bool]:
        used = self.auxiliary != "none"
        unused = "has no effect with auxiliary = none"
        return {
            f"lambda_div = {self.lambda_div}: must be above 0, and finite (auxiliary = none does without)": (
                0 < self.lambda_div < math.inf
            ),
            f"lambda_weight = {self.lambda_weight}: must not be negative": 0 <= self.lambda_weight < math.inf,
            f"lambda_div = {self.lambda_div} {unused}": used or self.lambda_div == LAMBDA_DIV,
            f"lambda_weight = {self.lambda_weight} {unused}": used or self.lambda_weight == LAMBDA_WEIGHT,
            f"weight_norm_axis = {self.weight_norm_axis} {unused}": used or self.weight_norm_axis == "in",
            f"auxiliary_to_backbone {unused}": used or not self.auxiliary_to_backbone,
            f"regressor_lr = {self.regressor_lr} has no effect without auxiliary = adversarial": (
                self.auxiliary == "adversarial" or self.regressor_lr == 1.0
            ),
        }

    def _training_checks(self) -> dict[str, bool]:
        return {
            f"labels = {self.labels}: must be at least 2, or there are no negative pairs": self.labels >= 2,
            f"images = {self.images}: must be at least 2, or there are no positive pairs": self.images >= 2,
            f"steps = {self.steps}: must be at least 1": self.steps >= 1,
            f"lr = {self.lr}: must be above 0": 0 < self.lr < math.inf,
            f"learner_lr = {self.learner_lr}: must be above 0": 0 < self.learner_lr < math.inf,
            f"regressor_lr = {self.regressor_lr}: must be above 0": 0 < self.regressor_lr < math.inf,
            f"weight_decay = {self.weight_decay}: must not be negative": 0 <= self.weight_decay < math.inf,
            f"anneal_every = {self.anneal_every}: must not be negative": self.anneal_every >= 0,
            f"anneal_factor = {self.anneal_factor}: must be in 0..1": 0 < self.anneal_factor <= 1,
            f"anneal_factor = {self.anneal_factor} has no effect with anneal_every = 0": self.anneal_every > 0
            or self.anneal_factor == 0.5,
        }

    @property
    def dimensions(self) -> int:
        """Length of the learners' joined vector."""
        return sum(self.sizes)

    def annealing(self, step: int) -> float:
        """What every learning rate is multiplied by at `step`, counted from 0. Source: authors' code (run.sh)."""
        return self.anneal_factor ** (step // self.anneal_every) if self.anneal_every else 1.0


@keyed(
    "method train_digest classes backbone weights seed recipe bier precision threads deterministic batch_norm "
    "training_version"
)
@dataclass(frozen=True, kw_only=True)
class BierSpec(ModelSpec):
    """One BIER model: all that determines its weights, and nothing else. The number of ranks does not: N ranks
    compute what one does on the same global batch, up to rounding; it is recorded."""

    method: Literal["bier"] = "bier"
    bier: BierSettings
    batch_norm: Literal["batch", "frozen"] = "batch"
    "BatchNorm's statistics: of the global batch, or those of the initial weights."

    def own_checks(self) -> dict[str, bool]:
        self.bier.check_batch(self.classes, 1)
        return {
            "batch_norm = frozen needs pretrained weights: a new network's statistics describe nothing": (
                self.batch_norm == "batch" or self.weights != "none"
            ),
        }

    @property
    def dimension(self) -> int:
        return self.bier.dimensions

    @property
    def epochs(self) -> int:
        """Its steps are one stretch: labels pass in epochs of their own, images in none."""
        return 1

    @property
    def learners(self) -> tuple[int, ...]:
        return self.bier.sizes

    def shown(self, images: int) -> int:
        """How many images training shows to the network, whatever the size of the training set."""
        return self.bier.steps * self.bier.batch_size

    def described(self) -> str:
        return f"classes, learners of {', '.join(map(str, self.learners))}, {self.bier.steps} steps"


METHOD = Method("bier", BierSpec, "muster.workers.methods.bier.trainer", multi_rank=True)
