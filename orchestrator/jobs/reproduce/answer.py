"""What a reproduction found: its tables and figures, what they cost, and the files that hold them.

Nothing is trained, scored or drawn here.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from muster.orchestrator.ensemble.plan import make_plan, prepare_ensembles, settle_members
from muster.orchestrator.ensemble.requests import EnsembleRequest, EnsembleResult
from muster.orchestrator.fleet.budget import taken
from muster.orchestrator.jobs.base import counts_text, model_counts
from muster.orchestrator.jobs.reproduce.figures.sheet import captions
from muster.orchestrator.jobs.reproduce.plan import Draft
from muster.orchestrator.jobs.reproduce.request import ReproduceOptions
from muster.orchestrator.jobs.reproduce.tables import files as table_files
from muster.orchestrator.jobs.reproduce.tables.papers import Table
from muster.orchestrator.jobs.reproduce.tables.rows import FloorScores, table_answer
from muster.workers.errors import UsageError
from muster.workers.spec import Precision
from muster.workers.store.layout import Store
from muster.workers.store.runs import RunFolder

if TYPE_CHECKING:
    from muster.orchestrator.fleet.client import FleetClient


def answer_of(
    options: ReproduceOptions,
    found: Draft,
    got: Mapping[str, EnsembleResult],
    floors: FloorScores,
    drawn: Mapping[str, list[str]],
    client: FleetClient,
) -> dict[str, Any]:
    """What `reproduce --json` prints, but for paths and seconds."""
    store = client.store
    targets: list[dict[str, Any]] = []
    for target, own in found.targets:
        if isinstance(target, Table):
            targets.append(table_answer(own, target, got, floors, store))
            continue
        trouble = found.troubles.get(target.name, "")
        partial = [one for name, one in got.items() if name.startswith(f"{target.name}: ") and _lacks(one)]
        state = (
            "failed" if trouble else f"partial: {len(partial)} ensembles lack members" if partial else "done"
        )
        names = drawn.get(target.name, [])
        sheets = captions(store, names[0].rpartition("/")[0]) if names else []
        targets.append(
            {
                "target": target.name,
                "kind": "figure",
                "title": target.title,
                "state": state,
                "files": [store.files.path(name) for name in names],
                "names": names,
                "sheets": sheets,
                "trouble": trouble,
            }
        )
    asked = {task.key for one in got.values() for task in one.tasks}
    outcomes = {key: outcome for key, outcome in client.outcomes.items() if key in asked}
    done = {key for key, outcome in outcomes.items() if outcome.in_store}
    prepared = [one.prepared for one in got.values() if one.prepared is not None]
    members = {task.key: task for one in got.values() for task in one.members}
    return {
        "run": options.run,
        "kind": "reproduce",
        "target": options.target,
        "state": _state(targets),
        "rehearsal": options.rehearsal,
        "scale": options.scale,
        "unit": "per cent",
        "warnings": list(dict.fromkeys(text for one in prepared for text in one.warnings)),
        "targets": targets,
        "floors": options.resources.floors,
        "models": model_counts(outcomes, done, client.trained),
        "device_hours": taken(store, members.values(), options.resources) / 3600,
        "resume": shlex.join(["muster", "resume", options.run, "--storage", options.storage]),
    }


def _state(targets: Sequence[Mapping[str, Any]]) -> str:
    whole = sum(target["state"] == "done" for target in targets)
    if whole == len(targets):
        return "done"
    if len(targets) == 1 and targets[0]["state"].startswith("partial"):
        return str(targets[0]["state"])
    return f"partial {whole} of {len(targets)} tables and figures"


def _lacks(got: EnsembleResult) -> bool:
    return len(got.members) < len(got.tasks) or not got.tasks


def _incomplete(answer: Mapping[str, Any]) -> str:
    """How much of an answer lacks something, for people; "" if it is whole."""
    tables = [target for target in answer["targets"] if target["kind"] == "table"]
    rows = [row for table in tables for row in table["rows"] if row["method"]]
    figures = [target for target in answer["targets"] if target["kind"] == "figure"]
    found = []
    if lacking := sum(not row["complete"] for row in rows):
        found.append(f"{lacking} of {len(rows)} rows")
    if lacking := sum(figure["state"] != "done" for figure in figures):
        found.append(f"{lacking} of {len(figures)} figures")
    return f"{' and '.join(found)} are incomplete: the notes say why." if found else ""


def write_answer(run: RunFolder, answer: dict[str, Any]) -> dict[str, str]:
    """Writes answer.json and, if there are tables, table.json, .csv, .md and .html; the paths, by what they are."""
    paths: dict[str, str] = {}
    written = [name for target in answer["targets"] for name in target.get("names", [])]
    if any(target["kind"] == "table" for target in answer["targets"]):
        for name, data in table_files.files(answer).items():
            run.files.put(run / name, data)
            paths[name.replace(".", "_")] = run.files.path(run / name)
            written.append(run / name)
    for target in answer["targets"]:
        if target["kind"] == "figure" and target["files"]:
            paths[target["target"]] = target["files"][0].rpartition("/")[0]
    # Of figures the names are kept, as the store may be moved.
    targets = [{**target, "files": []} if "names" in target else target for target in answer["targets"]]
    run.write("answer.json", {**answer, "targets": targets, "paths": run.kept(paths), "written": written})
    return paths


def message(answer: Mapping[str, Any], failures: Sequence[str]) -> str:
    """What people are told at the end; `failures` says why members were given up."""
    counts = counts_text(answer["models"], "members")
    return "\n".join(part for part in [counts, _incomplete(answer), *failures] if part)


def from_store(options: ReproduceOptions, store: Store, found: Draft) -> tuple[str, dict[str, Any]] | None:
    """The answer of an earlier run of the same request, without a plan in words, if the store still has all of it.

    Reads listings, pack indexes and records; starts nothing and writes nothing.
    """
    run = store.run(options.run)
    shown = ("state", "targets", "rehearsal", "warnings", "paths")
    answer, plan = run.read("answer.json", "written", "models", *shown), run.read("plan.json", "asks")
    saved = {} if plan is None else plan["asks"]
    if answer is None or set(saved) != {one.name for one in found.requests}:
        return None
    if found.troubles or not all(map(store.files.exists, answer["written"])):
        return None
    if options.resources.floors and answer.get("floors") is False:  # older releases knew of none
        return None

    def settle(request: EnsembleRequest) -> tuple[str, Precision]:
        settings, then = request.launch.ensemble, saved[request.name]
        if settings.weights not in {"none", "imagenet"}:
            raise UsageError("the file's content may have changed")
        precision = then["precision"] if settings.precision == "auto" else settings.precision
        return then["weights"], precision

    ensembles = prepare_ensembles(found.requests, store, None)
    settle_members(ensembles, settle)
    now = {one.request.name: (one.trouble, one.keys) for one in ensembles}
    if now != {name: (then["trouble"], then["members"]) for name, then in saved.items()}:
        return None
    needed = make_plan(ensembles, store)
    if needed.to_train or needed.to_embed:
        return None
    models = answer["models"]
    models |= {"trained": 0, "reused": models["asked"] - models["failed"]}
    for target in answer["targets"]:  # the store may have been moved since
        if "names" in target:
            target["files"] = [store.files.path(name) for name in target["names"]]
    return "", {**answer, "paths": run.found(answer["paths"])}
