"""`reproduce --dry-run`: what would run, what the store has of it, and what the rest costs. It writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from muster.orchestrator.ensemble.cost import cost_of
from muster.orchestrator.ensemble.plan import (
    Plan,
    PlannedEnsemble,
    cost_group,
    make_plan,
    planned_warnings,
    prepare_ensembles,
    settle_members,
)
from muster.orchestrator.ensemble.requests import Settled
from muster.orchestrator.jobs.reproduce.figures.sheet import counted
from muster.orchestrator.jobs.reproduce.plan import Draft, plan_text
from muster.orchestrator.jobs.reproduce.request import ReproduceOptions
from muster.orchestrator.jobs.reproduce.tables.papers import Table
from muster.orchestrator.jobs.reproduce.targets import ALL
from muster.orchestrator.records.measured import Measurements
from muster.orchestrator.records.scores import duration
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.spec import Precision
from muster.workers.store.layout import Store
from muster.workers.task import MemberTask, missing

Row = dict[str, Any]


def preview(options: ReproduceOptions, store: Store, found: Draft) -> dict[str, Any]:
    """`sentence` for people, and a row for each ensemble."""
    ensembles = prepare_ensembles(found.requests, store, None)
    settled: dict[str, Settled] = {}
    for ensemble in sorted(ensembles, key=lambda one: len(one.request.launch.settings.input_runs)):
        _settle(ensemble, store, settled)
    plan = make_plan(ensembles, store)
    cost = plan.cost
    measured = Measurements(store, plan.tasks.keys() - plan.to_train) if plan.to_train else None
    rows = [_row(one, plan, store, measured) for one in ensembles] + list(_refused(found))
    if options.target != ALL:
        rows = [{**row, "ensemble": row["ensemble"].removeprefix(f"{options.target}: ")} for row in rows]
    unknown = sum(row["to_train"] is None for row in rows)
    known = plan_text(plan) if cost.members else ""
    if unknown:
        known = f"{known} {counted(unknown, 'ensemble')} of unknown cost."
    texts = planned_warnings(ensembles)
    return {
        **({"warnings": texts} if texts else {}),
        "run": options.run, "sentence": f"{options.rehearsal}\n{known.strip()}".strip(), "rows": rows,
        "members": cost.members, "to_train": cost.to_train, "device_seconds": cost.device_seconds, "basis": cost.basis,
        "rehearsal": options.rehearsal,
    }  # fmt: skip


def _settle(ensemble: PlannedEnsemble, store: Store, settled: dict[str, Settled]) -> None:
    """Gives an ensemble the members of which the store has the most.

    What a cluster would settle is not known here: the precision, where it is left to the GPUs, and which weights
    ImageNet's are. Of the latter the store holds a copy if anything was trained from them.
    """
    best: tuple[MemberTask, ...] = ()
    most = -1
    for candidate in _candidates(ensemble.request.launch, store):
        settle_members([ensemble], lambda _, candidate=candidate: candidate, settled=settled)  # type: ignore[misc]
        in_store = sum(not missing(store, task)[0] for task in ensemble.tasks)
        if in_store > most:
            best, most = ensemble.tasks, in_store
    ensemble.tasks = best
    if best:
        settled[ensemble.request.launch.run] = best[0].spec.weights, best[0].spec.precision


def _candidates(request: LaunchRequest, store: Store) -> Iterator[tuple[str, Precision]]:
    ensemble = request.ensemble
    weights = ["none"]
    if ensemble.weights != "none":
        weights = [name.removesuffix(".safetensors") for name in store.files.names("weights")] or ["unknown"]
    precisions = get_args(Precision) if ensemble.precision == "auto" else (ensemble.precision,)
    for digest in weights:
        for precision in precisions:
            yield digest, precision


def _row(ensemble: PlannedEnsemble, plan: Plan, store: Store, measured: Measurements | None) -> Row:
    if not ensemble.tasks:
        trouble = ensemble.trouble or "images not packed yet"
        return {
            **_empty(ensemble.request.name, trouble), "members": ensemble.request.launch.ensemble.L,
        }  # fmt: skip
    mine = [key for key in ensemble.keys if key in plan.to_train]
    assert ensemble.prepared is not None  # it has members
    group = cost_group(ensemble.request.launch, ensemble.prepared, ensemble.tasks)
    cost = cost_of([group], mine, store, measured=measured)
    return {
        "ensemble": ensemble.request.name,
        "members": len(ensemble.tasks),
        "to_train": len(mine),
        "time": None if cost.seconds is None else duration(cost.seconds.middle),
        "note": cost.basis,
    }


def _refused(found: Draft) -> Iterator[Row]:
    for name, trouble in found.troubles.items():
        yield _empty(name, trouble)
    for target, own in found.targets:
        for want in target.wants(own) if isinstance(target, Table) else []:
            if want.refusal:
                yield _empty(want.name, want.refusal)


def _empty(name: str, trouble: str) -> Row:
    return {"ensemble": name, "members": None, "to_train": None, "time": None, "note": trouble}
