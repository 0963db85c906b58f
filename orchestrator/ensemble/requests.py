"""An ensemble that a job asks for, and what became of it. Launch asks for one, a table for many, a search for one more
whenever Tune says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from muster.orchestrator.settings.request import LaunchRequest

if TYPE_CHECKING:
    from muster.workers.spec import Precision
    from muster.workers.task import Images, MemberTask, Target


@dataclass(frozen=True, kw_only=True)
class EnsembleRequest:
    """An ensemble, or one model of a method that trains a single one."""

    launch: LaunchRequest
    "The launch that would train exactly it."
    name: str = ""
    "Unique within a job that asks for several; for people: `cub200 (R,12,48) seed 0`."
    splits: tuple[str, ...] = ()
    'Splits whose vectors are wanted beside test\'s: "train".'
    note: str = ""
    "Must stand on whatever is made of it: that it is a rehearsal."


@dataclass(frozen=True)
class Prepared:
    """The images of a run, packed: what keys are made of."""

    train: Images
    classes: int
    targets: tuple[Target, ...]
    "The vectors wanted of each member: test, and val if there is one."
    warnings: tuple[str, ...]
    facts: dict[str, object]
    "For the report: sizes, classes, digests."
    embedded: int = 0
    "How many images each member embeds, of all targets."
    differences: tuple[str, ...] = ()
    "How the copy differs from what was published."
    inputs: tuple[PreparedInput, ...] = ()
    "The runs that its models are trained from."
    stocked: int = 0
    "Training classes that have an image."
    train_bytes: int = 0
    "Of the pixels that are trained on."
    account: Mapping[str, Any] | None = None
    "What became of every file below the data root."
    classes_named: Mapping[str, str] = field(default_factory=dict)
    "The first and last classes of each split."


#: The digest of initial weights, and the precision: what a request leaves open.
Settled = tuple[str, "Precision"]


@dataclass(frozen=True)
class PreparedInput:
    """A run that others are trained from, with its images: among their targets are those of the training images."""

    launch: LaunchRequest
    prepared: Prepared
    settled: Settled | None
    "None of an ensemble of the same job, until its members are settled."


@dataclass(frozen=True, kw_only=True)
class EnsembleResult:
    """What became of a request. Without data there are no members, and `trouble` says why."""

    request: EnsembleRequest
    prepared: Prepared | None = None
    tasks: tuple[MemberTask, ...] = ()
    "The members that it asked for, in index order."
    members: tuple[MemberTask, ...] = ()
    "The finished ones of them."
    metrics: dict[str, Any] | None = None
    "As in a run's metrics.json: `splits` -> split -> `curve`, a row for each L."
    trouble: str = ""

    def target(self, split: str) -> Target:
        """The vectors of a split. Raises KeyError if they were not asked for."""
        found = {target.split: target for task in self.tasks for target in task.targets}
        return found[split]
