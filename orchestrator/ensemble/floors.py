"""Floors: what is found without any training. An ensemble whose scores are no better is worth nothing.

They are models of the store like others, made once for each data set and view: the fleet makes them after a run's
members, and their scores are kept beside their vectors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from muster.orchestrator.ensemble.requests import EnsembleResult
from muster.orchestrator.records.scores import percent, recall_ks
from muster.orchestrator.settings.request import LaunchRequest
from muster.orchestrator.settings.resources import parse_bytes
from muster.orchestrator.vectors.evaluate import evaluate_on_ray
from muster.orchestrator.vectors.protocols import draws_of, recall_at
from muster.orchestrator.vectors.vectors import content_of
from muster.workers.errors import DamagedMember
from muster.workers.methods.floor.settings import FloorSpec
from muster.workers.score.metrics import RECALL
from muster.workers.store import documents
from muster.workers.store.layout import Store
from muster.workers.store.records import parse_json, unvouched, vouched
from muster.workers.task import MemberTask, Target

if TYPE_CHECKING:
    from muster.orchestrator.fleet.client import FleetClient
    from muster.orchestrator.fleet.work import Outcome

#: Presets that go on from ImageNet's weights.
PUBLISHED = ("paper", "code")
#: What a last member adds, as a share, for a curve that is not at its end.
STILL_RISES = 0.005
#: Raised by hand when scores of floors change.
SCORES_VERSION = 1
#: The splits that have floors: on the images trained on nothing is asked that anybody wants to know.
SPLITS = ("test", "val")


def floor_tasks(request: LaunchRequest, tasks: Sequence[MemberTask]) -> tuple[MemberTask, ...]:
    """The floors of a run with these members; none where the request wants none."""
    if not request.resources.floors or not tasks:
        return ()
    example, member = tasks[0], tasks[0].spec
    how: dict[str, Any] = {"threads": member.threads, "deterministic": member.deterministic}
    specs = (
        FloorSpec(of="pixels", **how),
        FloorSpec(of="network", backbone=member.backbone, weights=member.weights, **how),
    )
    targets = tuple(target for target in example.targets if target.split in SPLITS)
    return tuple(MemberTask(spec=spec, train=example.train, targets=targets) for spec in specs)


def with_floors(result: EnsembleResult, floors: Sequence[MemberTask], client: FleetClient) -> dict[str, Any]:
    """The metrics of a result with the scores of its floors: `floors` of each split, a list with `name` and `curve`;
    and at the top, whether none is missing.

    A floor that could not be made, and one that the ensemble stays below, are told among the warnings. Raises
    DamagedMember.
    """
    request, metrics = result.request.launch, result.metrics or {}
    lost = _missing(floors, client.outcomes)
    scores = _scored(floors, request, client)
    splits = {
        name: {
            **{key: value for key, value in found.items() if key != "floors"},
            **({"floors": rows} if (rows := scores.get(name)) else {}),
        }
        for name, found in metrics["splits"].items()
    }
    warnings = [*metrics["warnings"], *lost]
    warnings += below_floors(splits["test"], request)
    whole = request.resources.floors and not lost
    return {**metrics, "splits": splits, "warnings": warnings, "floors": whole}


def made_floors(
    request: LaunchRequest, tasks: Sequence[MemberTask], client: FleetClient
) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """The floors of a run with these members, made by the fleet and scored: those of each split, as in `with_floors`;
    and which are missing, in words.

    Raises MusterError if vectors are damaged again and again.
    """
    floors = floor_tasks(request, tasks)
    if not floors:
        return {}, []
    client.train([("", list(floors))])

    found = client.repaired(lambda: _scored(floors, request, client), floors)
    return found, _missing(floors, client.outcomes)


def _scored(
    floors: Sequence[MemberTask], request: LaunchRequest, client: FleetClient
) -> dict[str, list[dict[str, Any]]]:
    """The rows of those that were made, for each split that they have. Raises DamagedMember."""
    made = [task for task in floors if client.outcomes[task.key].in_store]
    splits = [target.split for target in floors[0].targets] if floors else []
    return {split: [_floor(task, split, request, client) for task in made] for split in splits}


def kept_floors(
    request: LaunchRequest, tasks: Sequence[MemberTask], split: str, ks: Sequence[int], store: Store
) -> list[dict[str, Any]]:
    """The floors of a split as they were scored for a run with these members, where that was done for all of `ks`;
    nothing is computed."""
    found = []
    for task in floor_tasks(request, tasks):
        for target in task.targets:
            with contextlib.suppress(DamagedMember):
                kept = _kept(task, target, store) if target.split == split else None
                if kept is not None and kept["identity"] == _identity(task, target, request, store):
                    found.append(_row(task, kept))
    return found if set(ks) <= set(recall_at(request)) else []


def below_floors(test: Mapping[str, Any], request: LaunchRequest) -> list[str]:
    """What must be said where training was worth nothing."""
    if not (names := better_floors(test, request)):
        return []
    last = test["curve"][-1]
    k = min(recall_ks([last]))
    return [
        f"The result, recall@{k} {percent(last[f'{RECALL}{k}'])}, is no better than {names}: training was worth "
        f"nothing. {_cure(request)}{_more_members(test['curve'], f'{RECALL}{k}')}"
    ]


def better_floors(test: Mapping[str, Any], request: LaunchRequest) -> str:
    """The floors that a result is no better than, with their first recall; empty if it is better than all."""
    last = test["curve"][-1]
    recall = f"{RECALL}{min(recall_ks([last]))}"
    better = [floor for floor in test.get("floors", ()) if floor["curve"][-1][recall] >= last[recall]]
    if last[recall] == 1:
        return ""
    return " and ".join(
        f"{_said(floor['name'], request)} ({percent(floor['curve'][-1][recall])})" for floor in better
    )


def _missing(floors: Sequence[MemberTask], outcomes: Mapping[str, Outcome]) -> list[str]:
    """Which floors could not be made, in words."""
    ended = [outcomes[task.key] for task in floors]
    return [f"A floor is missing: {outcome.message}" for outcome in ended if not outcome.in_store]


def _cure(request: LaunchRequest) -> str:
    if request.ensemble.weights != "none":
        return "Train at a lower rate, so that less is lost of what the weights knew, or longer."
    preset = "with --preset scratch, " if request.preset in PUBLISHED else ""
    return f"Train longer, {preset}or from pretrained --weights."


def _more_members(curve: Sequence[Mapping[str, Any]], recall: str) -> str:
    """What else may help where the last member still added something."""
    if len(curve) < 2 or curve[-1][recall] - curve[-2][recall] < STILL_RISES:
        return ""
    return " The curve still rises with L: more members help, too."


def _said(floor: str, request: LaunchRequest) -> str:
    """A floor in a sentence."""
    if floor == "pixels":
        return "the pixels of the images"
    return (
        "the untrained network" if request.ensemble.weights == "none" else "the network before its training"
    )


def _floor(task: MemberTask, split: str, request: LaunchRequest, client: FleetClient) -> dict[str, Any]:
    """A floor's row: its scores as they are kept, or else computed and kept."""
    store = client.store
    (target,) = (one for one in task.targets if one.split == split)
    identity = _identity(task, target, request, store)
    kept = _kept(task, target, store)
    if kept is None or kept["identity"] != identity:
        memory = parse_bytes(request.resources.eval_memory)
        ks, how = identity["ks"], {"draws": identity["draws"], "on_gpu": client.on_gpu}
        scores = evaluate_on_ray(store, target, [task], ks, memory=memory, nmi=False, **how)
        kept = {"identity": identity, "scores": scores}
        store.files.put(_place(task, target, store), vouched(kept))
    return _row(task, kept)


def _row(task: MemberTask, kept: Mapping[str, Any]) -> dict[str, Any]:
    assert isinstance(task.spec, FloorSpec)
    return {"name": task.spec.of, "curve": kept["scores"]["curve"]}


def _identity(task: MemberTask, target: Target, request: LaunchRequest, store: Store) -> dict[str, Any]:
    """What a floor's scores depend on. Raises DamagedMember where its vectors are gone."""
    return {
        "ks": list(recall_at(request)), "draws": draws_of(request.data), "version": SCORES_VERSION,
        "vectors": content_of(store, target, [task.key]),
    }  # fmt: skip


def _place(task: MemberTask, target: Target, store: Store) -> str:
    return store.model(task.key).embedding(target.digest) / "scores.json"


def _kept(task: MemberTask, target: Target, store: Store) -> dict[str, Any] | None:
    """What a file of scores says; None where it is not there or can't be used: they are computed again."""
    try:
        found: dict[str, Any] = unvouched(parse_json(store.files.find(_place(task, target, store)) or b""))
        documents.check_form(found, documents.FLOOR)
    except ValueError:
        return None
    return found
