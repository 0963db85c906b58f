"""`reproduce --dry-run`: what would run, what the store has of it, and what the rest costs. It writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from muster.orchestrator.ensemble.plan import expected_seconds
from muster.orchestrator.jobs.reproduce.plan import (
    Draft,
    Work,
    check_here,
    cost_of,
    counted,
    draft,
    plan_asks,
    prepare_asks,
)
from muster.orchestrator.jobs.reproduce.request import ReproduceOptions
from muster.orchestrator.jobs.reproduce.tables.papers import Table
from muster.orchestrator.jobs.reproduce.targets import ALL
from muster.orchestrator.machine.places import refuse_no_store
from muster.orchestrator.records.scores import duration
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.spec import Precision
from muster.workers.store.layout import Store
from muster.workers.task import missing

Row = dict[str, Any]


def preview(options: ReproduceOptions) -> dict[str, Any]:
    """`sentence` for people, and a row for each ensemble. Raises UsageError where there is no data at all."""
    store = Store(options.storage)
    refuse_no_store(store)
    found = draft(options)
    check_here(options, found, store)
    prepare_asks(found.works, store, None)
    for work in found.works:
        _settle(work, store)
    tasks = {task.key: task for work in found.works for task in work.tasks}
    cost = cost_of(found.works, tasks, store)
    rows = [_row(work, cost.lacking, store) for work in found.works] + list(_refused(found))
    if options.target != ALL:
        rows = [{**row, "ensemble": row["ensemble"].removeprefix(f"{options.target}: ")} for row in rows]
    unknown = sum(row["to_train"] is None for row in rows)
    known = cost.sentence() if cost.asks else ""
    if not rows:
        known = f"{options.target} trains nothing of what was asked for: the rows are the papers' alone."
    if unknown:
        known = f"{known} {counted(unknown, 'ensemble')} of unknown cost."
    return {
        "run": options.run, "sentence": f"{options.rehearsal}\n{known.strip()}".strip(), "rows": rows,
        "members": cost.members, "to_train": cost.to_train, "device_seconds": cost.device_seconds, "basis": cost.basis,
        "rehearsal": options.rehearsal,
    }  # fmt: skip


def _settle(work: Work, store: Store) -> None:
    """Gives an ask the tasks of which the store has the most.

    What a cluster would settle is not known here: the precision, where it is left to the GPUs, and which weights
    ImageNet's are. Of the latter the store holds a copy if anything was trained from them.
    """
    best: tuple[int, Any] | None = None
    for weights, precision in _candidates(work.ask.request, store):
        settled = (weights, precision)
        tasks = list(plan_asks([work], lambda _, settled=settled: settled).values())  # type: ignore[misc]
        if not tasks:
            return  # no images, or no such network: it is in the work's trouble
        found = sum(not missing(store, task)[0] for task in tasks)
        if best is None or found > best[0]:
            best = (found, work.tasks)
    if best is not None:
        work.tasks = best[1]


def _candidates(request: LaunchRequest, store: Store) -> Iterator[tuple[str, Precision]]:
    ensemble = request.ensemble
    weights = ["none"]
    if ensemble.weights != "none":
        weights = [name.removesuffix(".safetensors") for name in store.files.names("weights")] or ["unknown"]
    precisions = get_args(Precision) if ensemble.precision == "auto" else (ensemble.precision,)
    for digest in weights:
        for precision in precisions:
            yield digest, precision


def _row(work: Work, lacking: frozenset[str], store: Store) -> Row:
    if not work.tasks:
        trouble = work.trouble or "images not packed yet"
        return {**_empty(work.ask.name, trouble), "members": work.ask.request.ensemble.L}
    mine = [key for key in work.keys if key in lacking]
    each, basis = expected_seconds(store, work.tasks, set(lacking)) if mine else (0.0, "")
    return {
        "ensemble": work.ask.name,
        "members": len(work.tasks),
        "to_train": len(mine),
        "time": None if each is None else duration(each * len(mine)),
        "note": basis,
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
