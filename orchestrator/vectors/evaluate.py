"""An ensemble's scores at every size: as Ray tasks in a run, or in this process from the store alone.

Recall and MAP@R come from one pass over the members for all L (`muster.workers.score.retrieval`); NMI has no such form
and is computed at L = 1, 2, 4, ... and the last, a task each.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from muster.orchestrator.vectors.learners import learner_scores
from muster.orchestrator.vectors.protocols import mean_curve
from muster.orchestrator.vectors.queries import query_table
from muster.orchestrator.vectors.questions import protocols_of, roles_of
from muster.orchestrator.vectors.vectors import images_of, member_vectors
from muster.workers.packs.pack import PackIndex, Part
from muster.workers.score.combine import Combination
from muster.workers.score.metrics import RECALL
from muster.workers.score.protocol import Protocol
from muster.workers.store.layout import Store
from muster.workers.store.parquet import table_bytes
from muster.workers.task import MemberTask, Target

if TYPE_CHECKING:
    from muster.workers.score.ranking import PrefixScore

MOST_THREADS = 8
#: Members that are scored by themselves, of as many as there are; fewer say nothing of how they differ.
MOST_ALONE, LEAST_ALONE = 8, 3
NMI_SEED = 0
NMI_ITERATIONS = 100
NMI_RESTARTS = 5


def evaluate_on_ray(
    store: Store,
    target: Target,
    members: Sequence[MemberTask],
    ks: Sequence[int],
    *,
    memory: int,
    nmi: bool,
    combination: Combination | None = None,
    draws: int = 0,
    queries: str = "",
) -> dict[str, Any]:
    """The curve over L of a split's members, in index order: `curve` (a row for each L), `near_ties` and `lone`.

    A model with learners has one row, and what `learner_scores` finds of them. With `draws` above 0 the scores are
    means over so many random galleries. Shares are in 0..1. What each query finds is written to the file `queries` of
    the store, if one is named: see `query_table`. Raises DamagedMember.
    """
    keys = [task.key for task in members]
    import ray

    cores = max(1, *(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]))
    threads = min(MOST_THREADS, cores)
    score: Any = ray.remote(num_cpus=threads, max_retries=3)(prefix_scores)
    cluster: Any = ray.remote(num_cpus=1, max_retries=3)(prefix_nmi)
    scores = score.remote(store.root, target, keys, list(ks), memory, threads, combination, draws, queries)
    # The largest first: it takes the longest.
    sizes = sorted(nmi_schedule(len(keys)), reverse=True) if nmi else []
    clusterings = {size: cluster.remote(store.root, target, keys[:size], combination) for size in sizes}
    found: dict[str, Any] = ray.get(scores)
    return _with_nmi(found, {size: ray.get(reference) for size, reference in clusterings.items()})


def evaluate_here(
    store: Store,
    target: Target,
    keys: list[str],
    ks: Sequence[int],
    *,
    memory: int,
    nmi: bool,
    combination: Combination | None = None,
    draws: int = 0,
) -> dict[str, Any]:
    """The same in this process, with all its cores: no cluster is needed. Raises DamagedMember."""
    import torch

    threads = torch.get_num_threads()
    found = prefix_scores(store.root, target, keys, list(ks), memory, threads, combination, draws)
    sizes = nmi_schedule(len(keys)) if nmi else []
    return _with_nmi(
        found, {size: prefix_nmi(store.root, target, keys[:size], combination) for size in sizes}
    )


def _with_nmi(found: dict[str, Any], values: dict[int, float]) -> dict[str, Any]:
    return {**found, "curve": [{**row, "nmi": values.get(row["L"])} for row in found["curve"]]}


def nmi_schedule(members: int) -> list[int]:
    """The ensemble sizes at which NMI is computed."""
    from muster.workers.score import nmi as clustering

    return list(clustering.nmi_schedule(members))


def protocol_of(store: Store, target: Target) -> Protocol:
    """Which images ask and which answer: all of them each way, or the roles that the data set gives."""
    return _protocols(*images_of(store, target))[0]


def _protocols(index: PackIndex, part: Part, draws: int = 0) -> list[Protocol]:
    return protocols_of(part.labels, roles_of(index, part), draws)


def prefix_scores(
    root: str,
    target: Target,
    keys: list[str],
    ks: list[int],
    memory: int,
    threads: int,
    combination: Combination | None = None,
    draws: int = 0,
    queries: str = "",
) -> dict[str, Any]:
    """Recall@K, MAP@R and R-precision of every prefix, with so many threads; see `evaluate_on_ray`."""
    import torch

    from muster.workers.score.queries import QueryRecord
    from muster.workers.score.retrieval import prefix_curve

    torch.set_num_threads(threads)
    store = Store(root)
    index, part = images_of(store, target)
    protocols = _protocols(index, part, draws)
    records = [QueryRecord(one, nmi_schedule(len(keys))) for one in protocols] if queries else []
    with tempfile.TemporaryDirectory(prefix="muster-vectors-") as scratch:
        vectors = all_vectors(store, target, keys, memory, Path(scratch), combination)
        hits = np.zeros((len(keys), len(protocols[0].query)), np.bool_)
        scored = [
            prefix_curve(vectors, one, ks, map_at_r=True, memory=memory, record=record, hits=hits)
            for one, record in itertools.zip_longest(protocols, records)
        ]
        sure = {} if draws else _sureness(vectors, protocols[0], min(ks), scored[0], hits, memory)
    if queries:
        found_by = query_table(index.table.take(pa.array(part.rows)), protocols, records)
        store.files.put(queries, table_bytes(found_by, compression="zstd"))
    curve = mean_curve([[score.full_row for score in scores] for scores in scored])
    lone = {"queries": protocols[0].lone_queries, "classes": list(protocols[0].lone_classes)}
    asked = scored[0][-1].queries  # as many in each draw
    found = {"curve": curve, "near_ties": curve[-1]["near_ties"], "queries": asked, "lone": lone, **sure}
    if combination is None:
        return found
    raw = member_vectors(store, keys[0], target.digest)
    return {**found, **learner_scores(raw, combination.sizes, protocols[0], ks, memory)}


def _sureness(
    vectors: Sequence[np.ndarray],
    protocol: Protocol,
    k: int,
    scored: Sequence[PrefixScore],
    hits: np.ndarray,
    memory: int,
) -> dict[str, Any]:
    """How sure recall@k is: `interval`, of each size over the classes; and `gain`, over some members, of what the
    ensemble finds more than one of them alone."""
    from muster.workers.score.interval import SHARE, over_classes, over_members
    from muster.workers.score.retrieval import prefix_curve

    asked = protocol.references > 0
    edges = over_classes(hits[:, asked], protocol.labels[protocol.query[asked]])
    rows = [
        {"L": one.members, "low": low, "high": high} for one, (low, high) in zip(scored, edges, strict=True)
    ]
    found: dict[str, Any] = {
        "interval": {"of": f"{RECALL}{k}", "share": SHARE, "over": "classes", "rows": rows}
    }
    places = np.unique(np.linspace(0, len(vectors) - 1, min(len(vectors), MOST_ALONE)).astype(int))
    if len(places) >= LEAST_ALONE:
        alone = [scored[0].recall[k]]
        alone += [prefix_curve([vectors[i]], protocol, [k], memory=memory)[0].recall[k] for i in places[1:]]
        whole = scored[-1].recall[k]
        low, high = over_members(whole, np.array(alone))
        gain = {
            "of": f"{RECALL}{k}",
            "share": SHARE,
            "over": "members",
            "members": [int(i) + 1 for i in places],
        }
        found["gain"] = {
            **gain,
            "alone": alone,
            "mean": whole - float(np.mean(alone)),
            "low": low,
            "high": high,
        }
    return found


def all_vectors(
    store: Store,
    target: Target,
    keys: list[str],
    memory: int,
    scratch: Path,
    combination: Combination | None = None,
) -> list[np.ndarray]:
    """Every member's vectors; in files mapped into memory where together they exceed `memory` bytes."""
    vectors: list[np.ndarray] = []
    for key in keys:
        found = member_vectors(store, key, target.digest, combination=combination)
        if found.nbytes * len(keys) > memory:
            np.save(scratch / f"{key}.npy", found)
            found = np.load(scratch / f"{key}.npy", mmap_mode="r")
        vectors.append(found)
    return vectors


def prefix_nmi(root: str, target: Target, keys: list[str], combination: Combination | None = None) -> float:
    """NMI of one ensemble, with one thread: the result may depend on their number. Raises DamagedMember."""
    import faiss

    from muster.workers.score.nmi import nmi

    faiss.omp_set_num_threads(1)
    store = Store(root)
    labels = protocol_of(store, target).labels
    parts = [member_vectors(store, key, target.digest, combination=combination) for key in keys]
    vectors = np.concatenate(parts, axis=1)
    return float(nmi(vectors, labels, NMI_SEED, iterations=NMI_ITERATIONS, restarts=NMI_RESTARTS))
