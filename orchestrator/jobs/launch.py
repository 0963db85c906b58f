"""One launch, from request to report: pack, plan, train, gather, evaluate, report.

`launch` is what the job's driver runs on the cluster. `from_store` gives the same answer without a cluster
where the store already has everything. Events are handed to the caller, in the order they happen.
"""

from __future__ import annotations

import functools
import time
from typing import Any, get_args

from muster.orchestrator.ensemble.plan import (
    Plan,
    check_listing,
    make_plan,
    metrics_identity,
    prepare,
    store_weights,
)
from muster.orchestrator.fleet.capacity import (
    check_places_for,
    cluster_resources,
    common_precision,
    gpu_share,
)
from muster.orchestrator.methods.loading import parse_request
from muster.orchestrator.records.events import event
from muster.orchestrator.records.exit_codes import EXIT_PARTIAL
from muster.orchestrator.records.identity import differences, open_run, refuse_other_kind
from muster.orchestrator.records.stages import Emit, pack_ticker, stage
from muster.orchestrator.settings.request import LaunchRequest
from muster.orchestrator.vectors.protocols import draws_of, protocol_text, recall_at
from muster.workers.spec import Precision
from muster.workers.store.layout import Store


def launch(request: LaunchRequest, emit: Emit, fleet_name: str, extra: tuple[str, ...] = ()) -> int:
    """Runs a request on the Ray cluster that this process is connected to; the exit code.

    `extra` names further splits to embed, gather and score: "train".

    Raises MusterError where nothing could be trained or the input is wrong.
    """
    started = time.monotonic()
    store = Store(request.storage)
    check_listing(request)
    run = open_run(request, store, "launch", parse_request)
    with stage(emit, "pack"):
        prepared = prepare(request, store, pack_ticker(emit), extra)
        assert prepared is not None  # it builds what is missing
        for warning in prepared.warnings:
            emit(event("message", level="warning", text=warning))
    with stage(emit, "plan"):
        there = cluster_resources()
        gpus = gpu_share(request, there)
        check_places_for(request, gpus, there)
        precision = common_precision(request, gpus, there)
        plan = make_plan(request, store, prepared, weights=store_weights(request, store), precision=precision)
        run.write(
            "plan.json",
            {"text": plan.sentence(), "members": [task.key for task in plan.tasks], **prepared.facts},
        )
        _emit_plan(emit, plan)
    from muster.orchestrator.ensemble.driver import Driver

    driver = Driver(request, store, plan, emit, gpus, fleet_name)
    with stage(emit, "train"):
        driver.train()
    metrics, gathered = driver.client.repaired(
        functools.partial(_gathered_and_scored, driver, emit), plan.tasks
    )
    outcomes = driver.outcomes()
    with stage(emit, "report"):
        from muster.orchestrator.ensemble.results import write_results

        paths = write_results(
            store, request, prepared, plan, outcomes, driver.client.trained, metrics, gathered
        )
    answer = _answer(request, plan, driver.client.trained, metrics, paths, time.monotonic() - started)
    store.run(request.run).write("answer.json", answer)
    return _end(emit, answer, [outcome.message for outcome in outcomes if outcome.state == "failed"])


def _gathered_and_scored(driver: Any, emit: Emit) -> tuple[dict[str, Any], dict[str, Any]]:
    """The scores and the shards of the members that are there. Raises DamagedMember."""
    outcomes = driver.outcomes()
    with stage(emit, "gather"):
        gathered = driver.gather(outcomes)
    with stage(emit, "evaluate"):
        return driver.evaluate(outcomes), gathered


