"""How alike BIER's learners are, and by how much less than a baseline's: a table and heat maps, from the store alone.

The measures are ours (docs/bier.md); the paper gives a reduction of 47.8 % on CUB without saying of what.
"""

from __future__ import annotations

from typing import Any

from muster.orchestrator.ensemble.plan import make_plan, prepare
from muster.orchestrator.report.heatmap import heat_map
from muster.orchestrator.report.titles import heat_title
from muster.orchestrator.settings.request import LaunchRequest
from muster.orchestrator.vectors.vectors import member_vectors
from muster.workers.errors import UsageError
from muster.workers.score.combine import Correlation, correlation, reduction
from muster.workers.store.layout import Store

MEASURES = {"between learners": "clf_corr", "between dimensions": "feat_corr"}


def correlate(request: LaunchRequest, baseline: LaunchRequest | None, split: str) -> dict[str, Any]:
    """`rows`: each measure, of the model and of the baseline, and the reduction in per cent; `paths` of the
    heat maps written.

    Raises UsageError if a run is not BIER's or has no vectors, or if the two can't be compared.
    """
    mine = _found(request, split)
    other = None if baseline is None else _found(baseline, split)
    _check(request, baseline)
    rows = [
        {
            "measure": measure,
            request.run: getattr(mine, name),
            **({baseline.run: getattr(other, name)} if baseline else {}),
            **(
                {"reduction_percent": 100 * reduction(getattr(mine, name), getattr(other, name))}
                if baseline
                else {}
            ),
        }
        for measure, name in MEASURES.items()
    ]
    paths = write_heat_map(request, mine, split)
    if baseline is not None and other is not None:
        paths |= {f"baseline_{name}": path for name, path in write_heat_map(baseline, other, split).items()}
    answer = {"run": request.run, "baseline": baseline and baseline.run, "split": split, "rows": rows}
    Store(request.storage).run(request.run).write(f"correlation-{split}.json", answer)
    return {**answer, "images": mine.images, "constant_dimensions": mine.constant, "paths": paths}


def write_heat_map(request: LaunchRequest, found: Correlation, split: str) -> dict[str, str]:
    """Puts the heat map into the run folder; the paths, by kind."""
    assert request.bier is not None
    store = Store(request.storage)
    run, paths = store.run(request.run), {}
    for kind, data in heat_map(found.table, request.bier.sizes, heat_title(request)).items():
        name = run / f"plots/correlation-{split}.{kind}"
        store.files.put(name, data)
        paths[kind] = store.files.path(name)
    return paths


def _found(request: LaunchRequest, split: str) -> Correlation:
    if request.bier is None or len(request.bier.sizes) < 2:
        raise UsageError(f"{request.run} has no learners to compare: it takes a run of muster launch bier.")
    store = Store(request.storage)
    prepared = prepare(request, store, None)
    targets = {} if prepared is None else {target.split: target for target in prepared.targets}
    if prepared is None or split not in targets:
        raise UsageError(f"{request.run} has no vectors of {split}: muster resume {request.run}.")
    answer = store.run(request.run).read("answer.json") or {}
    how = {"weights": answer.get("weights", "none"), "precision": answer.get("precision", "fp32")}
    (task,) = make_plan(request, store, prepared, **how).tasks
    raw = member_vectors(store, task.key, targets[split].digest)
    return correlation(raw, request.bier.sizes)


def _check(request: LaunchRequest, baseline: LaunchRequest | None) -> None:
    if baseline is None or request.bier is None or baseline.bier is None:
        return
    if baseline.bier.sizes != request.bier.sizes:
        raise UsageError(
            f"{baseline.run} has learners of {baseline.bier.sizes}, {request.run} of {request.bier.sizes}: a reduction "
            "compares the same sizes."
        )
    if baseline.data != request.data:
        raise UsageError(
            f"{baseline.run} and {request.run} are of other data: a reduction compares the same images."
        )
