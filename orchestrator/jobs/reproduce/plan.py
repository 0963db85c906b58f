"""What a reproduction needs, what the store has of it, and what is left to pay for. Nothing is trained here.

Each ask becomes the tasks of its members. A member that several asks share is one task, with all the vectors
that any of them wants.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muster.orchestrator.ensemble.plan import (
    PackProgress,
    Prepared,
    expected_seconds,
    known_weights,
    member_tasks,
    prepare,
)
from muster.orchestrator.fleet.capacity import check_machine
from muster.orchestrator.fleet.device_time import device_time
from muster.orchestrator.jobs.reproduce.ensembles import Ask
from muster.orchestrator.jobs.reproduce.request import ReproduceOptions
from muster.orchestrator.jobs.reproduce.targets import Figure, Target, each_target, parse_options
from muster.orchestrator.records.identity import check_run
from muster.orchestrator.settings.request import LaunchRequest, open_data
from muster.workers.datasets import Published
from muster.workers.errors import MusterError, UsageError
from muster.workers.spec import Precision
from muster.workers.store.layout import Store
from muster.workers.task import MemberTask, missing


@dataclass
class Work:
    """An ask on its way: its images, its members, or why it has none."""

    ask: Ask
    prepared: Prepared | None = None
    tasks: tuple[MemberTask, ...] = ()
    trouble: str = ""

    @property
    def keys(self) -> list[str]:
        return [task.key for task in self.tasks]


@dataclass
class Draft:
    """All asks of a reproduction, by target, before anything was planned."""

    targets: list[tuple[Target, ReproduceOptions]]
    works: list[Work]
    troubles: dict[str, str] = field(default_factory=dict)
    "Targets that can't ask for anything, and why."


@dataclass(frozen=True)
class Cost:
    """What a reproduction takes."""

    asks: int
    members: int
    "Different ones, of all asks."
    lacking: frozenset[str]
    "Keys without weights in the store."
    seconds: float | None
    "Of training them, all members added up; None if it is not known of all of them."
    device_seconds: float | None
    "The same for their shares of devices."
    basis: str

    @property
    def to_train(self) -> int:
        return len(self.lacking)

    def sentence(self) -> str:
        """The plan in one line."""
        text = f"{counted(self.asks, 'ensemble')}, {counted(self.members, 'different member')}: "
        if not self.to_train:
            return f"{text}all found in the store, none to train."
        text += f"{self.members - self.to_train} in the store, {self.to_train} to train"
        if self.device_seconds is None:
            return f"{text}, cost unknown: nothing like all of them in the store."
        return f"{text}, about {device_time(self.device_seconds)}, {self.basis}."


def counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def check_here(options: ReproduceOptions, found: Draft, store: Store) -> None:
    """All that a reproduction would refuse and that can be told before a cluster is asked; only reads.

    Raises UsageError and StoreError.
    """
    check_data(found.works)
    problems = [*_file_problems(options, found.works), *_rank_problems(found.works)]
    if problems:
        raise UsageError(problems)
    check_machine(work.ask.request for work in found.works)
    check_run(options, store, "reproduce", parse_options)


def _file_problems(options: ReproduceOptions, works: Sequence[Work]) -> list[str]:
    """Of the files of initial weights: each is tried with an ensemble that starts from it, if there is one."""
    problems: list[str] = []
    requests = {work.ask.request.ensemble.backbone: work.ask.request for work in works}
    for entry in options.weights:
        backbone, equals, file = entry.partition("=")
        try:
            if equals and backbone in requests:
                known_weights(requests[backbone])
            elif equals:
                from muster.workers.networks import backbones

                backbones.read_state(Path(file).expanduser())
        except UsageError as error:
            problems += error.problems
    return problems


def _rank_problems(works: Sequence[Work]) -> list[str]:
    """Whether every batch that ranks share divides by them."""
    batches = {
        batch: work.ask.request.resources.ranks
        for work in works
        if (batch := work.ask.request.settings.shared_batch) is not None
    }
    return [
        f"--ranks {ranks}: a batch of {batch} images doesn't divide by {ranks}: take one of "
        f"{', '.join(str(n) for n in range(1, batch + 1) if batch % n == 0)}."
        for batch, ranks in batches.items()
        if batch % ranks
    ]


def draft(options: ReproduceOptions) -> Draft:
    """The asks of all targets; reads data sets' lists at most."""
    found = Draft(each_target(options), [])
    for target, own in found.targets:
        try:
            found.works += [Work(ask) for ask in target.asks(own)]
        except MusterError as error:
            if not isinstance(target, Figure):
                raise
            found.troubles[target.name] = str(error)
    return found


