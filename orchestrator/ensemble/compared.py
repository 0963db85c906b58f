"""A model beside the runs that it was trained from: their curves, and what it takes to embed an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from muster.orchestrator.ensemble.plan import input_tasks
from muster.orchestrator.ensemble.requests import EnsembleResult
from muster.orchestrator.records.scores import recall_ks
from muster.orchestrator.report.page import Reference
from muster.workers.store.layout import Store
from muster.workers.task import MemberTask


def references(store: Store, result: EnsembleResult) -> list[Reference]:
    """The runs that the models of `result` were trained from, as far as their scores are in the store."""
    if result.prepared is None or result.metrics is None:
        return []
    mine = result.metrics["splits"]["test"]["curve"][-1]
    speed = _images_per_s(store, result.members, result.target("test").digest)
    found = []
    for one in result.prepared.inputs:
        metrics = store.run(one.launch.run).read("metrics.json", "identity", "splits")
        if metrics is None:
            continue
        curve, tasks = metrics["splits"]["test"]["curve"], input_tasks(one)
        theirs = _images_per_s(store, tasks, metrics["identity"]["embeddings"]["test"])
        text = _sentence(one.launch.run, mine, curve[-1], len(result.members), len(tasks), speed, theirs)
        found.append(Reference(one.launch.run, curve, text))
    return found


def _sentence(
    name: str,
    mine: dict[str, Any],
    theirs: dict[str, Any],
    networks: int,
    of: int,
    speed: float | None,
    their_speed: float | None,
) -> str:
    k = min(recall_ks([mine]))
    share = mine[f"recall_at_{k}"] / theirs[f"recall_at_{k}"] if theirs[f"recall_at_{k}"] else 0.0
    text = f"{100 * share:.1f} % of {name}'s recall@{k} at {networks}/{of} of its networks for each image"
    if speed is None or their_speed is None:
        return f"{text}."
    return f"{text}: {speed:,.0f} images/s embedded, where {name} embeds {their_speed:,.0f}."


def _images_per_s(store: Store, tasks: Sequence[MemberTask], digest: str) -> float | None:
    """Images that all networks together embed in a second, as it was measured; None if one was not."""
    seconds = 0.0
    for task in tasks:
        done = store.model(task.key).embedding(digest).done()
        measured = 0.0 if done is None else float(done.facts.get("images_per_s", 0))
        if not measured:
            return None
        seconds += 1 / measured
    return 1 / seconds if seconds else None
