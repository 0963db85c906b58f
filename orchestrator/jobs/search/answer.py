"""What a search found: the table of trials, the curves, a Pareto front, a recommendation and what it cost.

Everything is computed from the record and the store; nothing is trained or scored here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from muster.orchestrator.ensemble.cost import cost_of
from muster.orchestrator.ensemble.floors import below_floors, made_floors
from muster.orchestrator.ensemble.plan import cost_group, counted_members, prepare
from muster.orchestrator.fleet.budget import Budget
from muster.orchestrator.jobs.search import plots as search_plots
from muster.orchestrator.jobs.search.plan import SearchCost, SearchPlan
from muster.orchestrator.jobs.search.record import Record, Row, TrialRecord
from muster.orchestrator.jobs.search.request import SearchRequest
from muster.orchestrator.methods.command import launch_command
from muster.orchestrator.records.measured import Place
from muster.orchestrator.records.scores import near_tie_text, percent
from muster.orchestrator.settings.request import LaunchRequest
from muster.orchestrator.settings.resources import Resources
from muster.orchestrator.vectors.evaluate import protocol_of
from muster.workers.score.metrics import is_share
from muster.workers.store.layout import Store
from muster.workers.store.parquet import table_bytes
from muster.workers.store.records import to_json
from muster.workers.store.runs import RunFolder
from muster.workers.task import missing

if TYPE_CHECKING:
    from muster.orchestrator.fleet.client import FleetClient

#: A smaller ensemble is recommended if it is at most so far below the best one, as a share.
TOLERANCE = 0.005
ENDED_IN_PART = ("budget", "stopped", "failed", "running")


class Choice(NamedTuple):
    """What is chosen of all that was scored."""

    curve: list[Row]
    "A row for each split, trial and L."
    points: list[Row]
    "Those of the split that is chosen on."
    best: Row
    recommended: Row
    "The smallest that is nearly as good."


def choose(plan: SearchPlan, record: Record, tests: Mapping[int, Sequence[Row]]) -> Choice:
    """The best that was found, and what is recommended."""
    curve, metric = _curve(plan, record, tests), plan.request.search.metric
    points = [row for row in curve if row["split"] == plan.request.search.select_on]
    best = min(points, key=lambda row: (-row[metric], row["L"], row["trial"]))
    chosen = min(
        (row for row in points if row[metric] >= best[metric] - TOLERANCE),
        key=lambda row: (row["L"], row["dimensions"], -row[metric], row["trial"]),
    )
    return Choice(curve, points, best, chosen)


def floors_beside(
    plan: SearchPlan, record: Record, choice: Choice, client: FleetClient
) -> tuple[list[Row], list[str]]:
    """What is found without any training where the recommended trial's images and network are: a row for each floor;
    and what must be said of them. Raises MusterError."""
    settings, split = record.trials[choice.recommended["trial"]].settings, plan.request.search.select_on
    launch = plan.request.launch_of(settings)
    found, warnings = made_floors(launch, plan.tasks(settings), client)
    rows: dict[str, Row] = {}
    for name in dict.fromkeys((split, "test")):
        for floor in found.get(name, ()):
            scores = floor["curve"][-1].items()
            rows.setdefault(floor["name"], {"floor": floor["name"]}).update(
                {f"{name}_{key}": value for key, value in scores if is_share(key)}
            )
    beside = {"curve": [choice.recommended], "floors": found.get(split, ())}
    return list(rows.values()), [*warnings, *below_floors(beside, launch)]


def build_answer(
    plan: SearchPlan,
    store: Store,
    record: Record,
    tests: Mapping[int, Sequence[Row]],
    choice: Choice,
    cost: SearchCost,
    trained: Mapping[str, float],
    budget: Budget,
    place: Place,
) -> dict[str, Any]:
    """What `search --json` prints, but for floors, paths and seconds. `place` is where members are trained."""
    request = plan.request
    curve, points, best, chosen = choice
    metric = request.search.metric
    partial = [trial.number for trial in record.trials.values() if trial.ended in ENDED_IN_PART]
    whole = len(record.trials) - len(partial)
    return {
        "run": request.run,
        "kind": "search",
        "state": "done" if not partial else f"partial {whole} of {len(record.trials)}",
        "chosen_on": _chosen_on(request),
        "trials": [_trial_row(plan, request, trial, tests, trained) for trial in record.in_order()],
        "verdicts": [dataclasses.asdict(verdict) for verdict in record.verdicts],
        "best": _point(best, tests, metric),
        "recommended": _recommended(plan, store, record, best, chosen, tests, place),
        "pareto": [_point(row, tests, metric) for row in pareto(points, metric)],
        "cost": _cost(plan, record, cost, trained, budget),
        "curve": curve,
        **({"warnings": ties} if (ties := tie_warnings(points, _queries(plan, store, record))) else {}),
    }


def _queries(plan: SearchPlan, store: Store, record: Record) -> int:
    """How many queries the trials were chosen by: those of the same images, however a trial sees them."""
    task, *_ = plan.tasks(record.in_order()[0].settings)
    (target,) = (one for one in task.targets if one.split == plan.request.search.select_on)
    protocol = protocol_of(store, target)
    return len(protocol.query) - protocol.lone_queries


def tie_warnings(points: Sequence[Row], queries: int) -> list[str]:
    """One line for the trials whose scores with all their members rounding could move; none if it would not be seen."""
    ends = {row["trial"]: row for row in sorted(points, key=lambda row: row["L"])}
    told = [number for number, row in sorted(ends.items()) if near_tie_text([row], queries)]
    if not told:
        return []
    worst = max((ends[number] for number in told), key=lambda row: row["near_ties"])
    named = f"trial{'s' * (len(told) > 1)} {', '.join(map(str, told))}{': of the worst' * (len(told) > 1)}"
    return [f"{named}: {near_tie_text([worst], queries)}"]


def pareto(points: Sequence[Row], metric: str) -> list[Row]:
    """The points that no other beats: in quality, networks per query (L) and dimensions (D x L); by L."""

    def beaten(a: Row) -> bool:
        mine = (a[metric], -a["L"], -a["dimensions"])
        theirs = ((b[metric], -b["L"], -b["dimensions"]) for b in points)
        return any(
            other != mine and all(x >= y for x, y in zip(other, mine, strict=True)) for other in theirs
        )

    return sorted((row for row in points if not beaten(row)), key=lambda row: (row["L"], row["dimensions"]))


def write_answer(run: RunFolder, answer: dict[str, Any], request: SearchRequest) -> dict[str, str]:
    """Writes search.json, curves.parquet, the plots and answer.json; the paths, by what they are."""
    split, metric = answer["chosen_on"]["split"], answer["chosen_on"]["metric"]
    rows = [row for row in answer["curve"] if row["split"] == split]
    title = f"{answer['run']}: {metric.replace('_at_', '@')} on {answer['chosen_on']['text']}"
    files = {"search.json": to_json(answer), "curves.parquet": table_bytes(answer["curve"])}
    for kind in ("png", "svg"):
        if request.base.ensemble.L > 1:
            files[f"plots/by_L.{kind}"] = search_plots.by_members(rows, metric, title, kind)
        axis = request.axes[0]
        files[f"plots/by_{axis.key}.{kind}"] = search_plots.by_axis(rows, axis, metric, title, kind)
    paths = {name.rpartition("/")[2].replace(".", "_"): run.files.path(run / name) for name in sorted(files)}
    for name, data in files.items():
        run.files.put(run / name, data)
    run.write("answer.json", {**answer, "paths": run.kept(paths)})
    return paths


def _chosen_on(request: SearchRequest) -> dict[str, Any]:
    search, held = request.search, request.base.data.val_classes
    if search.select_on == "test":
        text = "the TEST classes (--select-on test: as in the paper's Fig. 3, and no fair estimate)"
    else:
        text = f"{held} validation classes held out of training" if held else "the given validation split"
    return {"split": search.select_on, "metric": search.metric, "classes": held or None, "text": text}


def _curve(plan: SearchPlan, record: Record, tests: Mapping[int, Sequence[Row]]) -> list[Row]:
    """A row for each split, trial and L."""
    found = []
    for trial in record.in_order():
        width = plan.request.launch_of(trial.settings).ensemble.D
        sides = {plan.request.search.select_on: [trial.rows[L] for L in sorted(trial.rows)]}
        sides.setdefault("test", list(tests.get(trial.number, [])))
        for split, rows in sides.items():
            shared = {"split": split, "trial": trial.number, **trial.settings}
            found += [{**shared, "dimensions": width * row["L"], **row} for row in rows]
    return found


def _trial_row(
    plan: SearchPlan,
    request: SearchRequest,
    trial: TrialRecord,
    tests: Mapping[int, Sequence[Row]],
    trained: Mapping[str, float],
) -> Row:
    metric, split = request.search.metric, request.search.select_on
    best = max(trial.rows.values(), key=lambda row: (row[metric], -row["L"]), default=None)
    keys = [task.key for task in plan.tasks(trial.settings)[: trial.reached]]
    row: Row = {"trial": trial.number, **trial.settings, "L": trial.reached, "ended": trial.ended}
    row[f"{split}_{metric}"] = trial.rows[trial.reached][metric] if trial.rows else None
    row["best_L"] = best["L"] if best else None
    row[f"best_{split}_{metric}"] = best[metric] if best else None
    if split != "test":
        row[f"test_{metric}"] = tests[trial.number][-1][metric] if trial.number in tests else None
    mine = sum(key in trained for key in keys)
    return {**row, "trained": mine, "reused": len(keys) - mine, "message": trial.message}


def _point(row: Row, tests: Mapping[int, Sequence[Row]], metric: str) -> Row:
    own = ("split", "near_ties")
    shown = {key: value for key, value in row.items() if key not in own and not is_share(key)}
    test = tests[row["trial"]][row["L"] - 1][metric] if row["trial"] in tests else None
    return {**shown, metric: row[metric], f"test_{metric}": test}


def _recommended(
    plan: SearchPlan,
    store: Store,
    record: Record,
    best: Row,
    chosen: Row,
    tests: Mapping[int, Sequence[Row]],
    place: Place,
) -> dict[str, Any]:
    request, metric = plan.request, plan.request.search.metric
    trial = record.trials[chosen["trial"]]
    launch = request.launch_of(trial.settings, L=chosen["L"])
    # What it learns from was trained on these classes, and so must it be.
    held = launch.data.val_classes if launch.settings.input_runs else 0
    launch = dataclasses.replace(
        launch, data=dataclasses.replace(launch.data, val_classes=held), resources=Resources(), name=""
    )
    sentence = f"{_named(record, chosen)}: {metric} {percent(chosen[metric])}, "
    if chosen["L"] == best["L"] and chosen["trial"] == best["trial"]:
        sentence += "the best that was found."
    else:
        below = 100 * (best[metric] - chosen[metric])
        sentence += f"{below:.1f} points below the best ({_named(record, best)}) "
        if not request.base.one_model:
            sentence += f"at {chosen['L'] / best['L']:.0%} of its networks per query."
        else:
            sentence += f"with {chosen['dimensions']} dimensions instead of {best['dimensions']}."
    return {
        **_point(chosen, tests, metric),
        "sentence": f"{sentence} Chosen on {_chosen_on(request)['text']}.",
        "command": launch_command(launch),
        "training": _training_cost(plan, store, launch, place),
    }


def _named(record: Record, point: Row) -> str:
    """A point of the curve by its settings: "D=12, L=3, lr=0.01"."""
    settings = dict(record.trials[point["trial"]].settings)
    shape = {"D": settings.pop("D"), "L": point["L"]} if "D" in settings else {}
    return ", ".join(f"{key}={value}" for key, value in {**shape, **settings}.items())


def _training_cost(plan: SearchPlan, store: Store, launch: LaunchRequest, place: Place) -> dict[str, Any]:
    """What the recommended ensemble costs when it is trained on all training classes: what its command would say."""
    prepared = prepare(launch, store, None)
    assert prepared is not None  # the search has packed these very images
    tasks = plan.members(launch, prepared)
    to_train = {task.key for task in tasks if missing(store, task)[0]}
    cost = cost_of([cost_group(launch, prepared, tasks)], to_train, store, place)
    there = f"{cost.in_store} of its {len(tasks)} members are in the store"
    if launch.one_model:
        there = f"The model is {'not ' * cost.to_train}in the store"
    takes = f"; training {cost.to_train} on {prepared.facts['train_classes']} classes takes {cost.text('it')}"
    text = f"{there}{takes * bool(to_train)}."
    return {"members": len(tasks), "to_train": cost.to_train, **cost.numbers, "text": text}


def _cost(
    plan: SearchPlan, record: Record, cost: SearchCost, trained: Mapping[str, float], budget: Budget
) -> dict[str, Any]:
    """Members trained and reused, and what a plain grid over (D, L) would have trained."""
    keys = {
        trial.number: [task.key for task in plan.tasks(trial.settings)] for trial in record.trials.values()
    }
    grid = {key for found in keys.values() for key in found}
    union = {key for n, found in keys.items() for key in found[: record.trials[n].reached]}
    used = union | set(trained)
    ratio = len(used) / max(1, len(grid))
    overshoot = budget.overshoot(dict(trained))
    one = plan.request.base.one_model
    sentence = (
        f"{counted_members(len(trained), one=one)} trained, {len(union - set(trained))} reused; a grid over "
        f"{'all settings' if one else 'D and L'} has {len(grid)}: {ratio:.0%} of it."
    )
    if overshoot:
        sentence += f" The budget was overshot by {overshoot}."
    return {
        "trained": len(trained),
        "reused": len(union - set(trained)),
        "beyond_prefixes": len(set(trained) - union),
        "grid": len(grid),
        "share_of_grid": ratio,
        "planned_at_most": cost.grid.members,
        "planned_by_schedule": cost.by_schedule,
        "device_seconds": round(sum(trained.values()) * budget.share, 1),
        "overshoot": overshoot,
        "sentence": sentence,
    }
