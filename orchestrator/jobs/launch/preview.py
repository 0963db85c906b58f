"""`--dry-run`: what a launch would train and what it would cost, without starting or writing anything."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from typing import Any

from muster.orchestrator.ensemble.plan import (
    counted_members,
    make_plan,
    planned_warnings,
    prepare_ensembles,
    settle_members,
)
from muster.orchestrator.ensemble.requests import EnsembleRequest
from muster.orchestrator.ensemble.terms import known_terms, place_here
from muster.orchestrator.machine.places import unwritable
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.datasets import OWN, Split
from muster.workers.names import first_and_last
from muster.workers.packs.build import estimated_bytes
from muster.workers.packs.pack import ResizeRule
from muster.workers.quantities import bytes_text
from muster.workers.store.files import nearest_folder
from muster.workers.store.layout import Store


def preview(
    request: LaunchRequest, store: Store, checked: tuple[Mapping[str, Split], str | None]
) -> dict[str, Any]:
    """`sentence` for people and `rows`: a row for each step. `checked` is what `check_ensemble` found."""
    splits, weights = checked
    rows = [
        {"what": f"{name} split", "value": f"{len(split.items)} images, {len(split.class_names)} classes"}
        for name, split in splits.items()
    ]
    if request.data.dataset in OWN and request.data.reading > 1:  # the user's own, so the names say much
        rows += [
            {"what": f"{name} classes", "value": first_and_last(split.class_names)}
            for name, split in splits.items()
        ]
    ensembles = prepare_ensembles([EnsembleRequest(launch=request)], store, None, all_needed=True)
    (ensemble,) = ensembles
    asked = request.ensemble.L
    members = counted_members(asked, one=request.one_model)
    rows += warning_rows(filter(None, [request.settings.fitted(request.preset)]))
    found = {"run": request.run, "sentence": "", "rows": rows, "asked": asked, "to_train": asked}
    if ensemble.prepared is None:
        size = sum(
            estimated_bytes(splits[name], ResizeRule.parse(rule.resize))
            for name, rule in (("train", request.recipe), ("test", request.view), ("val", request.view))
            if name in splits
        )
        rows += [{"what": "packing", "value": f"about {bytes_text(size)}{_free(store)}"}, *_warning(store)]
        rows += warning_rows(planned_warnings(ensembles))
        unknown = f"{asked} to train after packing, cost unknown until the images are packed."
        return {**found, "sentence": f"{members}: {unknown}"}
    packed = bytes_text(int(str(ensemble.prepared.facts["pack_bytes"])))
    rows.append({"what": "packs", "value": f"in the store, {packed}"})
    rows += warning_rows(planned_warnings(ensembles))
    if weights is None:
        unknown = "what the store has of them is not known until ImageNet's weights are fetched."
        return {**found, "sentence": f"{members}: {unknown}"}
    terms = known_terms(request, store.run(request.run), weights)
    settle_members(ensembles, lambda _: terms, all_needed=True)
    plan = make_plan(ensembles, store, lambda: place_here(request, store.run(request.run)))
    if plan.to_train or plan.to_embed:
        rows += _warning(store)
    for task in ensemble.tasks:
        state = "to train" if task.key in plan.to_train else "in the store"
        rows.append({"what": f"member {task.spec.index}", "value": f"{task.key} {state}"})
    sentence = plan.cost.sentence(members, "it")
    expected = {"to_train": plan.cost.to_train, **plan.cost.numbers}
    return {**found, "sentence": sentence, **expected}


def _warning(store: Store) -> list[dict[str, Any]]:
    """A row that says why nothing could be written, if it is so: a plan only reads."""
    problem = unwritable(store)
    return warning_rows([problem] if problem else [])


def warning_rows(texts: Iterable[str]) -> list[dict[str, Any]]:
    return [{"what": "warning", "value": text} for text in texts]


def _free(store: Store) -> str:
    root = store.files.local_root
    return "" if root is None else f", {bytes_text(shutil.disk_usage(nearest_folder(root)).free)} free"
