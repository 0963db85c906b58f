"""A search as it was asked for: what all trials share, what they differ in, and how it is steered.

The shared part is a plain launch request whose L is the longest ensemble; an axis's values are put into it
to make a trial's own request, so that a trial's members are exactly those of a launch with these settings.
All mistakes are told at once.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from muster.orchestrator.jobs.search.space import MOST_TRIALS, Axis, Value, draws, grid, parse_axes
from muster.orchestrator.methods.command import said_settings
from muster.orchestrator.methods.flags import flags_of
from muster.orchestrator.methods.loading import USUAL, load, parse_request
from muster.orchestrator.methods.registry import FRONTENDS
from muster.orchestrator.settings import compat
from muster.orchestrator.settings.parse import parse_saved, short_digest
from muster.orchestrator.settings.request import STRICT, LaunchRequest, gives_validation, open_data
from muster.orchestrator.settings.resources import Resources
from muster.workers.errors import UsageError
from muster.workers.flags import flag
from muster.workers.forms import APART, form, keyed
from muster.workers.methods.registry import METHODS
from muster.workers.score.metrics import BY_RANK, RECALL

Algorithm = Literal["grid", "random", "optuna"]
Scheduler = Literal["halving", "asha", "none"]
SelectOn = Literal["val", "test"]
SAMPLES = 16
#: Small ensembles favour large D: no trial is cut before this many members.
FIRST_RUNG = 3


@keyed("space algorithm samples scheduler first_rung reduction plateau metric select_on")
@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What is varied and how the search decides."""

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    space: dict[str, str]
    "A spec for each searched key, as `space.py` reads it."
    algorithm: Algorithm = field(default="grid", metadata=flag())
    "grid, random or optuna."
    samples: int = field(default=SAMPLES, metadata=flag())
    "Trials drawn by random and optuna."
    scheduler: Scheduler = field(default="halving", metadata=flag())
    "halving, asha or none."
    first_rung: int = field(default=FIRST_RUNG, metadata=flag())
    "The L at which trials are compared first; the next rungs follow by factors of `reduction`, or of 2."
    reduction: int | None = field(default=None, metadata=flag())
    "At a rung, one trial in so many goes on; by default one in 2, or in more to train at most half of the grid."
    plateau: tuple[int, float] | None = field(default=None, metadata=flag())
    "k:epsilon, a trial ends when its last k members added less than epsilon to the metric, a share in 0..1."
    metric: str = field(default="recall_at_1", metadata=flag())
    "Metric that ranks the trials."
    select_on: SelectOn = field(default="val", metadata=flag())
    "val, or test as in the paper's Fig. 3."
    window: int = field(default=4, metadata={**APART, **flag()})
    "Members of a trial that are asked for at once."
    budget_members: int | None = field(default=None, metadata={**APART, **flag()})
    "Train at most so many members."
    budget_gpu_hours: float | None = field(default=None, metadata={**APART, **flag()})
    "Train for at most so many hours of a GPU."


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """All of a search: what is written to `run.json`."""

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    kind: Literal["search"] = "search"
    base: LaunchRequest
    "What all trials share. Its L is the longest ensemble; its D is replaced by each trial's."
    search: SearchSettings

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        problems: list[str] = []
        axes = parse_axes(self.search.space, self.base.method, problems)
        if problems:
            raise UsageError(problems)
        return axes

    @property
    def run(self) -> str:
        return self.base.name

    @property
    def storage(self) -> str:
        return self.base.storage

    @property
    def resources(self) -> Resources:
        return self.base.resources

    def identity(self) -> dict[str, Any]:
        """What makes two searches the same one: budgets and windows may change when it is resumed."""
        return {**self.base.identity(), "search": form(self.search)}

    def document(self) -> dict[str, Any]:
        """The request as plain values for JSON, as `run.json` keeps it."""
        search = dataclasses.asdict(self.search)
        return compat.stamped({"kind": self.kind, "base": self.base.document(), "search": search})

    def trials(self) -> list[dict[str, Value]]:
        """The settings of all trials, in order; empty for Optuna, which proposes them one by one."""
        search = self.search
        if search.algorithm == "grid":
            return grid(self.axes)
        if search.algorithm == "random":
            return draws(self.axes, search.samples, self.base.ensemble.seed)
        return []

    def launch_of(self, settings: Mapping[str, Value], L: int | None = None) -> LaunchRequest:
        """The launch that would train a trial's members, as if the base had been asked for with these settings.

        Raises UsageError for values that the method refuses.
        """
        if (found := self._launches.get(tuple(settings.items()))) is None:
            names = {axis.key: axis.setting for axis in self.axes}
            changes = {names[key]: value for key, value in settings.items()}
            found = load(None, {**self._shared, **changes, "method": self.base.method}, [])
            found = dataclasses.replace(found, name=self.base.name, storage=self.base.storage)
            self._launches[tuple(settings.items())] = found
        if L is None:
            return found
        return dataclasses.replace(found, ensemble=dataclasses.replace(found.ensemble, L=L))

    @cached_property
    def _shared(self) -> dict[str, Any]:
        return said_settings(self.base)

    @cached_property
    def _launches(self) -> dict[Any, LaunchRequest]:
        """Those of the trials so far: each is asked for again and again."""
        return {}


