"""DREML's part of a request: an ensemble of L members, each with a partition of its own into D meta-classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from muster.orchestrator.methods import presets
from muster.orchestrator.methods.base import Frontend, Given, Parts
from muster.orchestrator.settings.request import (
    EnsembleSettings,
    Flags,
    History,
    InputRun,
    LaunchRequest,
    MethodRequest,
)
from muster.workers.datasets import Glyphs
from muster.workers.forms import keyed
from muster.workers.methods.dreml.settings import MemberSpec, Recipe
from muster.workers.spec import LEAST_SIDE, ModelSpec

#: What a rehearsal leaves of an ensemble, as far as it has it.
LEAST_MEMBERS, LEAST_EPOCHS = 2, 1
#: Shares of the training images whose meta-classes are told at the end: below FAR training has hardly begun; up to
#: LEARNT it goes on, where the last epoch added more than RISING.
FAR, LEARNT, RISING = 0.5, 0.95, 0.05


@keyed("recipe")
@dataclass(frozen=True, kw_only=True)
class DremlRequest(MethodRequest):
    """How the members are trained."""

    recipe: Recipe

    @property
    def title(self) -> str:
        return "DREML"

    def shape(self, ensemble: EnsembleSettings) -> str:
        return f"D{ensemble.D}-L{ensemble.L}"

    def specs(
        self, ensemble: EnsembleSettings, common: Mapping[str, Any], inputs: Sequence[InputRun]
    ) -> list[ModelSpec]:
        return [MemberSpec(D=ensemble.D, index=i, **common) for i in range(1, ensemble.L + 1)]

    def class_problems(self, request: LaunchRequest, classes: int) -> list[str]:
        D = request.ensemble.D
        if classes >= D:
            return []
        return [
            f"D = {D}: there are {classes} training classes, and a meta-class needs at least one of them: take D in "
            f"2..{classes}."
        ]

    def rehearsed(self, request: LaunchRequest, scale: float, share: float, classes: int) -> Flags:
        ensemble = request.ensemble
        # A network with an output for each of the classes that it was cut to keeps that.
        single = request.data.train_classes == ensemble.D
        # A single network stays one: there is no ensemble to rehearse.
        members = max(round(ensemble.L * scale), min(LEAST_MEMBERS, ensemble.L))
        epochs = max(round(self.recipe.epochs * scale), LEAST_EPOCHS)
        flags: Flags = {
            "ensemble.D": classes if single else max(2, min(ensemble.D, classes // 2)),
            "ensemble.L": members,
            "recipe.epochs": epochs,
        }
        if self.recipe.schedule == "step":
            flags["recipe.step_epochs"] = max(1, round(self.recipe.step_epochs * epochs / self.recipe.epochs))
        return flags

    def caption(self, request: LaunchRequest) -> str:
        ensemble = request.ensemble
        return f"D = {ensemble.D}, seed {ensemble.seed}"

    def fitted(self, preset: str) -> str:
        usual = presets.PRESETS[preset](Glyphs.traits, LEAST_SIDE)[0] if preset in presets.PRESETS else {}
        mine = self.recipe
        if (
            mine.schedule != "step"
            or usual.get("schedule") != "step"
            or mine.step_epochs == usual["step_epochs"]
        ):
            return ""
        if mine.step_epochs != presets.fitted_steps(usual, mine.epochs):
            return ""  # it was asked for
        return (
            f"The preset {preset} divides the rate every {usual['step_epochs']} of {usual['epochs']} epochs; "
            f"brought to {mine.epochs}, that is every {mine.step_epochs}."
        )

    def doubts(self, ensemble: EnsembleSettings, histories: Sequence[History]) -> list[str]:
        """Members that hardly tell their meta-classes apart, or still learn to."""
        ends = [rows[-1] for rows in histories if rows]
        if not ends:
            return []
        right, loss = (fmean(row[name] for row in ends) for name in ("accuracy", "loss"))
        state = (
            f"at the end members tell {100 * right:.0f} % of the training images' meta-classes (guessing: "
            f"{100 / ensemble.D:.0f} %), at a loss of {loss:.2f} where guessing has ln D = {math.log(ensemble.D):.2f}"
        )
        longer = f"Train longer (--epochs {2 * self.recipe.epochs})"
        if right < FAR:
            higher = f"at a higher rate (--set lr={3 * self.recipe.lr:g})"
            return [f"Training has not got far: {state}. {longer}, {higher}, or from pretrained --weights."]
        rises = [rows[-1]["accuracy"] - rows[-2]["accuracy"] for rows in histories if len(rows) > 1]
        if right < LEARNT and rises and (rise := fmean(rises)) > RISING:
            more = f"{100 * rise:.0f} points more in the last epoch"
            return [f"Members were still learning: {more}; {state}. {longer}."]
        return []

    def in_words(self, request: LaunchRequest) -> list[str]:
        recipe, ensemble = self.recipe, request.ensemble
        schedule = {
            "step": f"times {recipe.gamma:g} every {recipe.step_epochs} epochs",
            "milestones": f"times {recipe.gamma:g} at {', '.join(f'{share:g}' for share in recipe.milestones)}",
        }.get(recipe.schedule, recipe.schedule)
        return [
            f"D = {ensemble.D}",
            f"L = {ensemble.L}",
            f"{recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''} of batches of {recipe.batch_size}",
            f"lr {recipe.lr:g} {schedule}",
            f"keeps {'the last epoch' if recipe.select == 'last' else 'the best training epoch'}",
            *([f"at most {recipe.class_cap} images of a class"] if recipe.class_cap else []),
        ]


def parse(given: Given) -> Parts:
    """Members have their own recipe; the test view is the preset's."""
    given.usual("D", given.traits.meta_classes)
    given.usual("backbone", given.traits.backbone)
    preset = given.preset(presets.PRESETS, presets.preset_for(given.traits, given.weights), "paper")
    epochs = given.settings["recipe"].get("epochs")
    recipe, view = presets.settings(
        preset, given.traits, given.picture_side(), epochs if isinstance(epochs, int) else None
    )
    return Parts(
        preset,
        given.section("ensemble", EnsembleSettings),
        {"recipe": given.section("recipe", Recipe, recipe)},
        view,
    )


FRONTEND = Frontend(
    name="dreml",
    help="DREML: L networks, each trained on its own random grouping of the classes into D meta-classes.",
    request_type=DremlRequest,
    recipe_type=Recipe,
    presets=tuple(presets.PRESETS),
    parse=parse,
)
