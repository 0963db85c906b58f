"""BIER's settings by name: the authors' code, and ours for `glyphs`.

Known values are few: the authors' script is for Stanford Online Products, and the rest are defaults of their
command line. A preset gives defaults; every field can be set on top of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from muster.workers.datasets import Traits

Settings = dict[str, Any]
#: Caffe's mean, (104, 117, 123) in BGR, and no division: the input of bvlc_googlenet.
CAFFE_MEAN = (123 / 255, 117 / 255, 104 / 255)
CAFFE_STD = (1 / 255, 1 / 255, 1 / 255)


@dataclass(frozen=True)
class Preset:
    """What a preset gives: settings of BIER, and of the input in training and in test."""

    bier: Settings
    recipe: Settings
    view: Settings = field(default_factory=dict)


def authors(traits: Traits, side: int) -> Preset:
    """The authors' script (run.sh, for Stanford Online Products): 64 labels x 2 images, 100,000 steps, rates
    halved every 25,000; pictures on white, crops of 224 at 256."""
    crop = round(224 * side / 256)
    bier = {"labels": 64, "images": 2, "steps": 100_000, "anneal_every": 25_000, "anneal_factor": 0.5}
    recipe = {"resize": f"white:{side}", "crop": crop, "pad": 0}
    return Preset(bier, recipe, {"resize": f"white:{side}", "crop": crop})


def authors_short(traits: Traits, side: int) -> Preset:
    """The defaults of the authors' command line, 20,000 steps at one rate, with their script's batches: what is
    known for the data sets that the script is not for."""
    found = authors(traits, side)
    return Preset({"labels": 64, "images": 2, "steps": 20_000}, found.recipe, found.view)


def glyphs(traits: Traits, side: int) -> Preset:
    """Ours, for the embedded set: a small network that starts from random weights."""
    bier = {"labels": 32, "images": 4, "steps": 600, "lr": 1e-3, "learner_lr": 1.0, "anneal_every": 200}
    recipe = {"resize": f"squash:{side}", "crop": side, "pad": 1}
    return Preset(bier, recipe, {"resize": f"squash:{side}", "crop": side})


def scratch(traits: Traits, side: int) -> Preset:
    """Ours, for networks that start from random weights, on any data set: `glyphs` with four times the steps, whose
    rates are halved at each third of them, whatever their number, and with the balance of pairs that such networks
    need. Tuned on held-out classes of two data sets: docs/bier.md."""
    found = glyphs(traits, side)
    bier = {**found.bier, "steps": 2400, "anneal_every": 800, "variant": "balanced"}
    return Preset(bier, {**found.recipe, "pad": round(side / 32)}, found.view)


PRESETS: dict[str, Callable[[Traits, int], Preset]] = {
    "authors": authors_short,
    "authors-sop": authors,
    "glyphs": glyphs,
    "scratch": scratch,
}


#: The backbone that a data set takes when none is named.
BACKBONE = "bvlc_googlenet"


def preset_for(data_set: str, traits: Traits, weights: str) -> str:
    """The preset that a data set takes when none is named, for networks that start from such weights."""
    if traits.preset:
        return traits.preset
    if weights == "none" and not traits.published:
        return "scratch"
    return "authors-sop" if data_set == "sop" else "authors"


def settings(name: str, traits: Traits, side: int, backbone: str) -> Preset:
    """A preset for a data set, a picture side in pixels and a backbone, whose weights decide on the statistics."""
    found = PRESETS[name](traits, side)
    caffe = backbone == BACKBONE
    common = {"mean": CAFFE_MEAN if caffe else traits.mean, "std": CAFFE_STD if caffe else traits.std}
    return Preset(found.bier, {**found.recipe, "flip": traits.flip, **common}, {**found.view, **common})


def completed(name: str, preset: Mapping[str, Any], given: Mapping[str, Any]) -> Settings:
    """The settings of the preset of this name with those given over them. Where a given one leaves one of the preset's
    without effect, which would be refused, that is left out; `scratch` anneals at shares of the steps."""
    found = {**preset, **given}
    if name == "scratch" and isinstance(found["steps"], int) and "anneal_every" not in given:
        found["anneal_every"] = max(1, found["steps"] * preset["anneal_every"] // preset["steps"])
    if found.get("boost") is False and "variant" not in given:
        found.pop("variant", None)
    if found.get("anneal_every") == 0 and "anneal_factor" not in given:
        found.pop("anneal_factor", None)
    return found
