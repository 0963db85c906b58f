"""`--dry-run`: what a launch would train and what it would cost, without starting or writing anything."""

from __future__ import annotations

import shutil
from typing import Any

from muster.orchestrator.ensemble.checks import check_here
from muster.orchestrator.ensemble.plan import (
    counted_members,
    make_plan,
    prepare_ensembles,
    refuse_troubles,
    settle_members,
)
from muster.orchestrator.ensemble.requests import EnsembleRequest
from muster.orchestrator.machine.places import refuse_no_store, unwritable
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.methods.registry import METHODS
from muster.workers.packs.build import estimated_bytes
from muster.workers.packs.pack import ResizeRule
from muster.workers.quantities import bytes_text
from muster.workers.store.layout import Store


def preview(request: LaunchRequest) -> dict[str, Any]:
    """`sentence` for people and `rows`: a row for each step. Raises UsageError for all that launch would."""
    store = Store(request.storage)
    refuse_no_store(store)
    splits, weights = check_here(request, store)
    rows = [
        {"what": f"{name} split", "value": f"{len(split.items)} images, {len(split.class_names)} classes"}
        for name, split in splits.items()
    ]
    ensembles = prepare_ensembles([EnsembleRequest(launch=request)], store, None)
    refuse_troubles(ensembles)
    (ensemble,) = ensembles
    prepared = ensemble.prepared
    asked = request.ensemble.L
    members = counted_members(asked, one=not METHODS[request.method].ensemble)
    if prepared is None:
        size = sum(
            estimated_bytes(splits[name], ResizeRule.parse(rule.resize))
            for name, rule in (("train", request.recipe), ("test", request.view))
        )
        rows.append({"what": "packing", "value": f"about {bytes_text(size)}{_free(store)}"})
        rows += _warning(store)
        sentence = f"{members}: {asked} to train after packing, cost unknown until the images are packed."
        return {"run": request.run, "sentence": sentence, "rows": rows, "asked": asked, "to_train": asked}
    rows.append(
        {"what": "packs", "value": f"in the store, {bytes_text(int(str(prepared.facts['pack_bytes'])))}"}
    )
    if weights is None:
        sentence = f"{members}: what the store has of them is not known until ImageNet's weights are fetched."
        return {"run": request.run, "sentence": sentence, "rows": rows, "asked": asked, "to_train": asked}
    precision = "fp32" if request.ensemble.precision == "auto" else request.ensemble.precision
    settle_members(ensembles, lambda _: (weights, precision))
    refuse_troubles(ensembles)
    plan = make_plan(ensembles, store)
    if plan.to_train or plan.to_embed:
        rows += _warning(store)
    for task in ensemble.tasks:
        state = "to train" if task.key in plan.to_train else "in the store"
        rows.append({"what": f"member {task.spec.index}", "value": f"{task.key} {state}"})
    return {
        "run": request.run, "sentence": plan.cost.sentence(members, "it"), "rows": rows, "asked": asked,
        "to_train": plan.cost.to_train, "device_seconds": plan.cost.device_seconds or None,
    }  # fmt: skip


def _warning(store: Store) -> list[dict[str, Any]]:
    """A row that says why nothing could be written, if it is so: a plan only reads."""
    problem = unwritable(store)
    return [{"what": "warning", "value": problem}] if problem else []


def _free(store: Store) -> str:
    if store.files.local_root is None:
        return ""
    return f", {bytes_text(shutil.disk_usage(store.files.nearest_folder()).free)} free"
