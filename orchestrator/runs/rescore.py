"""Scores of a run's finished members, computed again from the store, in this process."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from muster.orchestrator.ensemble.floors import kept_floors
from muster.orchestrator.ensemble.plan import member_tasks, prepare
from muster.orchestrator.ensemble.terms import known_terms
from muster.orchestrator.records.scores import near_tie_text
from muster.orchestrator.settings.parse import replaced
from muster.orchestrator.settings.request import LaunchRequest
from muster.orchestrator.settings.resources import parse_bytes
from muster.orchestrator.vectors.evaluate import evaluate_here
from muster.orchestrator.vectors.protocols import draws_of, protocol_text
from muster.orchestrator.vectors.protocols import recall_at as usual_recall_at
from muster.orchestrator.vectors.vectors import forgetting, has_vectors
from muster.workers.errors import UsageError
from muster.workers.store.layout import Store


def with_protocol(request: LaunchRequest, protocol: str | None, repeats: int | None) -> LaunchRequest:
    """The request, to be scored with another protocol (None: its own). Raises UsageError."""
    given = {"vehicleid_protocol": protocol, "repeats": repeats}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if not changes:
        return request
    if request.data.dataset != "vehicleid":
        raise UsageError(
            f"--vehicleid-protocol, --repeats: the data set of {request.run} is {request.data.dataset}."
        )
    if protocol not in {None, "self", "reid"}:
        raise UsageError(f"--vehicleid-protocol {protocol}: there are self, reid.")
    if protocol == "self":
        changes.setdefault("repeats", 10)
    return replace(request, name=request.run, data=replaced(request.data, changes, "--"))


def rescore(
    request: LaunchRequest, split: str, recall_at: str | None, memory: str, nmi: bool
) -> dict[str, Any]:
    """The curve of a split over the members that the store has, in index order.

    Raises UsageError for a wrong option, or if the store lacks the run's packs or all of its vectors.
    """
    ks = _parse_ks(recall_at) if recall_at else usual_recall_at(request)
    if parse_bytes(memory) <= 0:
        raise UsageError(f"--eval-memory {memory}: write 512MB or 2GB.")
    store = Store(request.storage)
    prepared = prepare(request, store, None, extra=("train",) if split == "train" else ())
    if prepared is None:
        raise UsageError(
            f"The packed images of {request.run} are not in {request.storage}: muster resume {request.run}."
        )
    targets = {target.split: target for target in prepared.targets}
    if split not in targets:
        raise UsageError(f"--split {split}: this run has {', '.join([*targets, 'train'])}.")
    tasks = member_tasks(request, prepared, *known_terms(request, store.run(request.run)))
    digest = targets[split].digest
    with forgetting(store, digest, request.run):
        keys = [task.key for task in tasks if has_vectors(store, task.key, digest)]
    if not keys:
        raise UsageError(
            f"The store has no vectors of the {split} split: muster gather {request.run} --split {split}."
        )
    how: dict[str, Any] = {"combination": request.settings.combination, "draws": draws_of(request.data)}
    with forgetting(store, digest, request.run):
        found = evaluate_here(store, targets[split], keys, ks, memory=parse_bytes(memory), nmi=nmi, **how)
    floors = kept_floors(request, tasks, split, ks, store)
    ties = near_tie_text(found["curve"], found["queries"])
    state = "done" if len(keys) == len(tasks) else f"partial {len(keys)} of {len(tasks)}"
    return {
        "run": request.run,
        "split": split,
        "state": state,
        "protocol": protocol_text(request.data),
        "members": keys,
        "metrics": found["curve"][-1],
        **({"warnings": [ties]} if ties else {}),
        "message": f"{split}: {found['queries']} queries, {len(keys)} of {len(tasks)} members.",
        **found,
        **({"floors": floors} if floors else {}),
    }


def _parse_ks(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(re.fullmatch(r"\s*0*[1-9]\d{0,8}\s*", part) for part in parts):
        raise UsageError(f"--recall-at {text}: write whole numbers from 1 up, such as 1,2,4,8.")
    return tuple(sorted({int(part) for part in parts}))
