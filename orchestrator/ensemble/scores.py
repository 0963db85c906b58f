"""What became of ensembles: which members are there, and their scores, computed on the cluster or kept from before."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from muster.orchestrator.ensemble.plan import PlannedEnsemble
from muster.orchestrator.ensemble.requests import EnsembleResult
from muster.orchestrator.fleet.budget import taken
from muster.orchestrator.records.scores import near_tie_text
from muster.orchestrator.settings.request import LaunchRequest
from muster.orchestrator.settings.resources import parse_bytes
from muster.orchestrator.vectors.evaluate import OnGpu, evaluate_on_ray
from muster.orchestrator.vectors.protocols import draws_of, recall_at
from muster.orchestrator.vectors.queries import queries_name
from muster.orchestrator.vectors.vectors import content_of
from muster.workers.errors import CorruptFileError
from muster.workers.score.metrics import BY_RANK
from muster.workers.store.layout import Store
from muster.workers.store.runs import RunFolder
from muster.workers.task import MemberTask, Target, read_history

if TYPE_CHECKING:
    from muster.orchestrator.fleet.client import FleetClient
    from muster.orchestrator.fleet.work import Outcome

#: Ensembles that are scored at the same time; Ray shares the cores out.
AT_ONCE = 4
#: The scores of an ensemble by split, kept by the digest of what they depend on.
Kept = dict[str, dict[str, Any]]


def result_of(ensemble: PlannedEnsemble, outcomes: Mapping[str, Outcome]) -> EnsembleResult:
    """What became of an ensemble, without scores. Members of which nothing was heard are there."""
    lost = {key for key, outcome in outcomes.items() if not outcome.in_store}
    done = tuple(task for task in ensemble.tasks if task.key not in lost)
    trouble = ensemble.trouble
    if ensemble.tasks and not done:
        causes = dict.fromkeys(outcomes[key].message.split("\n")[0] for key in ensemble.keys)
        trouble = f"no member was trained: {'; '.join(causes)}"
    return EnsembleResult(
        request=ensemble.request,
        prepared=ensemble.prepared,
        tasks=ensemble.tasks,
        members=done,
        trouble=trouble,
    )


def score_all(
    ensembles: Sequence[PlannedEnsemble], client: FleetClient, kept: Kept
) -> dict[str, EnsembleResult]:
    """What became of each ensemble, by name, with the scores of its test split. New ones are added to `kept`.

    Raises MusterError if vectors are damaged again and again.
    """

    def scored_now(ensemble: PlannedEnsemble) -> EnsembleResult:
        return scored(result_of(ensemble, client.outcomes), ["test"], client.store, kept, client.on_gpu)

    def score(ensemble: PlannedEnsemble) -> EnsembleResult:
        return client.repaired(functools.partial(scored_now, ensemble), ensemble.tasks)

    results = [(ensemble, result_of(ensemble, client.outcomes)) for ensemble in ensembles]
    # Two ensembles may want the very same scores.
    different = {digest_of(_identity(one, ["test"])): ensemble for ensemble, one in results if one.members}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(score, different.values()))
    return {ensemble.request.name: score(ensemble) for ensemble in ensembles}


def scored(
    result: EnsembleResult,
    splits: Sequence[str],
    store: Store,
    kept: Kept,
    on_gpu: OnGpu | None = None,
    run: RunFolder | None = None,
) -> EnsembleResult:
    """With its `metrics`, if it has any member. New scores are added to `kept`; what each query found is written to the
    folder of the `run`, if one is given. `on_gpu`: the fleet's, for what GPUs had better compute. Raises DamagedMember.
    """
    if not result.members:
        return result
    identity = _identity(result, splits)
    found = kept.get(digest_of(identity))
    keys = [task.key for task in result.members]

    def content(split: str) -> str:
        return content_of(store, result.target(split), keys)

    # Members that were trained again may have other vectors under the same keys; older scores don't say whose they are.
    if found is None or any(
        "vectors" in found[one] and found[one]["vectors"] != content(one) for one in splits
    ):
        found = {
            one: {**_evaluated(result, one, store, on_gpu, run), "vectors": content(one)} for one in splits
        }
        kept[digest_of(identity)] = found
    done, asked = len(result.members), len(result.tasks)
    missing = [str(task.spec.index) for task in result.tasks if task not in result.members]
    metrics = {
        "identity": identity,
        "ks": identity["ks"],
        "splits": found,
        "state": "done" if done == asked else f"partial {done} of {asked}",
        "warnings": [
            *(result.prepared.warnings if result.prepared else ()),
            *([f"{done} of {asked} members: without {', '.join(missing)}."] if missing else []),
            *filter(None, (near_tie_text(one["curve"], one["queries"]) for one in found.values())),
            *result.request.launch.settings.doubts(
                result.request.launch.ensemble, histories(store, result.members)
            ),
        ],
        "device_seconds": taken(store, result.members, result.request.launch.resources),
    }
    return replace(result, metrics=metrics)


def histories(store: Store, tasks: Sequence[MemberTask]) -> list[list[dict[str, Any]]]:
    """The rows of history of finished models; a damaged one is left out, and told of in the report."""
    found = []
    for task in tasks:
        folder = store.model(task.key)
        with contextlib.suppress(CorruptFileError):
            if (done := folder.done()) is not None:
                found.append(read_history(folder, done))
    return found


def keep(metrics: Mapping[str, Any]) -> Kept:
    """Scores that were found before, of one ensemble."""
    return {digest_of(metrics["identity"]): metrics["splits"]}


def scores_identity(
    request: LaunchRequest, targets: Sequence[Target], members: Sequence[str]
) -> dict[str, Any]:
    """What scores depend on: they are computed again only if this changes."""
    digests = {target.split: target.digest for target in targets}
    found = {
        "members": list(members), "embeddings": digests, "ks": list(recall_at(request)),
        "nmi": request.resources.nmi, "version": 1,
    }  # fmt: skip
    if draws := draws_of(request.data):
        found["draws"] = draws
    if (combination := request.settings.combination) is not None:
        found["combine"] = combination.how
    if added := [metric.name for metric in BY_RANK if metric.added]:
        found["metrics"] = added
    return found


def _identity(result: EnsembleResult, splits: Sequence[str]) -> dict[str, Any]:
    targets = [result.target(split) for split in splits]
    return scores_identity(result.request.launch, targets, [task.key for task in result.members])


def digest_of(identity: Mapping[str, Any]) -> str:
    """What scores are kept under."""
    return json.dumps(identity, sort_keys=True)


def _evaluated(
    result: EnsembleResult, split: str, store: Store, on_gpu: OnGpu | None, run: RunFolder | None
) -> dict[str, Any]:
    launch = result.request.launch
    return evaluate_on_ray(
        store,
        result.target(split),
        result.members,
        recall_at(launch),
        memory=parse_bytes(launch.resources.eval_memory),
        nmi=launch.resources.nmi,
        combination=launch.settings.combination,
        draws=draws_of(launch.data),
        queries="" if run is None else run / queries_name(split),
        on_gpu=on_gpu,
    )
