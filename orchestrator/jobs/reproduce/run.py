"""One reproduction in its job, from request to tables and figures.

Every row and panel asks for ensembles; all their members are trained by one fleet, the lowest index first, those
that two share once. Whatever one ensemble lacks, data or members, is told in its own row and stops no other.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any

import ray

from muster.orchestrator.ensemble.cost import plan_event
from muster.orchestrator.ensemble.floors import made_floors
from muster.orchestrator.ensemble.plan import Plan, make_plan, settle_members
from muster.orchestrator.ensemble.requests import EnsembleResult
from muster.orchestrator.ensemble.run import pack, train
from muster.orchestrator.ensemble.scores import digest_of, score_all
from muster.orchestrator.ensemble.terms import terms_of
from muster.orchestrator.fleet.client import FleetClient
from muster.orchestrator.jobs.reproduce.answer import answer_of, write_answer
from muster.orchestrator.jobs.reproduce.plan import Draft, check_data, draft, plan_text
from muster.orchestrator.jobs.reproduce.request import ReproduceOptions
from muster.orchestrator.jobs.reproduce.tables.papers import Table
from muster.orchestrator.jobs.reproduce.tables.rows import FloorScores
from muster.orchestrator.jobs.reproduce.targets import Figure
from muster.orchestrator.records.events import event
from muster.orchestrator.records.stages import Emit, stage
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.errors import MusterError
from muster.workers.store.layout import Store
from muster.workers.store.runs import RunFolder


def reproduce(
    options: ReproduceOptions, run: RunFolder, emit: Emit, fleet_name: str, extra: tuple[str, ...]
) -> tuple[dict[str, Any], list[str]]:
    """The answer of a reproduction, and why members were given up.

    Raises MusterError where there is no data for any ensemble, or not one could be trained.
    """
    started = time.monotonic()
    store = Store(options.storage)
    found = draft(options)
    check_data(found.requests)
    if options.rehearsal:
        emit(event("message", level="warning", text=options.rehearsal))
    ensembles = pack(found.requests, store, emit, all_needed=False)
    with stage(emit, "plan"):
        example = _any_launch(found)
        terms = terms_of(example, run, emit, [one.prepared for one in ensembles])
        settle_members(ensembles, terms)
        plan = make_plan(ensembles, store, lambda: terms.place(example))
        _write_plan(plan, run)
        emit(plan_event(plan.cost, plan_text(plan)))
    client = train(plan, run, emit, fleet_name, parallel=options.resources.parallel, gpus=terms.gpus)
    with stage(emit, "evaluate"):
        got = _scored(plan, client, run)
        tables = [(target, own) for target, own in found.targets if isinstance(target, Table)]
        shown = {request.name for target, own in tables for request in target.requests(own)}
        floors, warnings = _floors({name: one for name, one in got.items() if name in shown}, client)
    if got and not any(one.metrics for one in got.values()):
        raise MusterError("\n".join(dict.fromkeys(one.trouble for one in got.values())))
    with stage(emit, "report"):
        drawn = _drawn(found, got, store, run, client)
        answer = answer_of(options, found, got, floors, drawn, client)
        answer["warnings"] += warnings
        answer["seconds"] = round(time.monotonic() - started, 2)
        answer["paths"] = write_answer(run, answer)
    outcomes = [client.outcomes[key] for key in plan.tasks]
    failures = dict.fromkeys(one.message for one in outcomes if one.state == "failed")
    return answer, list(failures)


def _any_launch(found: Draft) -> LaunchRequest:
    """One with the run's resources; of an ensemble if there is one, as a rank has a GPU to itself anyway."""
    if not found.requests:
        raise MusterError("\n".join(found.troubles.values()))
    return min((one.launch for one in found.requests), key=lambda launch: launch.one_model)


def _write_plan(plan: Plan, run: RunFolder) -> None:
    asks = {
        one.request.name: {
            "members": one.keys,
            "trouble": one.trouble,
            "weights": one.tasks[0].spec.weights if one.tasks else None,
            "precision": one.tasks[0].spec.precision if one.tasks else None,
        }
        for one in plan.ensembles
    }
    run.write("plan.json", {"text": plan_text(plan), "members": list(plan.tasks), "asks": asks})


def _scored(plan: Plan, client: FleetClient, run: RunFolder) -> dict[str, EnsembleResult]:
    """What became of each ensemble, by name. Scores are kept in the run folder: those of the same members and vectors
    are not computed again."""
    kept = {digest: {"test": scores} for digest, scores in (run.read("metrics.json") or {}).items()}
    found = score_all(plan.ensembles, client, kept)
    digests = [digest_of(one.metrics["identity"]) for one in found.values() if one.metrics]
    run.write("metrics.json", {digest: kept[digest]["test"] for digest in digests})
    return found


def _floors(got: Mapping[str, EnsembleResult], client: FleetClient) -> tuple[FloorScores, list[str]]:
    """What is found without any training, by the names of the ensembles that it stands beside; and which is missing.
    Most ensembles share theirs."""
    found: FloorScores = {}
    told: list[str] = []
    for name, one in got.items():
        if one.metrics:
            splits, missing = made_floors(one.request.launch, one.tasks, client)
            found[name] = splits.get("test", [])
            told += missing
    return found, list(dict.fromkeys(told))


def _drawn(
    found: Draft, got: dict[str, EnsembleResult], store: Store, run: RunFolder, client: FleetClient
) -> dict[str, list[str]]:
    """Has each figure drawn, in a task of its own; the names of its files, by figure. Troubles go to `found`."""
    files: dict[str, list[str]] = {}
    draw = ray.remote(num_cpus=1, max_retries=3)(draw_figure)
    for target, own in found.targets:
        if not isinstance(target, Figure) or target.name in found.troubles:
            continue
        mine = {request.name: got[request.name] for request in target.requests(own)}
        if not any(one.metrics for one in mine.values()):
            troubles = dict.fromkeys(one.trouble for one in mine.values())
            found.troubles[target.name] = "; ".join(troubles) or "it asks for nothing"
            continue
        folder = run / f"figures/{target.name}"
        files[target.name] = client.repaired(
            functools.partial(_got, draw, target.name, store.root, folder, mine),
            (task for one in mine.values() for task in one.tasks),
        )
    return files


def _got(draw: Any, *what: Any) -> list[str]:
    names: list[str] = ray.get(draw.remote(*what))
    return names


def draw_figure(name: str, root: str, folder: str, got: dict[str, EnsembleResult]) -> list[str]:
    """Draws one figure from the vectors in the store; the names of the files it wrote. Raises DamagedMember."""
    from muster.orchestrator.jobs.reproduce.targets import FIGURES

    mine = {full.removeprefix(f"{name}: "): one for full, one in got.items()}
    drawn: list[str] = FIGURES[name].module.draw(Store(root), folder, mine)
    return drawn
