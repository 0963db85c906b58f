"""A student's part of a request: one model, the run of its teacher, and how it learns from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from muster.orchestrator.methods import presets
from muster.orchestrator.methods.base import Frontend, Given, Parts
from muster.orchestrator.settings.request import (
    EnsembleSettings,
    Flags,
    InputRun,
    LaunchRequest,
    MethodRequest,
)
from muster.workers.errors import UsageError
from muster.workers.flags import flag
from muster.workers.forms import keyed
from muster.workers.methods.distill.settings import DistillSettings, DistillSpec, Teacher
from muster.workers.spec import InputRecipe, ModelSpec
from muster.workers.store.runs import check_run_name

#: conv4 starts from random weights, so all of it learns at one rate.
GLYPHS = {"labels": 32, "images": 4, "epochs": 12, "lr": 3e-3, "embedding_lr": 1.0}


@keyed("recipe distill teacher")
@dataclass(frozen=True, kw_only=True)
class DistillRequest(MethodRequest):
    """Whom the student learns from, and how."""

    distill: DistillSettings
    teacher: str = field(metadata=flag())
    "The run of a finished ensemble in the same store, which the student learns from."

    @property
    def drawn_at_once(self) -> int:
        return self.distill.batch_size

    @property
    def title(self) -> str:
        return "Student"

    @property
    def input_runs(self) -> tuple[str, ...]:
        return (self.teacher,)

    def specs(
        self, ensemble: EnsembleSettings, common: Mapping[str, Any], inputs: Sequence[InputRun]
    ) -> list[ModelSpec]:
        (found,) = inputs
        teacher = Teacher(keys=found.keys, vectors=found.vectors)
        if found.combination is not None:
            teacher = replace(teacher, sizes=found.combination.sizes, how=found.combination.how)
        return [DistillSpec(distill=self.distill, teacher=teacher, **common)]

    def class_problems(self, request: LaunchRequest, classes: int) -> list[str]:
        if self.distill.labels <= classes:
            return []
        return [
            f"distill.labels = {self.distill.labels}: there are only {classes} training classes. Give --P {classes}."
        ]

    def rehearsed(self, request: LaunchRequest, scale: float, share: float, classes: int) -> Flags:
        return {
            "distill.epochs": max(round(self.distill.epochs * scale), 1),
            "distill.labels": min(self.distill.labels, classes),
        }

    def caption(self, request: LaunchRequest) -> str:
        return f"{request.ensemble.D} dimensions, of {self.teacher}, seed {request.ensemble.seed}"

    def notes(self) -> list[str]:
        return [f"A student of {self.teacher}, by its {self.distill.loss}: docs/distill.md."]

    def in_words(self, request: LaunchRequest) -> list[str]:
        found = self.distill
        return [
            f"a student of {self.teacher} by its {found.loss}",
            f"{found.dim} dimensions",
            f"{found.epochs} epoch{'s' if found.epochs > 1 else ''} of {found.labels} x {found.images}",
            f"Adam {found.lr:g}, last layer times {found.embedding_lr:g}",
        ]


def parse(given: Given) -> Parts:
    """Its input is that of DREML's preset of the same name."""
    settings = given.settings
    given.usual("backbone", given.traits.backbone)
    preset = given.preset(presets.PRESETS, presets.preset_for(given.traits, given.weights), "paper")
    recipe, view = presets.input_settings(preset, given.traits, given.picture_side())
    values = {**(GLYPHS if preset in presets.FROM_SCRATCH else {}), **settings["distill"]}
    distill = given.section("distill", DistillSettings, values=values)
    causes = {"D": "its dimension is distill.dim", "L": "it is one model"}
    ensemble = given.one_model(distill and distill.dim, causes)
    teacher = str(settings.get("teacher") or "")
    given.problems += _teacher_problems(teacher)
    parts = {"recipe": given.section("recipe", InputRecipe, recipe), "distill": distill, "teacher": teacher}
    return Parts(preset, ensemble, parts, view)


def _teacher_problems(teacher: str) -> list[str]:
    if not teacher:
        return [
            "teacher is missing: give --teacher RUN, a finished ensemble of this store; muster runs lists them."
        ]
    try:
        check_run_name(teacher)
    except UsageError as error:
        return [f"teacher: {problem}" for problem in error.problems]
    return []


FRONTEND = Frontend(
    name="distill",
    help="Distillation: one network that learns to find what a finished ensemble finds, at the price of one.",
    request_type=DistillRequest,
    recipe_type=InputRecipe,
    presets=tuple(presets.PRESETS),
    parse=parse,
    own={"distill": DistillSettings},
    top=("teacher",),
    stand_ins={"teacher": "a-finished-run"},
)