def check_data(works: Sequence[Work]) -> None:
    """Raises UsageError if there are asks, and no data for any of them."""
    absent = [no_data(work.ask.request) for work in works]
    if works and all(absent):
        cure = "Give --data-root the folder that holds them; muster data list shows what is expected in it."
        raise UsageError([*(f"{text}." for text in dict.fromkeys(absent)), cure])


def no_data(request: LaunchRequest) -> str:
    """ "no data at ..." if there is no copy of the data set where it should be, else ""."""
    try:
        data = open_data(request.data)
        if isinstance(data, Published):
            data.home  # noqa: B018  (looks for it)
    except UsageError:
        return f"no data at {request.data.root}: no copy of {request.data.dataset} is there"
    return ""


def prepare_asks(works: Sequence[Work], store: Store, progress: PackProgress | None) -> None:
    """Finds or builds the packs of each ask. What is wrong with one's data becomes its `trouble`.

    With no `progress` nothing is built; an ask whose packs are missing is left without `prepared`.
    """
    done: dict[tuple[Any, ...], Prepared | None] = {}
    for work in works:
        request = work.ask.request
        seed = request.ensemble.seed if request.data.val_classes else 0  # it chooses nothing else here
        key = (request.data, request.recipe.resize, request.view, work.ask.splits, seed)
        try:
            if text := no_data(request):
                raise UsageError(text)
            if key not in done:
                done[key] = prepare(request, store, progress, work.ask.splits)
            work.prepared = done[key]
            if work.prepared is not None and (
                wrong := request.settings.class_problems(request, work.prepared.classes)
            ):
                raise UsageError(wrong)
        except MusterError as error:
            work.prepared, work.trouble = None, " ".join(str(error).splitlines())


def plan_asks(
    works: Sequence[Work], settle: Callable[[LaunchRequest], tuple[str, Precision]]
) -> dict[str, MemberTask]:
    """Makes the tasks of the asks that have images, and gives those of all, merged, by key.

    `settle` gives the digest of a request's initial weights and its precision; what it raises is `trouble`.
    """
    for work in works:
        if work.prepared is None:
            continue
        try:
            weights, precision = settle(work.ask.request)
            work.tasks = member_tasks(work.ask.request, work.prepared, weights, precision)
        except MusterError as error:
            work.trouble = " ".join(str(error).splitlines())
    return merged(works)


def merged(works: Sequence[Work]) -> dict[str, MemberTask]:
    """All asks' members by key, each with every vector that any ask wants of it."""
    found: dict[str, MemberTask] = {}
    for work in works:
        for task in work.tasks:
            before = found.get(task.key)
            if before is not None:
                targets = {target.digest: target for target in (*before.targets, *task.targets)}
                task = dataclasses.replace(before, targets=tuple(targets.values()))  # noqa: PLW2901
            found[task.key] = task
    return found


def cost_of(works: Sequence[Work], tasks: dict[str, MemberTask], store: Store) -> Cost:
    """What the store lacks, and what that costs by what was measured of its like."""
    to_train = {key for key, task in tasks.items() if missing(store, task)[0]}
    seconds: dict[str, float] = {}
    devices: dict[str, float] = {}
    bases: list[str] = []
    for work in works:
        mine = [key for key in work.keys if key in to_train and key not in seconds]
        if mine:
            each, basis = expected_seconds(store, work.tasks, to_train)
            if each is not None:
                seconds |= dict.fromkeys(mine, each)
                devices |= dict.fromkeys(mine, work.ask.request.resources.devices)
                bases.append(basis)
    known = len(seconds) == len(to_train)
    return Cost(
        sum(bool(work.tasks) for work in works),
        len(tasks),
        frozenset(to_train),
        sum(seconds.values()) if known else None,
        sum(seconds[key] * devices[key] for key in seconds) if known else None,
        "; ".join(dict.fromkeys(bases)),
    )
