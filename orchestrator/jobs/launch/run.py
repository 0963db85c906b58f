"""One launch in its job, from request to report: pack, plan, train, gather, evaluate, report."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import Any

from muster import __version__
from muster.orchestrator.ensemble.cost import plan_event
from muster.orchestrator.ensemble.floors import floor_tasks, with_floors
from muster.orchestrator.ensemble.inputs import check_code
from muster.orchestrator.ensemble.plan import (
    check_listing,
    make_plan,
    settle_members,
)
from muster.orchestrator.ensemble.requests import EnsembleRequest, EnsembleResult
from muster.orchestrator.ensemble.results import write_results
from muster.orchestrator.ensemble.run import pack, train
from muster.orchestrator.ensemble.scores import keep, result_of, scored
from muster.orchestrator.ensemble.terms import terms_of
from muster.orchestrator.fleet.client import FleetClient
from muster.orchestrator.jobs.launch.answer import launch_answer, plan_text
from muster.orchestrator.records.events import about_gpus, event
from muster.orchestrator.records.stages import Emit, stage
from muster.orchestrator.settings.request import LaunchRequest, open_data
from muster.orchestrator.vectors.gather import Gathered, gather
from muster.orchestrator.vectors.protocols import protocol_text
from muster.orchestrator.vectors.queries import queries_name
from muster.workers.errors import DamagedRunError, MusterError, UsageError
from muster.workers.store.layout import Store
from muster.workers.store.runs import RunFolder


def launch(
    request: LaunchRequest, run: RunFolder, emit: Emit, fleet_name: str, extra: tuple[str, ...]
) -> tuple[dict[str, Any], list[str]]:
    """The answer, and why members were given up. `extra` names further splits to embed, gather and score: "train".

    Raises MusterError where nothing could be trained or the input is wrong.
    """
    started = time.monotonic()
    store = Store(request.storage)
    check_listing(request)
    ensembles = pack([EnsembleRequest(launch=request, splits=extra)], store, emit, all_needed=True)
    (ensemble,) = ensembles
    assert ensemble.prepared is not None  # what was missing has been built
    with stage(emit, "plan"):
        terms = terms_of(request, run, emit, [ensemble.prepared])
        settle_members(ensembles, terms, all_needed=True)
        check_code(request, ensemble.tasks, store)
        plan = make_plan(ensembles, store, lambda: terms.place(request))
        text = plan_text(plan)
        facts = {**ensemble.prepared.facts, "account": ensemble.prepared.account}
        run.write("plan.json", {"text": text, "members": ensemble.keys, **facts})
        emit(plan_event(plan.cost, text))
    floors = floor_tasks(request, ensemble.tasks)
    parallel = request.resources.parallel
    client = train(plan, run, emit, fleet_name, parallel=parallel, gpus=terms.gpus, floors=floors)

    def gathered_and_scored() -> tuple[EnsembleResult, dict[str, Gathered]]:
        result = result_of(ensemble, client.outcomes)
        if not result.members:
            causes = "\n".join(sorted({client.outcomes[key].message for key in ensemble.keys}))
            raise MusterError(f"No member was trained, so there is nothing to gather.\n{causes}")
        with stage(emit, "gather"):
            gathered = _gathered(result, run, store)
        with stage(emit, "evaluate"):
            scores = _scored(result, run, client)
            metrics = with_floors(scores, floors, client)
            metrics["warnings"] += about_gpus(client.gpu_events)
            emit(event("curve", rows=metrics["splits"]["test"]["curve"]))
            return dataclasses.replace(scores, metrics=metrics), gathered

    result, gathered = client.repaired(gathered_and_scored, [*ensemble.tasks, *floors])
    with stage(emit, "report"):
        outcomes = [client.outcomes[key] for key in ensemble.keys]
        paths = write_results(store, run, result, outcomes, client.trained, gathered)
    answer = launch_answer(ensemble, client.trained, result.metrics or {}, paths, time.monotonic() - started)
    run.write("answer.json", {**answer, "paths": run.kept(answer["paths"])})
    return answer, [outcome.message for outcome in outcomes if outcome.state == "failed"]


def _gathered(result: EnsembleResult, run: RunFolder, store: Store) -> dict[str, Gathered]:
    """The shards of the finished members, for each split wanted. Raises DamagedMember."""
    launch = result.request.launch
    facts = {
        "run": run.run,
        "dataset": launch.data.dataset,
        "method": launch.method,
        "D": launch.ensemble.D,
        "asked": len(result.tasks),
        "seed": launch.ensemble.seed,
        "backbone": launch.ensemble.backbone,
        "view": dataclasses.asdict(launch.view),
        "protocol": protocol_text(launch.data),
        "test_list": launch.data.test_list if launch.data.dataset == "vehicleid" else None,
        "differences": list(result.prepared.differences) if result.prepared else [],
        "image_root": _image_root(launch),
        "muster": __version__,
    }
    dtype, combination = launch.resources.embedding_type, launch.settings.combination
    return {
        target.split: gather(store, run.run, target, list(result.members), facts, dtype, combination)
        for target in result.tasks[0].targets
    }


def _image_root(launch: LaunchRequest) -> str | None:
    """Where an image's file is found by its name; None if the images have no files of their own, or are gone."""
    with contextlib.suppress(UsageError):
        return open_data(launch.data).image_root
    return None


def _scored(result: EnsembleResult, run: RunFolder, client: FleetClient) -> EnsembleResult:
    """With the scores of every split, from the run folder if they are those of these members."""
    try:
        before = run.read("metrics.json", "identity", "splits")
    except DamagedRunError:  # an older store's, which no record promised
        before = None
    splits = [target.split for target in result.tasks[0].targets]
    files = client.store.files
    whole = before is not None and all(files.exists(run / queries_name(split)) for split in splits)
    return scored(result, splits, client.store, keep(before) if whole else {}, client.on_gpu, run)
