"""What determines a member's weights, and the key that names them.

These frozen dataclasses are the only definition of a model's settings: the configuration loader parses
user input into them, and the store writes their form (`workers/forms.py`) as `spec.json`, whose hash is the key. A
setting that does not change the weights (resources, storage, how often it is retried) has no
place here; one that does must be here, or two different models would share a key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from muster.workers.forms import form
from muster.workers.methods.dreml.partition import BALANCED

#: Raised by hand whenever training code changes its results; tests/workers/test_golden.py guards it.
TRAINING_VERSION = 1

#: Sides of pictures, in pixels: a larger square has more of them than Pillow takes for an image that is meant.
LEAST_SIDE, MOST_SIDE = 8, 9459

Schedule = Literal["constant", "step", "milestones", "one-cycle"]
Precision = Literal["fp32", "bf16"]
Triple = tuple[float, float, float]


def content_key(settings: Any) -> str:
    """The key of a dataclass of settings: 32 hex digits of the SHA-256 of its form's canonical JSON."""
    text = json.dumps(form(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def as_declared(settings: Any) -> None:
    """Brings the numbers of a frozen dataclass to their declared types: lr = 1 becomes 1.0, -0.0 becomes 0.0.

    Two requests that mean the same are then written, hashed and drawn from in the same way. Raises
    ValueError for a value that its type can't hold, such as half an epoch.
    """
    hints, wrong = get_type_hints(type(settings)), []
    for field in dataclasses.fields(settings):
        value, kind = getattr(settings, field.name), hints[field.name]
        try:
            if get_origin(kind) is tuple:
                value = tuple(_exactly(get_args(kind)[0], part) for part in value)
            elif kind in {int, float, bool}:
                value = _exactly(kind, value)
            elif get_origin(kind) is Literal and value not in get_args(kind):
                wrong.append(f"{field.name} = {value!r}: there are {', '.join(get_args(kind))}")
        except (TypeError, ValueError, OverflowError):
            wrong.append(f"{field.name} = {value!r}: must be {_KINDS.get(kind, 'numbers')}")
        object.__setattr__(settings, field.name, value)
    if wrong:
        raise ValueError("; ".join(wrong))


_KINDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false"}


def _exactly(kind: type, value: Any) -> Any:
    if kind is float:
        return float(value) + 0.0  # -0.0 becomes 0.0
    if kind(value) != value:
        raise ValueError
    return kind(value)


def check(checks: dict[str, bool]) -> None:
    """Raises ValueError with all messages whose condition is false, joined by "; "."""
    wrong = [message for message, fine in checks.items() if not fine]
    if wrong:
        raise ValueError("; ".join(wrong))


def crop_checks(crop: int) -> dict[str, bool]:
    """What must hold of a crop's side, for `check`."""
    return {
        f"crop = {crop}: must be at least {LEAST_SIDE} pixels": crop >= LEAST_SIDE,
        f"crop = {crop}: must be at most {MOST_SIDE} pixels": crop <= MOST_SIDE,
    }


def statistics_checks(mean: Triple, std: Triple) -> dict[str, bool]:
    """What must hold of channel statistics, for `check`."""
    return {
        f"mean = {mean}: must be three numbers": len(mean) == 3 and all(map(math.isfinite, mean)),
        f"std = {std}: must be three numbers above 0": len(std) == 3 and all(0 < s < math.inf for s in std),
    }


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained. Every field is part of the key."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    epochs: int
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
    resize: str = "squash:256"
    "Training images: squash:N (to N x N), short:N (short side to N, shape kept), or white:N (long side, white bars)."
    crop: int = 256
    "Side of the random square crop, in pixels."
    pad: int = 10
    "Black border added on each side before the crop, in pixels."
    flip: bool = True
    "Random horizontal flip, where the data allow it."
    rotate: float = 0.0
    "Random rotation, up to this many degrees either way."
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)
    class_cap: int = 0
    "At most this many images of a class, drawn once for each member; 0: all."
    select: Literal["last", "best-train"] = "last"
    "Which epoch's weights are kept: the last, or the best training accuracy after the first epoch."
    normalize_logits: bool = False
    "L2-normalise the output before the cross-entropy (the other reading of the paper)."

    def __post_init__(self) -> None:
        as_declared(self)
        check(
            {
                f"epochs = {self.epochs}: must be at least 1": self.epochs >= 1,
                f"batch_size = {self.batch_size}: must be at least 2": self.batch_size >= 2,
                f"lr = {self.lr}: must be above 0, and finite": 0 < self.lr < math.inf,
                f"momentum = {self.momentum}: must be in 0..1": 0 <= self.momentum < 1,
                "nesterov needs momentum above 0": not self.nesterov or self.momentum > 0,
                f"weight_decay = {self.weight_decay}: must be at least 0, and finite": 0
                <= self.weight_decay
                < math.inf,
                f"step_epochs = {self.step_epochs}: must be at least 1": self.step_epochs >= 1,
                "schedule milestones needs milestones, shares of the epochs in 0..1": self.schedule
                != "milestones"
                or (len(self.milestones) > 0 and all(0 <= m <= 1 for m in self.milestones)),
                f"gamma = {self.gamma}: must be in 0..1": 0 < self.gamma <= 1,
                f"warmup = {self.warmup}: must be in 0..1": 0 <= self.warmup < 1,
                **input_checks(self),
                f"class_cap = {self.class_cap}: must not be negative": self.class_cap >= 0,
            }
        )


@dataclass(frozen=True, kw_only=True)
class InputRecipe:
    """How training images reach a network, for the methods whose optimisation has settings of its own.

    The fields mean what they mean in `Recipe`; every one is part of the key.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    resize: str = "squash:256"
    "Training images: squash:N (to N x N), short:N (short side to N, shape kept), or white:N (long side, white bars)."
    crop: int = 256
    "Side of the random square crop, in pixels."
    pad: int = 0
    "Black border added on each side before the crop, in pixels."
    flip: bool = True
    "Random horizontal flip, where the data allow it."
    rotate: float = 0.0
    "Random rotation, up to this many degrees either way."
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        as_declared(self)
        check(input_checks(self))


class SingleModel:
    """What the specs of methods that train one model, and no ensemble, have in common."""

    recipe: InputRecipe

    @property
    def key(self) -> str:
        """The name of this model's weights in the store."""
        return content_key(self)

    @property
    def index(self) -> int:
        """It stands where an ensemble's only member would."""
        return 1

    @property
    def crop(self) -> int:
        return self.recipe.crop


def input_checks(recipe: Recipe | InputRecipe) -> dict[str, bool]:
    """What must hold of a recipe's input, for `check`."""
    return {
        **crop_checks(recipe.crop),
        f"pad = {recipe.pad}: must not be negative": recipe.pad >= 0,
        f"rotate = {recipe.rotate}: must be in 0..180 degrees": 0 <= recipe.rotate <= 180,
        **statistics_checks(recipe.mean, recipe.std),
    }


@dataclass(frozen=True, kw_only=True)
class MemberSpec:
    """One DREML member: all that determines its weights, and nothing else."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    method: Literal["dreml"] = "dreml"
    train_digest: str
    "Digest of the pixels and labels trained on: the classes are already cut to those trained on."
    classes: int
    "How many classes are trained on."
    backbone: str
    weights: str
    'Initial weights: "none", or the SHA-256 of their content.'
    D: int
    "Meta-classes, and so the embedding's dimension."
    index: int
    "Member number, from 1."
    seed: int
    partition: str = BALANCED
    recipe: Recipe
    precision: Precision
    threads: int
    "CPU threads a member computes with; a GPU member's weights do not depend on it."
    deterministic: bool
    "Ask CUDA for deterministic kernels. A CPU is deterministic in any case."
    batch_norm: Literal["batch"] = "batch"
    "How BatchNorm's statistics are formed in training: from each batch."
    training_version: int = TRAINING_VERSION

    def __post_init__(self) -> None:
        as_declared(self)
        check(
            {
                f"D = {self.D}: must be in 2..{self.classes} (the training classes)": 2
                <= self.D
                <= self.classes,
                f"index = {self.index}: members are numbered from 1": self.index >= 1,
                f"threads = {self.threads}: must be at least 1": self.threads >= 1,
            }
        )

    @property
    def key(self) -> str:
        """The name of this member's weights in the store."""
        return content_key(self)

    @property
    def epochs(self) -> int:
        return self.recipe.epochs

    @property
    def crop(self) -> int:
        return self.recipe.crop

    @property
    def learners(self) -> tuple[int, ...]:
        """Sizes of the learners whose raw vectors are stored; () as a member's vector is stored at unit length."""
        return ()

    def shown(self, images: int) -> int:
        """How many images training shows to the network, of a training set of `images`."""
        return images * self.recipe.epochs


@dataclass(frozen=True, kw_only=True)
class TestView:
    """How an image is shown to a trained network: no randomness, one crop."""

    __test__: ClassVar[bool] = False  # not a pytest class
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    resize: str
    crop: int
    mean: Triple
    std: Triple

    def __post_init__(self) -> None:
        as_declared(self)
        check(
            {
                **crop_checks(self.crop),
                **statistics_checks(self.mean, self.std),
            }
        )


#: Raised by hand when embedding code changes its results.
EMBEDDING_VERSION = 1


def embedding_digest(part_digest: str, view: TestView) -> str:
    """The name of the vectors of one set of images under one test view: 16 hex digits."""
    settings = {"part": part_digest, "view": form(view), "version": EMBEDDING_VERSION}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
