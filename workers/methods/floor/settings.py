"""A floor: vectors without training, beside which an ensemble's scores say what its training was worth.

It is kept in the store as a model is, once for each data set and view. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from muster.workers.forms import APART, keyed
from muster.workers.methods.base import Method
from muster.workers.spec import InputRecipe, ModelSpec

#: The picture of the `pixels` floor has this side.
PIXELS_SIDE = 32
#: Random weights are always the same ones, so that all runs on a data set share a floor.
SEED = 0


@keyed("method of backbone weights")
@dataclass(frozen=True, kw_only=True)
class FloorSpec(ModelSpec):
    """One floor. Nothing is trained, so that all that only training depends on is no part of it.

    pixels: the view's picture shrunk to 32 x 32, each less its own mean. network: what comes into the last layer of the
    backbone with its initial weights, random or pretrained.
    """

    index: ClassVar[int] = 1_000_000
    "After all members."
    method: Literal["floor"] = "floor"
    of: Literal["pixels", "network"]
    backbone: str = ""
    weights: str = "none"
    train_digest: str = field(default="", metadata=APART)
    classes: int = field(default=0, metadata=APART)
    seed: int = field(default=SEED, metadata=APART)
    recipe: InputRecipe = field(default=InputRecipe(), metadata=APART)
    precision: Literal["fp32"] = field(default="fp32", metadata=APART)
    threads: int = field(default=1, metadata=APART)
    deterministic: bool = field(default=False, metadata=APART)
    batch_norm: str = field(default="batch", metadata=APART)
    training_version: int = field(default=1, metadata=APART)

    @property
    def dimension(self) -> int:
        """Not known without the network: 0. The record of the vectors has it."""
        return 0

    @property
    def epochs(self) -> int:
        return 0


METHOD = Method("floor", FloorSpec, "muster.workers.methods.floor.networks", untrained=True)
