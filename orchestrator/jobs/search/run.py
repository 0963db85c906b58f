"""One search, from request to answer: pack, plan, let Tune run the trials, evaluate, recommend.

Tune decides which trial goes on; the fleet trains members; the `Prefixes` actor scores them. Tune's own folder
is scratch in a temporary directory: a search that is resumed runs its trials again, and finds their members in
the store at no cost.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from typing import Any

import ray

from muster.orchestrator.ensemble.cost import plan_event
from muster.orchestrator.ensemble.plan import check_listing
from muster.orchestrator.ensemble.requests import EnsembleRequest
from muster.orchestrator.ensemble.run import pack
from muster.orchestrator.ensemble.terms import ClusterTerms, terms_of
from muster.orchestrator.fleet.actors.fleet import NAMESPACE
from muster.orchestrator.fleet.budget import Budget, trained_seconds
from muster.orchestrator.fleet.client import FleetClient
from muster.orchestrator.fleet.scheduler import FleetSettings
from muster.orchestrator.jobs.search.answer import build_answer, choose, floors_beside, write_answer
from muster.orchestrator.jobs.search.plan import (
    SearchCost,
    SearchPlan,
    by_backbone,
    ensembles_of,
    largest,
    prepared_by_pictures,
    schedule_of,
    search_cost,
)
from muster.orchestrator.jobs.search.prefix_actor import CALLS_AT_ONCE, Prefixes
from muster.orchestrator.jobs.search.record import Record, evaluate_tests
from muster.orchestrator.jobs.search.request import SearchRequest
from muster.orchestrator.jobs.search.tune.run import tune_trials
from muster.orchestrator.records.forecast import Forecast
from muster.orchestrator.records.stages import Emit, stage
from muster.orchestrator.settings.resources import parse_bytes
from muster.orchestrator.vectors.protocols import recall_at
from muster.workers.errors import MusterError
from muster.workers.store.layout import Store
from muster.workers.store.runs import RunFolder


def search(
    request: SearchRequest, run: RunFolder, emit: Emit, fleet_name: str, extra: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The answer of a search.

    Raises MusterError where no trial had a single member or the input is wrong.
    """
    started = time.monotonic()
    store = Store(request.storage)
    check_listing(largest(request))
    plan, cost, terms = _planned(request, store, run, emit)
    budget = _budget(request, cost, terms.gpus)
    settings = FleetSettings(store.root, request.run, request.base.resources.parallel, terms.gpus, budget)
    client = FleetClient(settings, fleet_name, emit, Forecast(cost.by_schedule, cost.grid.seconds_each))
    record = Record(request, emit)
    with stage(emit, "train"), client.forwarding():
        record.begin()
        run_trials(plan, record, client.fleet, f"prefixes-{fleet_name}")
    if not any(trial.rows for trial in record.trials.values()):
        causes = "\n".join(sorted({trial.message for trial in record.trials.values() if trial.message}))
        raise MusterError(f"No trial had a single member, so there is nothing to choose from.\n{causes}")
    with stage(emit, "evaluate"):
        tests = evaluate_tests(plan, record, client)
        choice = choose(plan, record, tests)
        floors, warnings = floors_beside(plan, record, choice, client)
    with stage(emit, "report"):
        spent = trained_seconds(store, request.run)
        place = terms.place(request.base)
        answer = build_answer(plan, store, record, tests, choice, cost, spent, budget, place)
        answer |= {"floors": floors} if floors else {}
        answer |= {"warnings": found} if (found := [*answer.get("warnings", ()), *warnings]) else {}
        answer["seconds"] = round(time.monotonic() - started, 2)
        answer["paths"] = write_answer(run, answer, request)
    return answer


def _planned(
    request: SearchRequest, store: Store, run: RunFolder, emit: Emit
) -> tuple[SearchPlan, SearchCost, ClusterTerms]:
    """Packs what is missing and tells the plan."""
    prepared = prepared_by_pictures(pack(ensembles_of(request), store, emit, all_needed=True))
    assert prepared is not None  # what was missing has been built
    with stage(emit, "plan"):
        terms = terms_of(request.base, run, emit, prepared.values())
        settled = {name: terms(EnsembleRequest(launch=one)) for name, one in by_backbone(request).items()}
        weights = {name: digest for name, (digest, _) in settled.items()}
        precision = next(iter(settled.values()))[1]  # trials differ in their networks, and not in that
        plan = SearchPlan(request, prepared, weights, precision, recall_at(request.base))
        cost = search_cost(plan, store, lambda: terms.place(request.base))
        run.write("plan.json", {"text": cost.sentence(), "trials": request.trials()})
        emit(plan_event(cost.grid, cost.sentence()))
    return plan, cost, terms


def _budget(request: SearchRequest, cost: SearchCost, gpus: float) -> Budget:
    """What the fleet may spend. Without GPUs a device is a CPU process, and its hours count alike."""
    hours = request.search.budget_gpu_hours
    seconds = None if hours is None else hours * 3600
    return Budget(request.search.budget_members, seconds, gpus or 1.0, cost.grid.seconds_each)


def run_trials(plan: SearchPlan, record: Record, fleet: Any, actor_name: str) -> None:
    """Lets Tune run the trials to their ends, in a scratch folder of its own; `actor_name`: of their `Prefixes`."""
    actor: Any = Prefixes
    memory = parse_bytes(plan.request.base.resources.eval_memory)
    prefixes = actor.options(name=actor_name, namespace=NAMESPACE, max_concurrency=CALLS_AT_ONCE).remote(
        plan, schedule_of(plan.request).rungs, fleet, memory
    )
    scratch = tempfile.mkdtemp(prefix="muster-tune-")
    os.environ.update(
        {
            "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the store is the record
            "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
            "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
        }
    )
    try:
        tune_trials(
            plan.request,
            record,
            actor_name,
            scratch,
            release=lambda number: ray.get(prefixes.release.remote(number)),
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
