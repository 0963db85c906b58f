"""BIER's part of a request: one model, whose dimension is the sum of its learners'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from muster.orchestrator.methods.base import Frontend, Given, Parts
from muster.orchestrator.methods.bier import presets
from muster.orchestrator.settings.request import (
    EnsembleSettings,
    Flags,
    InputRun,
    LaunchRequest,
    MethodRequest,
)
from muster.workers.flags import flag
from muster.workers.forms import keyed
from muster.workers.methods.bier.settings import BierSettings, BierSpec
from muster.workers.score.combine import Combination, Combine
from muster.workers.spec import InputRecipe, ModelSpec


@keyed("recipe bier combine")
@dataclass(frozen=True, kw_only=True)
class BierRequest(MethodRequest):
    """How the learners are trained, and how they are combined."""

    bier: BierSettings
    combine: Combine = field(default="share", metadata=flag())
    "How BIER's learners are combined at test time; the model does not depend on it."

    @property
    def title(self) -> str:
        """BIER, A-BIER, or the baseline that the settings make of it."""
        if not self.bier.boost:
            return "one embedding" if len(self.bier.sizes) == 1 else "baseline, all weights 1"
        names = {"none": "BIER", "adversarial": "A-BIER", "activation": "BIER, activation loss"}
        return names[self.bier.auxiliary]

    @property
    def drawn_at_once(self) -> int:
        return self.bier.batch_size

    @property
    def combination(self) -> Combination:
        return Combination(self.bier.sizes, self.combine)

    def specs(
        self, ensemble: EnsembleSettings, common: Mapping[str, Any], inputs: Sequence[InputRun]
    ) -> list[ModelSpec]:
        return [BierSpec(bier=self.bier, batch_norm=ensemble.batch_norm, **common)]

    def class_problems(self, request: LaunchRequest, classes: int) -> list[str]:
        try:
            self.bier.check_batch(classes, request.resources.ranks)
        except ValueError as error:
            return [f"bier.{part}." for part in str(error).split("; ")]
        return []

    def rehearsed(self, request: LaunchRequest, scale: float, share: float, classes: int) -> Flags:
        """Its epochs are steps: their number falls with the epochs, and with the images that an epoch has."""
        share = scale * min(1.0, share)
        flags: Flags = {
            "bier.steps": max(1, round(self.bier.steps * share)),
            "bier.labels": min(self.bier.labels, classes),
        }
        if self.bier.anneal_every:
            flags["bier.anneal_every"] = max(1, round(self.bier.anneal_every * share))
        return flags

    def caption(self, request: LaunchRequest) -> str:
        return f"learners {'+'.join(map(str, self.bier.sizes))}, seed {request.ensemble.seed}"

    def notes(self) -> list[str]:
        return [f"Learners at unit length, combined as {self.combine}: docs/bier.md."]

    def in_words(self, request: LaunchRequest) -> list[str]:
        bier = self.bier
        boosted = f"boosted ({bier.variant})" if bier.boost else "all pair weights 1"
        auxiliary = "" if bier.auxiliary == "none" else f", {bier.auxiliary} loss times {bier.lambda_div:g}"
        annealed = f" times {bier.anneal_factor:g} every {bier.anneal_every}" if bier.anneal_every else ""
        return [
            f"learners {'+'.join(map(str, bier.sizes))} {boosted}{auxiliary}",
            f"{bier.steps} step{'s' if bier.steps > 1 else ''} of {bier.labels} x {bier.images}",
            f"Adam {bier.lr:g}, learners times {bier.learner_lr:g}{annealed}",
            f"combined by {self.combine}",
        ]


def parse(given: Given) -> Parts:
    """Its presets are its own; the backbone decides on the statistics of its pictures."""
    settings = given.settings
    preset = given.preset(
        presets.PRESETS, presets.preset_for(given.dataset, given.traits, given.weights), "authors"
    )
    backbone = settings["ensemble"].setdefault("backbone", given.traits.backbone or presets.BACKBONE)
    defaults = presets.settings(preset, given.traits, given.picture_side(), backbone)
    bier = given.section(
        "bier", BierSettings, values=presets.completed(preset, defaults.bier, settings["bier"])
    )
    cause = "BIER is one model; the sizes of its learners are bier.sizes"
    ensemble = given.one_model(bier and bier.dimensions, {"D": cause, "L": cause})
    if ensemble and ensemble.batch_norm == "frozen" and ensemble.weights == "none":
        given.problems.append(
            "ensemble.batch_norm = frozen needs pretrained weights (--weights): a new network's statistics describe "
            "nothing."
        )
    combine = settings.get("combine") or "share"
    if combine not in get_args(Combine):
        given.problems.append(f"combine = {combine!r}: there are {', '.join(get_args(Combine))}.")
    recipe = given.section("recipe", InputRecipe, defaults.recipe)
    return Parts(preset, ensemble, {"recipe": recipe, "bier": bier, "combine": combine}, defaults.view)


FRONTEND = Frontend(
    name="bier",
    help="BIER: one network, its last layer split into boosted learners; N ranks train it as one job.",
    request_type=BierRequest,
    recipe_type=InputRecipe,
    presets=tuple(presets.PRESETS),
    parse=parse,
    own={"bier": BierSettings},
    top=("combine",),
)