def from_store(request: LaunchRequest, emit: Emit) -> bool:
    """Answers from the store alone if it has every member, vector and score; False if anything is missing.

    Reads listings, pack indexes and records; starts nothing and writes nothing.
    """
    started = time.monotonic()
    store = Store(request.storage)
    if request.ensemble.weights != "none":
        return False  # their content must be read first
    run = store.run(request.run)
    saved = run.read("run.json")
    refuse_other_kind(saved, request.run, "launch")
    answer = run.read("answer.json", "precision", "paths")
    metrics = run.read("metrics.json", "identity", "splits")
    if not (saved and answer and metrics and _is_answer(answer) and _is_metrics(metrics)):
        return False
    if differences(parse_request(saved, run.place("run.json")).identity(), request.identity()):
        return False
    prepared = prepare(request, store, None)
    if prepared is None:
        return False
    precision = answer["precision"] if request.ensemble.precision == "auto" else request.ensemble.precision
    plan = make_plan(request, store, prepared, weights="none", precision=precision)
    if plan.to_train or plan.to_embed or not _current(request, store, plan, metrics):
        return False
    _emit_plan(emit, plan)
    emit(event("curve", rows=metrics["splits"]["test"]["curve"]))
    # As the store lies now: it may have been moved since.
    paths = {
        name: run.place(str(path).partition(f"/runs/{run.run}/")[2]) for name, path in answer["paths"].items()
    }
    _end(emit, _answer(request, plan, set(), metrics, paths, time.monotonic() - started), [])
    return True


def _is_answer(answer: dict[str, Any]) -> bool:
    paths = answer["paths"]
    return (
        answer["precision"] in get_args(Precision)
        and isinstance(paths, dict)
        and all(isinstance(path, str) for path in paths.values())
    )


def _is_metrics(metrics: dict[str, Any]) -> bool:
    try:
        return bool(metrics["identity"]["embeddings"].items() and metrics["splits"]["test"]["curve"][-1]["L"])
    except (AttributeError, KeyError, TypeError, IndexError):
        return False


def _current(request: LaunchRequest, store: Store, plan: Plan, metrics: dict[str, Any]) -> bool:
    """Are the run's scores and shards those of all its members, as they are now?"""
    keys = [task.key for task in plan.tasks]
    draws = draws_of(request.data)
    wanted = metrics_identity(plan, keys, recall_at(request), request.resources.nmi, draws)
    scored = metrics["identity"]
    # Splits that were gathered beside the ones asked for do no harm.
    mine = {split: digest for split, digest in scored["embeddings"].items() if split in wanted["embeddings"]}
    if {**scored, "embeddings": mine} != wanted:
        return False
    run = store.run(request.run)
    manifests = [
        store.files.find(f"{run.gathered(target.split)}/manifest.json") for target in plan.tasks[0].targets
    ]
    return all(manifests) and store.files.exists(run / "report.html")


def _emit_plan(emit: Emit, plan: Plan) -> None:
    asked, train = len(plan.tasks), len(plan.to_train)
    emit(event("plan", asked=asked, reused=plan.reused, to_train=train, text=plan.sentence()))


def _answer(
    request: LaunchRequest,
    plan: Plan,
    trained: set[str],
    metrics: dict[str, Any],
    paths: dict[str, str],
    seconds: float,
) -> dict[str, Any]:
    """What `launch --json` prints."""
    done = set(metrics["identity"]["members"])
    test = metrics["splits"]["test"]
    curve = test["curve"]
    return {
        "run": request.run,
        "state": metrics["state"],
        "models": {
            "asked": len(plan.tasks),
            "reused": len(done - trained),
            "trained": len(done & trained),
            "failed": len(plan.tasks) - len(done),
        },
        "metrics": {name: value for name, value in curve[-1].items() if name != "near_ties"},
        "curve": curve,
        "protocol": protocol_text(request.data),
        **{name: test[name] for name in ("learners", "correlation") if name in test},
        "precision": plan.tasks[0].spec.precision,
        "weights": plan.tasks[0].spec.weights,
        "paths": paths,
        "seconds": round(seconds, 2),
        "device_seconds": metrics["device_seconds"],
    }


def _end(emit: Emit, answer: dict[str, Any], failures: list[str]) -> int:
    models = answer["models"]
    done = models["asked"] - models["failed"]
    state = "done" if not models["failed"] else "partial"
    what = "model" if "learners" in answer else "members"
    message = f"{done} of {models['asked']} {what} ({models['trained']} trained, {models['reused']} reused)."
    if failures:
        message += "\n" + "\n".join(failures)
    code = 0 if state == "done" else EXIT_PARTIAL
    emit(event("end", state=state, exit_code=code, message=message, answer=answer))
    return code
