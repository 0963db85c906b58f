"""Whether pictures and networks fit together, told before anything is read or built for good."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muster.orchestrator.machine import credentials
from muster.workers.errors import UsageError
from muster.workers.networks.facts import TIMM
from muster.workers.networks.own_code import own_network
from muster.workers.packs.pack import ResizeRule
from muster.workers.store.addresses import parse_address

if TYPE_CHECKING:
    from muster.workers.datasets import Traits
    from muster.workers.networks.timm_models import Input

#: The smallest picture of the networks that are asked for most, in pixels.
COMMON_BACKBONES = {"conv4": 16, "resnet18": 32, "resnet50": 32, "googlenet": 32, "bvlc_googlenet": 32}


def resize_problems(parsed: Mapping[str, Any]) -> list[str]:
    """What is wrong with the resize rules of a parsed recipe and test view."""
    problems = []
    for section in ("recipe", "view"):
        if parsed[section] is not None:
            try:
                ResizeRule.parse(parsed[section].resize)
            except ValueError as error:
                problems.append(f"{section}.{error}.")
    return problems


def for_backbone(traits: Traits, backbone: Any) -> Traits:
    """What a recipe must know of a data set, where the network has pictures of its own size and statistics."""
    if not isinstance(backbone, str) or not backbone.startswith(TIMM):
        return traits
    try:
        found = input_of(backbone)
    except UsageError:  # is said where the backbone is checked
        return traits
    return dataclasses.replace(traits, mean=found.mean, std=found.std, picture_side=found.side)


def input_of(backbone: str) -> Input:
    """See `timm_models.input_of`; torch is loaded for it."""
    from muster.workers.networks import timm_models

    return timm_models.input_of(backbone)


def backbone_problems(backbone: Any, crops: set[int]) -> list[str]:
    """Whether the network exists and takes pictures of these sides, in pixels."""
    if backbone in COMMON_BACKBONES:  # the list of all of them is torchvision's, and slow to import
        least = COMMON_BACKBONES[backbone]
        small = [crop for crop in crops if crop < least]
        return [
            f"{backbone} needs pictures of at least {least} px and gets {crop}: give --image-size {least}."
            for crop in small
        ]
    from muster.workers.networks import backbones

    if isinstance(backbone, str) and backbone.startswith(TIMM):
        try:
            input_of(backbone)
        except UsageError as error:
            return error.problems
    elif own_network(backbone) is not None:
        try:
            backbones.build(backbone, 2, 0)
        except UsageError as error:
            return error.problems
    elif backbone not in backbones.names():
        near = difflib.get_close_matches(str(backbone), backbones.names(), 3)
        hint = f"Did you mean {' or '.join(near)}?" if near else "Try conv4, resnet18 or googlenet."
        hint += " One of your own is written MODULE:FACTORY." if ":" in str(backbone) else ""
        return [f"There is no backbone {backbone!r}. {hint}"]
    causes = {crop: backbones.refusal(backbone, crop) for crop in sorted(crops)}
    made_for = input_of(backbone).side if backbone.startswith(TIMM) else 0
    hints = {crop: f" It was made for {made_for} px." if made_for not in {0, crop} else "" for crop in causes}
    return [f"{cause}.{hints[crop]}" for crop, cause in causes.items() if cause]


def whole_path(place: str) -> str:
    """A URI without the credentials in it (`machine.credentials`), a path made absolute. Raises UsageError for what
    looks like a URI with a slash too few."""
    if not place.strip():
        raise UsageError(
            "An empty path is no place: is a shell variable unset? The current folder is written as ."
        )
    if "://" in place:
        return credentials.taken_out(place)
    scheme, _, rest = place.partition(":/")
    if rest and scheme.isalnum() and not Path(f"{scheme}:").exists():
        shown = parse_address(f"{scheme}://{rest.lstrip('/')}").bare  # there may be a secret in it
        raise UsageError(
            f"{shown.replace('://', ':/', 1)}: a URI has two slashes, as {shown}; a folder of that name begins with ./"
        )
    return str(Path(place).expanduser().absolute())
