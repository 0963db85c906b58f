"""`--dry-run`: what a launch would train and what it would cost, without starting or writing anything."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from orchestrator.plan import check_listing, make_plan, prepare
from orchestrator.spec import LaunchRequest
from workers.errors import UsageError
from workers.packing import estimated_bytes
from workers.pixels import ResizeRule
from workers.store import Store


def preview(request: LaunchRequest) -> dict[str, Any]:
    """`sentence` for people and `rows`: a row for each step. Raises UsageError for all that launch would."""
    _, splits = check_listing(request)
    store = Store(request.storage)
    rows = [
        {"what": f"{name} split", "value": f"{len(split.items)} images, {len(split.class_names)} classes"}
        for name, split in splits.items()
    ]
    prepared = prepare(request, store, None)
    asked = request.ensemble.L
    if prepared is None:
        size = sum(
            estimated_bytes(splits[name], ResizeRule.parse(rule.resize))
            for name, rule in (("train", request.recipe), ("test", request.view))
        )
        rows.append({"what": "packing", "value": f"about {size / 1e6:.0f} MB{_free(store)}"})
        sentence = (
            f"{asked} members: {asked} to train after packing, cost unknown until the images are packed."
        )
        return {"run": request.run, "sentence": sentence, "rows": rows, "asked": asked, "to_train": asked}
    if request.ensemble.weights != "none":
        raise UsageError(
            "--dry-run can't name the members' keys before their initial weights are in the store."
        )
    precision = "fp32" if request.ensemble.precision == "auto" else request.ensemble.precision
    plan = make_plan(request, store, prepared, weights="none", precision=precision)
    rows.append({"what": "packs", "value": f"in the store, {prepared.facts['pack_bytes']} bytes"})
    for task in plan.tasks:
        state = "to train" if task.key in plan.to_train else "in the store"
        rows.append({"what": f"member {task.spec.index}", "value": f"{task.key} {state}"})
    return {
        "run": request.run, "sentence": plan.sentence(), "rows": rows, "asked": asked, "to_train": len(plan.to_train),
        "device_seconds": plan.seconds_each and plan.seconds_each * len(plan.to_train),
    }  # fmt: skip


def _free(store: Store) -> str:
    if store.files.local_root is None:
        return ""
    folder = next(
        parent for parent in [store.files.local_root, *store.files.local_root.parents] if parent.exists()
    )
    return f", {shutil.disk_usage(Path(folder)).free / 1e9:.0f} GB free"
