"""What determines a model's weights, and the key that names them.

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
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args, get_origin, get_type_hints

from muster.workers.forms import form, keyed
from muster.workers.networks.own_code import own_network

#: Raised by hand whenever training code changes its results; tests/workers/train/test_golden.py guards it.
TRAINING_VERSION = 1

#: Sides of pictures, in pixels: a larger square has more of them than Pillow takes for an image that is meant.
LEAST_SIDE, MOST_SIDE = 8, 9459

Precision = Literal["fp32", "tf32", "bf16"]
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


@keyed("resize crop pad flip rotate mean std")
@dataclass(frozen=True, kw_only=True)
class InputRecipe:
    """How training images reach a network. Every field is part of the key."""

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
        check({**self.input_checks(), **self.own_checks()})

    def own_checks(self) -> dict[str, bool]:
        """What must hold of the fields that a method adds, for `check`."""
        return {}

    def input_checks(self) -> dict[str, bool]:
        """What must hold of the input, for `check`."""
        return {
            **crop_checks(self.crop),
            f"pad = {self.pad}: must not be negative": self.pad >= 0,
            f"rotate = {self.rotate}: must be in 0..180 degrees": 0 <= self.rotate <= 180,
            **statistics_checks(self.mean, self.std),
        }


class LabelBatchShape:
    """What settings have whose batches are of P labels x K images; see `workers/train/label_batches.py`."""

    labels: int
    images: int

    @property
    def batch_size(self) -> int:
        """Images in a batch, P x K."""
        return self.labels * self.images

    def steps_of(self, images: int) -> int:
        """Batches of an epoch over so many training images: as many as they fill, at least 1."""
        return max(1, images // self.batch_size)

    def check_batch(self, classes: int, world_size: int) -> None:
        """Raises ValueError unless `classes` are enough for P and the global batch divides by `world_size`."""
        check(
            {
                f"labels = {self.labels}: there are only {classes} training classes. Give --P {classes}": (
                    self.labels <= classes
                ),
                _ranks_message(self.labels, self.images, world_size, classes): (
                    self.batch_size % world_size == 0
                ),
            }
        )


def _ranks_message(labels: int, images: int, world_size: int, classes: int) -> str:
    """Names the nearest numbers of labels, from 2 to `classes`, whose batch divides by the ranks."""
    divides = [p for p in range(2, classes + 1) if p * images % world_size == 0]
    below, above = [p for p in divides if p < labels][-1:], [p for p in divides if p > labels][:1]
    return (
        f"labels = {labels}: a batch of {labels} labels x {images} images = {labels * images} doesn't divide by "
        f"{world_size} ranks: {_nearest([*below, *above], images)}"
    )


def _nearest(labels: Sequence[int], images: int) -> str:
    if not labels:
        return "no number of labels does: change images or the ranks"
    return "the nearest that do: " + ", ".join(f"labels = {p} ({p * images} images)" for p in labels)


class VectorsOf(NamedTuple):
    """Stored vectors that a model is trained from."""

    key: str
    "Of the model that they are by."
    digest: str
    "Of the images and the view that they are of."


@dataclass(frozen=True, kw_only=True)
class ModelSpec(ABC):
    """One model: all that determines its weights, and nothing else. Each method has a spec of its own."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    index: ClassVar[int] = 1
    "The model's number in its ensemble, from 1; a method of one model has no other."
    method: str
    train_digest: str
    "Digest of the pixels and labels trained on: the classes are already cut to those trained on."
    classes: int
    "How many classes are trained on."
    backbone: str
    weights: str
    'Initial weights: "none", or the SHA-256 of their content.'
    seed: int
    recipe: InputRecipe
    precision: Precision
    threads: int
    "CPU threads that a process computes with; a GPU model's weights do not depend on it."
    deterministic: bool
    "Ask CUDA for deterministic kernels. A CPU is deterministic in any case."
    batch_norm: str = "batch"
    "How BatchNorm's statistics are formed in training: from each batch."
    training_version: int = TRAINING_VERSION

    def __post_init__(self) -> None:
        as_declared(self)
        mine = own_network(self.backbone)
        check(
            {
                f"threads = {self.threads}: must be at least 1": self.threads >= 1,
                f"backbone = {self.backbone}: the digest of its code is missing": not mine
                or mine.digest != "",
                **self.own_checks(),
            }
        )

    def own_checks(self) -> dict[str, bool]:
        """What must hold of a method's own fields, for `check`."""
        return {}

    @property
    def key(self) -> str:
        """The name of this model's weights in the store."""
        return content_key(self)

    @property
    def crop(self) -> int:
        return self.recipe.crop

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Length of the vector that the network gives."""

    @property
    @abstractmethod
    def epochs(self) -> int:
        """Epochs of training; 1 for a method that counts in steps."""

    @property
    def learners(self) -> tuple[int, ...]:
        """Sizes of the parts that its vector is stored in, raw; () where vectors are stored whole, at unit length."""
        return ()

    @property
    def inputs(self) -> tuple[VectorsOf, ...]:
        """Stored vectors of the training images, by other models, that it is trained from."""
        return ()

    def shown(self, images: int) -> int:
        """How many images training shows to the network, of a training set of `images`."""
        return images * self.epochs

    def described(self) -> str:
        """What is learned of the classes, for the log: "classes in 12 meta-classes"."""
        return "classes"


@keyed("resize crop mean std")
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
