"""What a reproduction asks for, and what it would refuse. Nothing is trained here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from muster.orchestrator.ensemble.plan import Plan, no_data
from muster.orchestrator.ensemble.requests import EnsembleRequest
from muster.orchestrator.ensemble.terms import known_weights
from muster.orchestrator.fleet.places.capacity import check_machine
from muster.orchestrator.jobs.reproduce.figures.sheet import counted
from muster.orchestrator.jobs.reproduce.request import ReproduceOptions
from muster.orchestrator.jobs.reproduce.tables.papers import Table
from muster.orchestrator.jobs.reproduce.targets import Figure, Target, each_target
from muster.workers.errors import MusterError, UsageError

NOTHING = (
    "nothing of what was asked for: there the paper's own cells are all there is. Give other --rows or --datasets, or "
    "leave them out (docs/reproduce.md)."
)


@dataclass
class Draft:
    """The ensembles of all targets, before anything was planned."""

    targets: list[tuple[Target, ReproduceOptions]]
    requests: list[EnsembleRequest]
    troubles: dict[str, str] = field(default_factory=dict)
    "Targets that can't ask for anything, and why."


def plan_text(plan: Plan) -> str:
    """The plan in one line."""
    ensembles = sum(bool(one.tasks) for one in plan.ensembles)
    what = f"{counted(ensembles, 'ensemble')}, {counted(plan.cost.members, 'different member')}"
    return plan.cost.sentence(what, "all of them")


def checked_draft(options: ReproduceOptions) -> Draft:
    """The ensembles of all targets. Raises UsageError for all that a reproduction would refuse and that can be told
    before a cluster is asked; only reads."""
    found = draft(options)
    check_data(found.requests)
    problems = [*_file_problems(options, found.requests), *_rank_problems(found.requests)]
    if problems:
        raise UsageError(problems)
    check_machine(one.launch for one in found.requests)
    return found


def _file_problems(options: ReproduceOptions, wanted: Sequence[EnsembleRequest]) -> list[str]:
    """Of the files of initial weights: each is tried with an ensemble that starts from it, if there is one."""
    problems: list[str] = []
    launches = {one.launch.ensemble.backbone: one.launch for one in wanted}
    for entry in options.weights:
        backbone, equals, file = entry.partition("=")
        try:
            if equals and backbone in launches:
                known_weights(launches[backbone])
            elif equals:
                from muster.workers.networks import backbones

                backbones.read_state(Path(file).expanduser())
        except UsageError as error:
            problems += error.problems
    return problems


def _rank_problems(wanted: Sequence[EnsembleRequest]) -> list[str]:
    """Whether every batch that ranks share divides by them."""
    batches = {one.launch.settings.drawn_at_once: one.launch.resources.ranks for one in wanted}
    return [
        f"--ranks {ranks}: a batch of {batch} images doesn't divide by {ranks}: take one of "
        f"{', '.join(str(n) for n in range(1, batch + 1) if batch % n == 0)}."
        for batch, ranks in batches.items()
        if batch % ranks
    ]


def draft(options: ReproduceOptions) -> Draft:
    """The ensembles of all targets; reads data sets' lists at most. Raises UsageError if there is none to ask for."""
    found = Draft(each_target(options), [])
    for target, own in found.targets:
        try:
            found.requests += target.requests(own)
        except MusterError as error:
            if not isinstance(target, Figure):
                raise
            found.troubles[target.name] = str(error)
    if not found.requests and not found.troubles:
        raise UsageError(_refusals(found) or f"{options.target} trains {NOTHING}")
    return found


def _refusals(found: Draft) -> list[str]:
    """Why rows can't be trained, each cause once."""
    wants = [want for target, own in found.targets if isinstance(target, Table) for want in target.wants(own)]
    return list(dict.fromkeys(want.refusal for want in wants if want.refusal))


def check_data(wanted: Sequence[EnsembleRequest]) -> None:
    """Raises UsageError if there are ensembles, and no data for any of them."""
    absent = [no_data(one.launch) for one in wanted]
    if wanted and all(absent):
        cure = "Give --data-root the folder that holds them; muster data list shows what is expected in it."
        raise UsageError([*(f"{text}." for text in dict.fromkeys(absent)), cure])
