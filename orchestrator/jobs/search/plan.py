"""What a search may need, what the store has of it, and what that would cost: before anything is started.

Nothing here trains, and no cluster is asked: `--dry-run` and the job's own plan are the same sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from muster.orchestrator.ensemble.cost import Cost, Group, cost_of
from muster.orchestrator.ensemble.plan import (
    PlannedEnsemble,
    cost_group,
    counted_members,
    member_tasks,
    planned_warnings,
    prepare_ensembles,
)
from muster.orchestrator.ensemble.requests import EnsembleRequest, Prepared
from muster.orchestrator.ensemble.terms import known_terms, place_here
from muster.orchestrator.jobs.search.halving import Schedule, make_schedule, rung_for_half
from muster.orchestrator.jobs.search.request import SearchRequest
from muster.orchestrator.jobs.search.space import Axis, grid
from muster.orchestrator.records.measured import Place
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.score.combine import Combination
from muster.workers.spec import Precision, TestView
from muster.workers.store.layout import Store
from muster.workers.task import MemberTask, missing

#: Settings that the number of training classes bounds.
BY_CLASSES = ("D", "labels")


#: The rule by which training images are packed, and the test view.
Pictures = tuple[str, TestView]


@dataclass(frozen=True)
class SearchPlan:
    """What a trial's settings become: its members' tasks. The same in the driver and in the actor."""

    request: SearchRequest
    prepared: dict[Pictures, Prepared]
    "By how the images are packed and seen, which may be searched too."
    weights: Mapping[str, str]
    "The digests of initial weights, by backbone: backbones may be searched too."
    precision: Precision
    ks: tuple[int, ...]

    def tasks(self, settings: Mapping[str, Any]) -> tuple[MemberTask, ...]:
        """The members of a trial up to max L, in index order."""
        launch = self.request.launch_of(settings)
        return self.members(launch, self.prepared[pictures(launch)])

    def members(self, launch: LaunchRequest, prepared: Prepared) -> tuple[MemberTask, ...]:
        """The members of a launch with a trial's settings, in index order."""
        return member_tasks(launch, prepared, self.weights[launch.ensemble.backbone], self.precision)

    def group(self, settings: Mapping[str, Any]) -> Group:
        """Its members up to max L, for what they cost."""
        launch = self.request.launch_of(settings)
        return cost_group(launch, self.prepared[pictures(launch)], self.tasks(settings))

    def ensemble(self, number: int, settings: Mapping[str, Any], L: int) -> PlannedEnsemble:
        """The first L members of a trial, to be scored at every size without NMI: no trial is steered by it."""
        launch = self.request.launch_of(settings, L)
        launch = replace(launch, resources=replace(launch.resources, nmi=False))
        request = EnsembleRequest(launch=launch, name=f"trial {number}")
        return PlannedEnsemble(request, self.prepared[pictures(launch)], self.tasks(settings)[:L])

    def combination(self, settings: Mapping[str, Any]) -> Combination | None:
        """How the learners of a trial's model are combined, where it has some."""
        return self.request.launch_of(settings).settings.combination

    def reach(self, L: int, rungs: Sequence[int]) -> int:
        """The last member that may be asked for when the L-th is due: never one beyond an undecided rung."""
        last = min(L + self.request.search.window - 1, self.request.base.ensemble.L)
        return min([last, *(rung for rung in rungs if rung >= L)])


@dataclass(frozen=True)
class SearchCost:
    """What the search may take, and on what basis."""

    trials: int
    grid: Cost
    "Of the different members of all trials at max L: the most that may be trained."
    by_schedule: int
    "What the scheduler trains if no trial ends early."
    hint: str = ""
    "What to do about a schedule that trains more than half of the grid."
    one: bool = False
    "A trial trains one model, and no ensemble."

    @property
    def expected(self) -> Cost:
        """Of what the schedule trains."""
        return self.grid.of(min(self.by_schedule, self.grid.to_train))

    def counts(self) -> str:
        """What it may train."""
        members = counted_members(self.grid.members, one=self.one)
        text = f"{self.trials} trial{'s' * (self.trials != 1)}: at most {members}"
        if self.by_schedule < self.grid.members:
            text += f", {self.by_schedule} by the schedule"
        if self.hint:
            text += f" ({self.hint})"
        return text

    def sentence(self) -> str:
        """The plan in one line."""
        text = f"{self.counts()}; {self.grid.in_store} in the store"
        if not self.grid.to_train:
            return f"{text}, none to train."
        return f"{text}; {self.expected.text('it')}."


def pictures(launch: LaunchRequest) -> Pictures:
    """What decides how a trial's images are packed and seen."""
    return launch.recipe.resize, launch.view


def largest(request: SearchRequest) -> LaunchRequest:
    """The launch that asks most of the training classes: where it fits, all trials do."""
    return request.launch_of({axis.key: axis.largest for axis in request.axes if axis.key in BY_CLASSES})


def by_backbone(request: SearchRequest) -> dict[str, LaunchRequest]:
    """Of each backbone that trials may have, the launch that asks most of the training classes."""
    most = {axis.key: axis.largest for axis in request.axes if axis.key in BY_CLASSES}
    launches = [request.launch_of({**most, **named}) for named in grid(_named(request))]
    return {launch.ensemble.backbone: launch for launch in launches}


