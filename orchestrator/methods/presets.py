"""Recipes by name: what the paper says, what the authors' code does, and ours for random weights.

Where a preset's picture size differs from the paper's 256 px, borders and short sides keep their ratio to
it. A preset gives defaults; every field can be set on top of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from muster.workers.datasets import Traits
from muster.workers.spec import LEAST_SIDE, MOST_SIDE, InputRecipe

Settings = dict[str, Any]


def paper(traits: Traits, side: int) -> tuple[Settings, Settings]:
    """The paper's text, section 3: 12 epochs, 0.01 divided by 10 every 4, squashed to side x side,
    crops from a border of 10 px at 256. It has one resize for all images, so test images are squashed too."""
    recipe = {
        "epochs": 12,
        "lr": 0.01,
        "momentum": 0.9,
        "batch_size": 128,
        "schedule": "step",
        "step_epochs": 4,
        "gamma": 0.1,
        "resize": f"squash:{side}",
        "crop": side,
        "pad": round(10 * side / 256),
        "class_cap": traits.class_cap,  # the text is silent: the authors' code, on the papers' data sets
    }
    return recipe, {"resize": f"squash:{side}", "crop": side}


def code(traits: Traits, side: int) -> tuple[Settings, Settings]:
    """The authors' code as last published: rate times 0.01 at half and at 0.8 of the epochs, short side to
    281 and crops of 256, at most 500 images of a class, the epoch with the best training accuracy."""
    recipe = {
        "epochs": 12,
        "lr": 0.01,
        "momentum": 0.9,
        "batch_size": 128,
        "schedule": "milestones",
        "milestones": (0.5, 0.8),
        "gamma": 0.01,
        "resize": f"short:{round(281 * side / 256)}",
        "crop": side,
        "pad": 0,
        "class_cap": 500,
        "select": "best-train",
    }
    return recipe, {"resize": f"short:{side}", "crop": side}


def glyphs(traits: Traits, side: int) -> tuple[Settings, Settings]:
    """Ours, for the embedded set: 400 small steps with one cycle of the learning rate learn most of it."""
    recipe = {
        "epochs": 6,
        "lr": 0.03,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 5e-4,
        "batch_size": 32,
        "schedule": "one-cycle",
        "resize": f"squash:{side}",
        "crop": side,
        "pad": 1,
    }
    return recipe, {"resize": f"squash:{side}", "crop": side}


def scratch(traits: Traits, side: int) -> tuple[Settings, Settings]:
    """Ours, for networks that start from random weights: one cycle of the learning rate over the whole run, whatever
    its length. Tuned on held-out training classes of two data sets: docs/method.md."""
    recipe, view = glyphs(traits, side)
    return {**recipe, "epochs": 24, "lr": 0.03, "batch_size": 64, "pad": round(side / 32)}, view


PRESETS: dict[str, Callable[[Traits, int], tuple[Settings, Settings]]] = {
    "paper": paper,
    "code": code,
    "glyphs": glyphs,
    "scratch": scratch,
}
#: Those for networks that start from random weights: all of a network learns at one rate.
FROM_SCRATCH = ("glyphs", "scratch")


def preset_for(traits: Traits, weights: str) -> str:
    """The preset that a data set takes when none is named, for networks that start from such weights. Published recipes
    go on from ImageNet's."""
    return traits.preset or ("scratch" if weights == "none" and not traits.published else "paper")


def settings(name: str, traits: Traits, side: int, epochs: int | None) -> tuple[Settings, Settings]:
    """The preset's recipe and test view as plain settings.

    With another number of epochs the steps of a "step" schedule keep their share of them.
    """
    recipe, view = PRESETS[name](traits, side)
    if epochs is not None and recipe["schedule"] == "step":
        recipe["step_epochs"] = fitted_steps(recipe, epochs)
    common = {"mean": traits.mean, "std": traits.std}
    return {**recipe, "flip": traits.flip, **common}, {**view, **common}


def fitted_steps(recipe: Settings, epochs: int) -> int:
    """Epochs between two steps of a recipe's schedule, in a training of so many epochs."""
    return max(1, round(Fraction(epochs * int(recipe["step_epochs"]), int(recipe["epochs"]))))


def input_settings(name: str, traits: Traits, side: int) -> tuple[Settings, Settings]:
    """A preset's input recipe and test view, for a method whose optimisation is its own."""
    recipe, view = settings(name, traits, side, None)
    known = {field.name for field in dataclasses.fields(InputRecipe)}
    return {key: value for key, value in recipe.items() if key in known}, view


def side_problem(side: Any) -> str | None:
    """What is wrong with a picture side, in pixels."""
    if isinstance(side, int) and LEAST_SIDE <= side <= MOST_SIDE:
        return None
    return f"image_size = {side!r}: must be a whole number of pixels, {LEAST_SIDE} to {MOST_SIDE}."
