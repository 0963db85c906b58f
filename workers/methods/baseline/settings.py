"""The settings of the compared methods (triplet, N-pairs, Proxy-NCA), every one of which is part of a model's key.

One network learns one embedding with a loss of pytorch-metric-learning. A setting without effect on the weights is
refused when it differs from its default: otherwise the same weights would have two keys. Imports no torch.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from muster.workers.flags import flag
from muster.workers.forms import keyed
from muster.workers.methods.base import Method
from muster.workers.spec import LabelBatchShape, ModelSpec, as_declared, check

BaselineLoss = Literal["triplet", "npairs", "proxynca"]

MARGIN, EMBEDDING_L2, SCALE, PROXY_LR = 0.2, 0.002, 9.0, 100.0
#: Settings that one loss alone has, with their defaults.
OWN = {
    "margin": ("triplet", MARGIN),
    "embedding_l2": ("npairs", EMBEDDING_L2),
    "scale": ("proxynca", SCALE),
    "proxy_lr": ("proxynca", PROXY_LR),
}

LIBRARY = "pytorch_metric_learning"
MISSING = (
    "The losses of the baselines are pytorch-metric-learning's, which is not installed: "
    "pip install '.[baselines]' in muster's checkout."
)


def library_problem() -> str | None:
    """What to do where pytorch-metric-learning is missing; None if it is there. Imports nothing."""
    return MISSING if importlib.util.find_spec(LIBRARY) is None else None


@keyed(
    "loss dim labels images epochs lr embedding_lr proxy_lr weight_decay anneal_epochs anneal_factor margin "
    "embedding_l2 scale"
)
@dataclass(frozen=True, kw_only=True)
class BaselineSettings(LabelBatchShape):
    """What a compared method adds to a backbone and its input. Raises ValueError with all mistakes at once.

    DREML's table names neither dimension nor optimiser of these methods. 64 dimensions are usual in the papers that
    introduced them; the rest, where no source is named, is ours.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    loss: BaselineLoss = field(metadata=flag())
    "triplet (semi-hard: Schroff et al. 2015), npairs (Sohn 2016) or proxynca (Movshovitz-Attias et al. 2017)."
    dim: int = field(default=64, metadata=flag())
    "The embedding's dimension."
    labels: int = field(default=32, metadata=flag("--P"))
    "P: different labels in a batch."
    images: int = field(default=4, metadata=flag("--K"))
    "K: images of each label in a batch; npairs takes one pair of each, so 2."
    epochs: int = field(default=12, metadata=flag())
    "Each of as many batches as the training images fill, at least 1."
    lr: float = 1e-4
    "Adam's learning rate for the backbone."
    embedding_lr: float = 10.0
    "Times lr for the embedding, the new last layer."
    proxy_lr: float = PROXY_LR
    "proxynca: times lr for the proxies."
    weight_decay: float = 0.0
    "Adam's L2 term for the network's weights; proxies have none."
    anneal_epochs: int = 4
    "Epochs between two decays of the learning rates; 0: they stay."
    anneal_factor: float = 0.1
    "What each decay multiplies the learning rates by."
    margin: float = MARGIN
    "triplet: between squared Euclidean distances of unit vectors, for mining and for the loss."
    embedding_l2: float = EMBEDDING_L2
    "npairs: factor of the mean squared length of the embeddings, which this loss does not normalise."
    scale: float = SCALE
    "proxynca: times the squared distances of unit vectors, before the softmax over all proxies."

    def __post_init__(self) -> None:
        as_declared(self)
        foreign = {
            f"{name} = {getattr(self, name)} has no effect with loss = {self.loss}: it is {owner}'s": (
                self.loss == owner or getattr(self, name) == default
            )
            for name, (owner, default) in OWN.items()
        }
        check({**self._batch_checks(), **self._training_checks(), **foreign})

    def _batch_checks(self) -> dict[str, bool]:
        return {
            f"dim = {self.dim}: must be at least 2": self.dim >= 2,
            f"labels = {self.labels}: must be at least 2, or there are no negatives": self.labels >= 2,
            f"images = {self.images}: must be at least 2, or there are no positives": self.images >= 2
            or self.loss == "proxynca",
            f"images = {self.images}: must be at least 1": self.images >= 1,
            f"images = {self.images}: npairs takes one pair of each label, so images = 2": self.images == 2
            or self.loss != "npairs",
        }

    def _training_checks(self) -> dict[str, bool]:
        above = ("lr", "embedding_lr", "proxy_lr", "margin", "scale")
        return {
            f"epochs = {self.epochs}: must be at least 1": self.epochs >= 1,
            **{
                f"{name} = {getattr(self, name)}: must be above 0": 0 < getattr(self, name) < math.inf
                for name in above
            },
            f"weight_decay = {self.weight_decay}: must not be negative": 0 <= self.weight_decay < math.inf,
            f"embedding_l2 = {self.embedding_l2}: must not be negative": 0 <= self.embedding_l2 < math.inf,
            f"anneal_epochs = {self.anneal_epochs}: must not be negative": self.anneal_epochs >= 0,
            f"anneal_factor = {self.anneal_factor}: must be in 0..1": 0 < self.anneal_factor <= 1,
            f"anneal_factor = {self.anneal_factor} has no effect with anneal_epochs = 0": self.anneal_epochs
            > 0
            or self.anneal_factor == 0.1,
        }

    def rate(self, epoch: int) -> float:
        """The backbone's learning rate in an epoch, counted from 0."""
        decays = epoch // self.anneal_epochs if self.anneal_epochs else 0
        return self.lr * float(self.anneal_factor**decays)


@keyed(
    "method train_digest classes backbone weights seed recipe baseline precision threads deterministic batch_norm "
    "training_version"
)
@dataclass(frozen=True, kw_only=True)
class BaselineSpec(ModelSpec):
    """One baseline model: all that determines its weights, and nothing else."""

    method: Literal["baseline"] = "baseline"
    baseline: BaselineSettings
    batch_norm: Literal["batch"] = "batch"

    def own_checks(self) -> dict[str, bool]:
        self.baseline.check_batch(self.classes, 1)
        return {}

    @property
    def dimension(self) -> int:
        return self.baseline.dim

    @property
    def epochs(self) -> int:
        return self.baseline.epochs

    def shown(self, images: int) -> int:
        return self.epochs * self.baseline.steps_of(images) * self.baseline.batch_size

    def described(self) -> str:
        return f"classes, {self.baseline.loss} in {self.dimension} dimensions"


METHOD = Method("baseline", BaselineSpec, "muster.workers.methods.baseline.trainer")
