"""How alike a model's learners are, and by how much less than another's: a table and heat maps, from the store alone.

The measures are ours (docs/bier.md); the paper gives a reduction of 47.8 % on CUB without saying of what.
"""

from __future__ import annotations

from typing import Any

from muster.orchestrator.ensemble.plan import member_tasks, prepare
from muster.orchestrator.ensemble.terms import known_terms
from muster.orchestrator.report.heatmap import heat_map, heat_title
from muster.orchestrator.settings.request import LaunchRequest
from muster.orchestrator.vectors.vectors import forgetting, member_vectors
from muster.workers.errors import UsageError
from muster.workers.score.combine import Correlation, correlation, reduction
from muster.workers.store.layout import Store

#: What the command and its answer call the run that it is compared with.
OTHER = "baseline"
MEASURES = {"between learners": "clf_corr", "between dimensions": "feat_corr"}


def correlate(request: LaunchRequest, other: LaunchRequest | None, split: str) -> dict[str, Any]:
    """`rows`: each measure, of the model and of the `other`, and the reduction in per cent; `paths` of the heat maps
    written.

    Raises UsageError if a model has no learners or no vectors, or if the two can't be compared.
    """
    mine = _found(request, split)
    theirs = None if other is None else _found(other, split)
    if other is not None:
        _check(request, other)
    rows = [
        {"measure": measure, request.run: getattr(mine, name), **_compared(mine, other, theirs, name)}
        for measure, name in MEASURES.items()
    ]
    paths = write_heat_map(request, mine, split)
    if other is not None and theirs is not None:
        paths |= {f"{OTHER}_{name}": path for name, path in write_heat_map(other, theirs, split).items()}
    answer = {"run": request.run, OTHER: other and other.run, "split": split, "rows": rows}
    Store(request.storage).run(request.run).write(f"correlation-{split}.json", answer)
    return {**answer, "images": mine.images, "constant_dimensions": mine.constant, "paths": paths}


def _compared(
    mine: Correlation, other: LaunchRequest | None, theirs: Correlation | None, name: str
) -> dict[str, Any]:
    if other is None or theirs is None:
        return {}
    lower = reduction(getattr(mine, name), getattr(theirs, name))
    return {other.run: getattr(theirs, name), "reduction_percent": 100 * lower}


def write_heat_map(request: LaunchRequest, found: Correlation, split: str) -> dict[str, str]:
    """Puts the heat map into the run folder; the paths, by kind."""
    store = Store(request.storage)
    run, paths = store.run(request.run), {}
    for kind, data in heat_map(found.table, _sizes(request), heat_title(request)).items():
        name = f"plots/correlation-{split}.{kind}"
        record = run.record()
        if name not in record or run.changed(
            name, record
        ):  # a finished run promises the very file that it drew
            store.files.put(run / name, data)
        paths[kind] = run.place(name)
    return paths


def _sizes(request: LaunchRequest) -> tuple[int, ...]:
    """The sizes of a model's learners; () if it has none."""
    combination = request.settings.combination
    return () if combination is None else combination.sizes


def _found(request: LaunchRequest, split: str) -> Correlation:
    if len(_sizes(request)) < 2:
        raise UsageError(f"{request.run} has no learners to compare: it takes a run whose model has several.")
    store = Store(request.storage)
    prepared = prepare(request, store, None)
    targets = {} if prepared is None else {target.split: target for target in prepared.targets}
    if prepared is None or split not in targets:
        raise UsageError(f"{request.run} has no vectors of {split}: muster resume {request.run}.")
    (task,) = member_tasks(request, prepared, *known_terms(request, store.run(request.run)))
    digest = targets[split].digest
    with forgetting(store, digest, request.run):
        return correlation(member_vectors(store, task.key, digest), _sizes(request))


def _check(request: LaunchRequest, other: LaunchRequest) -> None:
    if _sizes(other) != _sizes(request):
        raise UsageError(
            f"{other.run} has learners of {_sizes(other)}, {request.run} of {_sizes(request)}: a reduction compares "
            "the same sizes."
        )
    if other.data != request.data:
        raise UsageError(
            f"{other.run} and {request.run} are of other data: a reduction compares the same images."
        )