def ensembles_of(request: SearchRequest) -> list[EnsembleRequest]:
    """An ensemble for each way in which the trials' images are packed and seen: see `SearchPlan.prepared`. It follows
    from what is chosen by name, as the resize rule or the backbone, and from no number."""
    launches = [request.launch_of(settings) for settings in grid(_named(request))]
    return [EnsembleRequest(launch=launch) for launch in {pictures(one): one for one in launches}.values()]


def _named(request: SearchRequest) -> tuple[Axis, ...]:
    """The axes whose values are names."""
    return tuple(axis for axis in request.axes if axis.kind is str)


def prepared_by_pictures(ensembles: Iterable[PlannedEnsemble]) -> dict[Pictures, Prepared] | None:
    """The packed images of `ensembles_of` a search; None if some are missing."""
    found = {pictures(one.request.launch): one.prepared for one in ensembles}
    packed = {rule: prepared for rule, prepared in found.items() if prepared is not None}
    return packed if len(packed) == len(found) else None


def schedule_of(request: SearchRequest) -> Schedule:
    """At which L this search compares its trials; at none unless it halves."""
    search, max_L = request.search, request.base.ensemble.L
    trials = len(request.trials()) or search.samples
    if search.scheduler != "halving":
        return Schedule(trials, max_L)
    return make_schedule(trials, search.first_rung, max_L, search.reduction)


def search_cost(plan: SearchPlan, store: Store, place: Callable[[], Place] | None = None) -> SearchCost:
    """What the store has of all trials' members, and what the rest would cost; `place` is as in `make_plan`."""
    request = plan.request
    trials = request.trials()
    if not trials:  # Optuna proposes them as it goes
        return _unseen(request)
    groups = [plan.group(settings) for settings in trials]
    tasks: dict[str, MemberTask] = {task.key: task for group in groups for task in group.tasks}
    to_train = {key for key, task in tasks.items() if missing(store, task)[0]}
    most = cost_of(groups, to_train, store, place() if place and to_train else None)
    schedule = schedule_of(request)
    hint = _hint(schedule, request.search.reduction)
    return SearchCost(len(trials), most, min(schedule.members, most.members), hint, request.base.one_model)


def _unseen(request: SearchRequest) -> SearchCost:
    """What may be trained where nothing is known of the members themselves."""
    schedule = schedule_of(request)
    most = schedule.trials * schedule.last
    cost = Cost(most, most, None, None, "its trials are not known yet")
    hint = _hint(schedule, request.search.reduction)
    return SearchCost(schedule.trials, cost, schedule.members, hint, request.base.one_model)


def _hint(schedule: Schedule, reduction: int | None) -> str:
    """Which first rung would train at most half of the grid, where this schedule trains more; else ""."""
    if not schedule.rungs or schedule.thrifty:
        return ""
    better = rung_for_half(schedule.trials, schedule.last, reduction)
    share = f"{schedule.members / (schedule.trials * schedule.last):.0%} of the grid"
    if better is None:
        return f"{share}; no rung saves half of it"
    return f"{share}; --first-rung {better.rungs[0]} would train {better.members}"


def preview(request: SearchRequest, store: Store, checked: Mapping[str, str | None]) -> dict[str, Any]:
    """`--dry-run`: `sentence` and a row for each trial; starts and writes nothing. `checked` has the digests of initial
    weights by backbone, None where one is not known."""
    weights = {backbone: digest for backbone, digest in checked.items() if digest is not None}
    ensembles = prepare_ensembles(ensembles_of(request), store, None, all_needed=True)
    prepared = prepared_by_pictures(ensembles)
    trials = request.trials()
    rows: list[dict[str, Any]] = [{"trial": n, **settings} for n, settings in enumerate(trials, 1)]
    max_L = request.base.ensemble.L
    found: dict[str, Any] = {
        "run": request.run,
        "rows": rows,
        "rungs": list(schedule_of(request).rungs),
        "max_L": max_L,
    }
    if texts := planned_warnings(ensembles):
        found["warnings"] = texts
    if prepared is None or len(weights) < len(checked):
        cost = _unseen(request)
        what = "the images are packed" if prepared is None else "ImageNet's weights are fetched"
        text = f"{cost.counts()}; cost unknown until {what}."
        return {**found, "sentence": text, "at_most": cost.grid.members, "by_schedule": cost.by_schedule}
    run, launches = store.run(request.run), by_backbone(request)
    weights = {name: known_terms(launches[name], run, digest)[0] for name, digest in weights.items()}
    plan = SearchPlan(request, prepared, weights, known_terms(request.base, run)[1], ())
    cost = search_cost(plan, store, lambda: place_here(request.base, run))
    for row, settings in zip(rows, trials, strict=True):
        row["in_store"] = sum(not missing(store, task)[0] for task in plan.tasks(settings))
    return {
        **found,
        "sentence": cost.sentence(),
        "at_most": cost.grid.members,
        "by_schedule": cost.by_schedule,
        "in_store": cost.grid.in_store,
        **cost.expected.numbers,
    }
