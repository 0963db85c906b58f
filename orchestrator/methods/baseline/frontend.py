"""A compared method's part of a request: one model, whose dimension is its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from muster.orchestrator.methods import presets as inputs
from muster.orchestrator.methods.base import Frontend, Given, Parts
from muster.orchestrator.methods.baseline import presets
from muster.orchestrator.settings.request import (
    EnsembleSettings,
    Flags,
    InputRun,
    LaunchRequest,
    MethodRequest,
)
from muster.workers.forms import keyed
from muster.workers.methods.baseline.settings import (
    OWN,
    BaselineLoss,
    BaselineSettings,
    BaselineSpec,
    library_problem,
)
from muster.workers.spec import InputRecipe, ModelSpec

TITLES = {"triplet": "Triplet", "npairs": "N-pairs", "proxynca": "Proxy-NCA"}


@keyed("recipe baseline")
@dataclass(frozen=True, kw_only=True)
class BaselineRequest(MethodRequest):
    """Which loss, and how the network is trained with it."""

    baseline: BaselineSettings

    @property
    def drawn_at_once(self) -> int:
        return self.baseline.batch_size

    @property
    def title(self) -> str:
        return TITLES[self.baseline.loss]

    @property
    def prefix(self) -> str:
        return self.baseline.loss

    def specs(
        self, ensemble: EnsembleSettings, common: Mapping[str, Any], inputs: Sequence[InputRun]
    ) -> list[ModelSpec]:
        return [BaselineSpec(baseline=self.baseline, **common)]

    def class_problems(self, request: LaunchRequest, classes: int) -> list[str]:
        found = [problem] if (problem := library_problem()) else []
        if self.baseline.labels > classes:
            found.append(
                f"baseline.labels = {self.baseline.labels}: there are only {classes} training classes. Give --P "
                f"{classes}."
            )
        return found

    def rehearsed(self, request: LaunchRequest, scale: float, share: float, classes: int) -> Flags:
        flags: Flags = {
            "baseline.epochs": max(round(self.baseline.epochs * scale), 1),
            "baseline.labels": min(self.baseline.labels, classes),
        }
        if self.baseline.anneal_epochs:
            flags["baseline.anneal_epochs"] = max(1, round(self.baseline.anneal_epochs * scale))
        return flags

    def caption(self, request: LaunchRequest) -> str:
        return f"{request.ensemble.D} dimensions, seed {request.ensemble.seed}"

    def notes(self) -> list[str]:
        return [
            f"{self.title}: the loss is pytorch-metric-learning's, the input DREML's, the optimiser ours: "
            "docs/baselines.md."
        ]

    def in_words(self, request: LaunchRequest) -> list[str]:
        found = self.baseline
        return [
            f"{found.loss} loss",
            f"{found.dim} dimensions",
            f"{found.epochs} epoch{'s' if found.epochs > 1 else ''} of {found.labels} x {found.images}",
            f"Adam {found.lr:g}, last layer times {found.embedding_lr:g}",
        ]


def parse(given: Given) -> Parts:
    """Its input is that of DREML's preset of the same name."""
    settings = given.settings
    given.usual("backbone", given.traits.backbone)
    preset = given.preset(inputs.PRESETS, inputs.preset_for(given.traits, given.weights), "paper")
    found, recipe, view = presets.settings(preset, given.traits, given.picture_side(), settings["baseline"])
    losses = get_args(BaselineLoss)
    if found.get("loss") not in losses:
        said = f" = {found['loss']!r}: there are" if "loss" in found else ": give --loss, one of"
        given.problems.append(f"baseline.loss{said} {', '.join(losses)}.")
        # stands in, so that the rest is checked too
        found = {"loss": "triplet", **{k: v for k, v in found.items() if k not in {"loss", *OWN}}}
    baseline = given.section("baseline", BaselineSettings, values=found)
    causes = {"D": "its dimension is baseline.dim", "L": "it is one model"}
    ensemble = given.one_model(baseline and baseline.dim, causes)
    parts = {"recipe": given.section("recipe", InputRecipe, recipe), "baseline": baseline}
    return Parts(preset, ensemble, parts, view)


FRONTEND = Frontend(
    name="baseline",
    help="A compared method of DREML's Table 1: one network with a loss of pytorch-metric-learning.",
    request_type=BaselineRequest,
    recipe_type=InputRecipe,
    presets=tuple(inputs.PRESETS),
    parse=parse,
    own={"baseline": BaselineSettings},
    stand_ins={"baseline.loss": "triplet"},
)