def metrics_of(base: LaunchRequest) -> list[str]:
    """The metrics a search can be steered by: those that every prefix has."""
    ks = open_data(base.data).traits.recall_at
    return [*(f"{RECALL}{k}" for k in ks), *(metric.name for metric in BY_RANK)]


def load_search(
    config: Path | None,
    flags: Mapping[str, Any],
    assignments: list[str],
    D: str | None,
    others: list[str],
    steering: Mapping[str, Any],
) -> SearchRequest:
    """The request from the launch's own flags, the axes (of D, and others as `key=spec`) and what steers the search
    (None: not given).

    Raises UsageError with all mistakes that can be told without reading the data.
    """
    method = str(flags.get("method", USUAL))
    several = METHODS[method].ensemble
    problems = _assigned_problems(assignments) if several else []
    axes = _specs(D, others, problems)
    parsed = parse_axes(axes, method, problems)
    given = {name: value for name, value in steering.items() if value is not None}
    if "plateau" in given:
        given["plateau"] = _plateau(given["plateau"], problems)
    wrong = _choice_problems(given)
    problems += wrong.values()
    if several and "D" not in axes:
        problems.append("--D is missing: give values, as 12,25,50, or a range, as 12..100:log.")
    elif not axes:
        problems.append(
            "Nothing to search: give --search key=values, as --search lr=0.01,0.03; may be repeated."
        )
    if not several:
        given["scheduler"] = "none"  # its trials have one iteration: there is nothing to cut
    base = None
    try:
        base = load(config, {**flags, **_needed(method, parsed)}, assignments)
    except UsageError as error:
        problems += error.problems
    fine = {name: value for name, value in given.items() if name not in wrong}
    settings = SearchSettings(space=dict(axes), **fine)
    problems += _problems(settings, base)
    if base is not None and len(parsed) == len(axes):
        problems += _trial_problems(SearchRequest(base=base, search=settings))
    if problems or base is None:
        raise UsageError(list(dict.fromkeys(problems)))
    return named(SearchRequest(base=base, search=settings))


def _needed(method: str, axes: Sequence[Axis]) -> dict[str, Value]:
    """What a base can't do without of what is searched, by dotted name: D, and settings that have no default."""
    needed = {flag.setting for flag in flags_of(FRONTENDS[method]) if flag.default is dataclasses.MISSING}
    return {axis.setting: axis.at(0.0) for axis in axes if axis.key == "D" or axis.setting in needed}


def parse_search(saved: Mapping[str, Any], where: str) -> SearchRequest:
    """A request from the JSON that a run's folder keeps; `where` names it. Raises UsageError."""
    given = compat.current(saved, where)
    if isinstance(given.get("base"), Mapping):
        given["base"] = parse_request(given["base"], where)
    found: SearchRequest = parse_saved(SearchRequest, given, where)
    return found


def named(request: SearchRequest) -> SearchRequest:
    """With a name made from the request if it has none, so that the same request finds its run again."""
    if request.base.name:
        return request
    name = f"search-{request.base.data.dataset}-{short_digest(request.identity())}"
    return dataclasses.replace(request, base=dataclasses.replace(request.base, name=name))


def _specs(D: str | None, others: list[str], problems: list[str]) -> dict[str, str]:
    """The spec of each searched key."""
    axes = {} if D is None else {"D": D}
    for text in others:
        key, equals, spec = text.partition("=")
        if not equals or not key:
            problems.append(f"--search {text}: write --search key=values, as --search lr=0.01,0.03.")
        elif key in axes:
            problems.append(f"--search {text}: {key} is searched already; give all of its values at once.")
        else:
            axes[key] = spec
    return axes


def _assigned_problems(assignments: list[str]) -> list[str]:
    """`--set` of what the trials differ in: it would be ignored, or take the place of the search's own flag."""
    own = {"D": "--D", "L": "--max-L"}
    keys = dict.fromkeys(text.partition("=")[0] for text in assignments)
    return [
        f"--set {key}: a search takes it from {own[name]}."
        for key in keys
        if (name := key.removeprefix("ensemble.")) in own
    ]


