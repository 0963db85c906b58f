"""What a launch answers: from what its job found, or from the store alone where that has everything."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Any

from muster.orchestrator.ensemble.plan import (
    Plan,
    PlannedEnsemble,
    counted_members,
    make_plan,
    prepare_ensembles,
    settle_members,
)
from muster.orchestrator.ensemble.requests import EnsembleRequest
from muster.orchestrator.ensemble.scores import scores_identity
from muster.orchestrator.jobs.base import model_counts
from muster.orchestrator.methods.loading import parse_request
from muster.orchestrator.records.identity import differences
from muster.orchestrator.settings import compat
from muster.orchestrator.settings.request import LaunchRequest
from muster.orchestrator.vectors.protocols import protocol_text
from muster.orchestrator.vectors.shards import all_there
from muster.orchestrator.vectors.vectors import content_of
from muster.workers.errors import DamagedRunError
from muster.workers.methods.registry import method_of
from muster.workers.store.layout import Store
from muster.workers.store.runs import RunFolder


def plan_text(plan: Plan) -> str:
    """The plan in one line."""
    (ensemble,) = plan.ensembles
    members = counted_members(len(ensemble.tasks), one=not method_of(ensemble.tasks[0].spec).ensemble)
    return plan.cost.sentence(members, "it")


def from_store(request: LaunchRequest, store: Store, checked: object) -> tuple[str, dict[str, Any]] | None:
    """The plan in words and the answer, if the store has every member, vector and score.

    Reads listings, pack indexes and records; starts nothing and writes nothing.
    """
    started = time.monotonic()
    if request.ensemble.weights != "none":
        return None  # their content must be read first
    run = store.run(request.run)
    try:
        saved = run.read("run.json")
        answer = run.read("answer.json", "precision", "paths")
        metrics = run.read("metrics.json", "identity", "splits", "state", "warnings", "device_seconds")
    except DamagedRunError:
        return None  # it is made again
    # What a killed job left has nobody who vouches for it; older releases kept no record.
    if not (saved and answer and metrics) or (compat.MADE_BY in saved and not run.record()):
        return None
    if differences(parse_request(saved, run.place("run.json")).identity(), request.identity()):
        return None
    ensembles = prepare_ensembles([EnsembleRequest(launch=request)], store, None, all_needed=True)
    precision = answer["precision"] if request.ensemble.precision == "auto" else request.ensemble.precision
    settle_members(ensembles, lambda _: ("none", precision), all_needed=True)
    plan, (ensemble,) = make_plan(ensembles, store), ensembles
    lacking = plan.to_train or plan.to_embed or _damaged(run, answer["paths"].values())
    if not ensemble.tasks or lacking or not _current(ensemble, store, metrics):
        return None
    paths = run.found(answer["paths"])  # the store may have been moved since
    return plan_text(plan), launch_answer(ensemble, set(), metrics, paths, time.monotonic() - started)


def _damaged(run: RunFolder, paths: Iterable[str]) -> bool:
    """Whether one of the files that an answer names is not what was written; shards have their own manifest."""
    record = run.record()
    return any(run.changed(path, record) for path in paths)


def _current(ensemble: PlannedEnsemble, store: Store, metrics: dict[str, Any]) -> bool:
    """Are the run's scores and shards those of all its members, as they are now?"""
    request, targets = ensemble.request.launch, ensemble.tasks[0].targets
    wanted = scores_identity(request, targets, ensemble.keys)
    scored = metrics["identity"]
    # Splits that were gathered beside the ones asked for do no harm.
    mine = {split: digest for split, digest in scored["embeddings"].items() if split in wanted["embeddings"]}
    if {**scored, "embeddings": mine} != wanted:
        return False
    if request.resources.floors and metrics.get("floors") is False:  # older releases knew of none
        return False
    run = store.run(request.run)
    for target in targets:
        content = content_of(store, target, ensemble.keys)
        manifest = run.manifest(target.split) or {}
        if {metrics["splits"][target.split].get("vectors", content), manifest.get("vectors", content)} != {
            content
        }:
            return False
    return all(all_there(run, target.split) for target in targets) and store.files.exists(run / "report.html")


def launch_answer(
    ensemble: PlannedEnsemble,
    trained: Collection[str],
    metrics: dict[str, Any],
    paths: dict[str, str],
    seconds: float,
) -> dict[str, Any]:
    """What `launch --json` prints."""
    request, spec = ensemble.request.launch, ensemble.tasks[0].spec
    test = metrics["splits"]["test"]
    curve = test["curve"]
    account = ensemble.prepared.account if ensemble.prepared else None
    return {
        "run": request.run,
        "state": metrics["state"],
        "models": model_counts(ensemble.keys, set(metrics["identity"]["members"]), trained),
        "metrics": {name: value for name, value in curve[-1].items() if name != "near_ties"},
        "curve": curve,
        "protocol": protocol_text(request.data),
        **({"warnings": metrics["warnings"]} if metrics["warnings"] else {}),
        **({"account": account} if account else {}),
        **{
            name: test[name]
            for name in ("learners", "correlation", "interval", "gain", "floors")
            if name in test
        },
        "precision": spec.precision,
        "weights": spec.weights,
        "paths": paths,
        "seconds": round(seconds, 2),
        "device_seconds": metrics["device_seconds"],
    }
