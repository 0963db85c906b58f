"""An ensemble's scores at every size: in a run on a GPU that the fleet lends or as Ray tasks, or in this process from
the store alone.

Recall and MAP@R come from one pass over the members for all L (`muster.workers.score.retrieval`); NMI has no such form
and is computed at L = 1, 2, 4, ... and the last, on CPUs a task each.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

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
from muster.workers.score.nmi import nmi_schedule
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
#: What a CPU does of either in a second, and for how many seconds of its work a GPU is worth the start of a process on
#: it. Rough: it only decides where scores are computed.
PRODUCTS_A_SECOND, CLUSTERING_A_SECOND, WORTH_SECONDS = 5e10, 5e9, 20.0
#: A member costs as much as so many dimensions more: its similarities are gone through once to be ranked.
RANKED_AS = 30
#: Between two looks at whether the node is still there that scores need.
LOOK_SECONDS = 5.0
#: Threads of a process that scores on a GPU.
THREADS_BESIDE = 2

#: Calls a function on a GPU in a process of its own, with `device`, and returns what it returns; None where none is to
#: be had, or where it failed: then CPUs do the work.
OnGpu = Callable[..., Any]
Found = TypeVar("Found")


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
    on_gpu: OnGpu | None = None,
) -> dict[str, Any]:
    """The curve over L of a split's members, in index order: `curve` (a row for each L), `near_ties` and `lone`.

    A model with learners has one row, and what `learner_scores` finds of them. With `draws` above 0 the scores are
    means over so many random galleries. Shares are in 0..1. What each query finds is written to the file `queries` of
    the store, if one is named: see `query_table`. With `on_gpu`, large ones are computed there, and `scored_on` names
    the GPU. Raises DamagedMember.
    """
    keys = [task.key for task in members]
    if on_gpu is not None:
        dimensions = [task.spec.dimension for task in members]
        if cpu_seconds(protocol_of(store, target), dimensions, max(1, draws), nmi=nmi) >= WORTH_SECONDS:
            how = {
                "memory": memory,
                "nmi": nmi,
                "combination": combination,
                "draws": draws,
                "queries": queries,
            }
            if (there := on_gpu(scores_on_gpu, store.root, target, keys, list(ks), how)) is not None:
                return dict(there)
    import ray

    cluster: Any = ray.remote(num_cpus=1, max_retries=3)(prefix_nmi)
    # The largest first: it takes the longest.
    sizes = sorted(nmi_schedule(len(keys)), reverse=True) if nmi else []
    clusterings = {size: cluster.remote(store.root, target, keys[:size], combination) for size in sizes}
    found = on_most_cores(
        prefix_scores,
        lambda threads: (store.root, target, keys, list(ks), memory, threads, combination, draws, queries),
    )
    return _with_nmi(found, {size: ray.get(reference) for size, reference in clusterings.items()})


def on_most_cores(work: Callable[..., Found], args: Callable[[int], tuple[Any, ...]]) -> Found:
    """What `work` returns in a task of Ray with these arguments for so many threads: those of the largest node. Where
    that is lost the task would wait for ever for another one as large, and is asked for anew."""
    import ray

    while True:
        threads = _threads()
        task: Any = ray.remote(num_cpus=threads, max_retries=3)(work)
        running = task.remote(*args(threads))
        while _threads() >= threads:
            if ray.wait([running], timeout=LOOK_SECONDS)[0]:
                found: Found = ray.get(running)
                return found
        ray.cancel(running)


def _threads() -> int:
    """Those of a process that scores, on the largest node that there is now."""
    import ray

    cores = (int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    return min(MOST_THREADS, max(1, *cores))


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
    queries: str = "",
    threads: int | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """The same in this process: no cluster is needed. `threads`: None takes all its cores. Raises DamagedMember."""
    import torch

    most = threads or torch.get_num_threads()
    found = prefix_scores(
        store.root, target, keys, list(ks), memory, most, combination, draws, queries, device=device
    )
    sizes = nmi_schedule(len(keys)) if nmi else []
    return _with_nmi(
        found,
        {size: prefix_nmi(store.root, target, keys[:size], combination, device=device) for size in sizes},
    )


def cpu_seconds(protocol: Protocol, dimensions: Sequence[int], draws: int, *, nmi: bool) -> float:
    """About how long a CPU would score members of so many dimensions."""
    pairs = len(protocol.query) * len(protocol.gallery)
    scoring = 2 * pairs * draws * sum(size + RANKED_AS for size in dimensions) / PRODUCTS_A_SECOND
    if not nmi:
        return scoring
    images, classes = len(protocol.labels), len(np.unique(protocol.labels))
    clustered = sum(sum(dimensions[:size]) for size in nmi_schedule(len(dimensions)))
    rounds = NMI_ITERATIONS * NMI_RESTARTS
    return scoring + 2 * images * classes * clustered * rounds / CLUSTERING_A_SECOND


def scores_on_gpu(
    root: str, target: Target, keys: list[str], ks: Sequence[int], how: Mapping[str, Any], *, device: str
) -> dict[str, Any]:
    """What `evaluate_on_ray` finds, computed on the device of this process."""
    found = evaluate_here(Store(root), target, keys, ks, threads=THREADS_BESIDE, device=device, **how)
    return {**found, "scored_on": device_name(device)}


def device_name(device: str) -> str:
    """As its driver calls it."""
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _with_nmi(found: dict[str, Any], values: dict[int, float]) -> dict[str, Any]:
    return {**found, "curve": [{**row, "nmi": values.get(row["L"])} for row in found["curve"]]}


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
    *,
    device: str = "cpu",
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
            prefix_curve(
                vectors, one, ks, map_at_r=True, memory=memory, record=record, hits=hits, device=device
            )
            for one, record in itertools.zip_longest(protocols, records)
        ]
        sure = {} if draws else _sureness(vectors, protocols[0], min(ks), scored[0], hits, memory, device)
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
    return {**found, **learner_scores(raw, combination.sizes, protocols[0], ks, memory, device)}


def _sureness(
    vectors: Sequence[np.ndarray],
    protocol: Protocol,
    k: int,
    scored: Sequence[PrefixScore],
    hits: np.ndarray,
    memory: int,
    device: str,
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
        alone += [
            prefix_curve([vectors[i]], protocol, [k], memory=memory, device=device)[0].recall[k]
            for i in places[1:]
        ]
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


def prefix_nmi(
    root: str,
    target: Target,
    keys: list[str],
    combination: Combination | None = None,
    *,
    device: str = "cpu",
) -> float:
    """NMI of one ensemble, on a CPU with one thread: the result may depend on their number. Raises DamagedMember."""
    from muster.workers.score.nmi import nmi

    if device == "cpu":
        import faiss

        faiss.omp_set_num_threads(1)
    store = Store(root)
    labels = protocol_of(store, target).labels
    parts = [member_vectors(store, key, target.digest, combination=combination) for key in keys]
    vectors = np.concatenate(parts, axis=1)
    found = nmi(vectors, labels, NMI_SEED, iterations=NMI_ITERATIONS, restarts=NMI_RESTARTS, device=device)
    return float(found)