def _plateau(text: Any, problems: list[str]) -> tuple[int, float] | None:
    k, colon, epsilon = str(text).partition(":")
    try:
        found = (int(k), float(epsilon))
    except ValueError:
        colon = ""
    if not colon or found[0] < 1 or not 0 < found[1] < 1:
        problems.append(
            f"--plateau {text}: write k:epsilon, such as 3:0.002 (the last 3 members added less than 0.2 points)."
        )
        return None
    return found


def _choice_problems(given: Mapping[str, Any]) -> dict[str, str]:
    """A sentence for each setting that can't be."""
    choices: dict[str, tuple[str, ...]] = {
        "algorithm": get_args(Algorithm),
        "scheduler": get_args(Scheduler),
        "select_on": get_args(SelectOn),
    }
    least = {"samples": 1, "first_rung": 1, "reduction": 2, "window": 1}
    found = {
        name: f"--{name.replace('_', '-')} {given[name]}: there are {', '.join(known)}."
        for name, known in choices.items()
        if name in given and given[name] not in known
    }
    found |= {
        name: f"--{name.replace('_', '-')} {given[name]}: must be at least {number}."
        for name, number in least.items()
        if name in given and given[name] < number
    }
    found |= {
        name: f"--{name.replace('_', '-')} {given[name]}: a budget must be above 0 (or nothing could be trained), and "
        "finite."
        for name in ("budget_members", "budget_gpu_hours")
        if name in given and not 0 < given[name] < math.inf
    }
    if given.get("samples", 0) > MOST_TRIALS:
        found["samples"] = f"--samples {given['samples']}: {MOST_TRIALS} is the most."
    return found


def _problems(search: SearchSettings, base: LaunchRequest | None) -> list[str]:
    found = []
    if base is None:
        known = [f"{RECALL}K", *(metric.name for metric in BY_RANK)]
        if re.sub(r"\d+$", "K", search.metric) not in known:
            found.append(f"--metric {search.metric}: there are {', '.join(known)}.")
    else:
        if base.data.vehicleid_protocol != "self":
            found.append(
                "data.vehicleid_protocol: a search compares trials by self-query. Score what it recommends: muster "
                "evaluate RUN --vehicleid-protocol reid."
            )
        known = metrics_of(base)
        if search.metric not in known:
            found.append(f"--metric {search.metric}: there are {', '.join(known)}.")
        if search.select_on == "val" and not base.data.val_classes and not gives_validation(base.data):
            found.append(
                "A search chooses on validation classes: give --val-classes N. (--select-on test chooses on the "
                "test classes, as the paper's Fig. 3 does.)"
            )
        if search.select_on == "test" and base.data.val_classes:
            found.append(
                "--select-on test trains on all training classes, as a launch does: leave --val-classes out."
            )
    return found + _algorithm_problems(search)


def _algorithm_problems(search: SearchSettings) -> list[str]:
    if search.algorithm != "optuna":
        return []
    found = []
    if importlib.util.find_spec("optuna") is None:
        found.append(
            "--algorithm optuna: Optuna is not installed: pip install '.[optuna]' in muster's checkout."
        )
    if search.scheduler == "halving":
        found.append(
            "--algorithm optuna proposes trials from finished ones, and halving lets all trials reach a rung first: "
            "give --scheduler asha or none."
        )
    return found


def _trial_problems(request: SearchRequest) -> list[str]:
    """Values that no trial could train with. Where trials are proposed as the search goes, any values may meet: all of
    them are tried together, as far as they are not too many, and of ranges the ends."""
    if request.search.algorithm == "grid":
        count = math.prod(len(axis.grid()) for axis in request.axes)
        if count > MOST_TRIALS:
            return [f"The grid has {count} trials, and {MOST_TRIALS} is the most: --algorithm random."]
    found: list[str] = []
    for settings in request.trials() or _ends(request.axes):
        try:
            request.launch_of(settings)
        except UsageError as error:
            found += error.problems
    return list(dict.fromkeys(found))


def _ends(axes: Sequence[Axis]) -> list[dict[str, Value]]:
    """Each value beside the first ones of all others, and then every combination, up to the most trials."""
    ends = {axis.key: axis.values or (axis.at(0.0), axis.at(1.0)) for axis in axes}
    first = {key: values[0] for key, values in ends.items()}
    each = [{**first, key: value} for key, values in ends.items() for value in values]
    every = (dict(zip(ends, values, strict=True)) for values in itertools.product(*ends.values()))
    return [*each, *itertools.islice(every, MOST_TRIALS)]
