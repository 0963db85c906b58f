"""How well clusters of the embedding agree with the classes: NMI.

Owns the k-means settings and the score, and for GPUs the clustering, which faiss-cpu lacks. NMI has no form that grows
with an ensemble member by member, so it is computed afresh for a few sizes only. It never concatenates or normalises:
it takes the vectors that retrieval compares.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from muster.workers.errors import MusterError, UsageError
from muster.workers.rng import permutation

#: Similarities of so many bytes at once, on a GPU.
BLOCK_BYTES = 1 << 28
#: A cluster without a row is given half of a large one, by so little to this side and to that (as faiss does).
SPLIT = 1 / 1024


def nmi(
    vectors: np.ndarray,
    labels: np.ndarray,
    seed: int,
    iterations: int = 100,
    restarts: int = 5,
    device: str = "cpu",
) -> float:
    """NMI in 0 .. 1 of the classes and of k-means clusters, as many as there are classes.

    `vectors` float32 [N, D]: for an ensemble the concatenation of its members; `labels` integers [N]. The best of
    `restarts` runs of `iterations` rounds, started from `seed`: the same result each time on the same machine with
    the same number of threads. All N vectors are used, none is left out by sampling. The time grows with
    N * D * classes * iterations * restarts: seconds for CUB and Cars, hours for Stanford Online Products, which a GPU
    as `device` needs seconds for. It starts from other rows there, so its NMI is another draw of the same.
    Raises UsageError for arguments that don't fit together and MusterError for NaN or infinity.

    DREML section 4.2 reports NMI without these settings; published code runs 20 to 100 rounds, 1 to 5 times.
    """
    problems = []
    if vectors.ndim != 2 or vectors.dtype != np.float32 or vectors.shape[:1] != labels.shape:
        what = f"{vectors.dtype} of shape {list(vectors.shape)} for labels of shape {list(labels.shape)}"
        problems.append(f"nmi: the vectors are {what}; give float32 [N, D] and N labels.")
    if not np.issubdtype(labels.dtype, np.integer):
        problems.append(f"nmi: the labels are {labels.dtype}; give integers.")
    if iterations < 1 or restarts < 1:
        problems.append(f"nmi: iterations={iterations} and restarts={restarts} must be 1 or more.")
    if not problems and not len(labels):
        problems.append("nmi: there are no vectors to cluster.")
    if problems:
        raise UsageError(problems)
    k = len(np.unique(labels))
    if not np.isfinite(vectors.sum()):
        raise MusterError("nmi: the vectors hold NaN or infinity; retrieval names the member that does.")
    if device == "cpu":
        return nmi_of_clusters(_clusters(vectors, k, seed, iterations, restarts), labels)
    return nmi_of_clusters(clusters_on(device, vectors, k, seed, iterations, restarts), labels)


def _clusters(vectors: np.ndarray, k: int, seed: int, iterations: int, restarts: int) -> np.ndarray:
    """int64 [N]: the cluster of each vector, by faiss's k-means in Euclidean distance."""
    import faiss

    vectors = np.ascontiguousarray(vectors)
    kmeans = faiss.Kmeans(
        vectors.shape[1],
        k,
        niter=iterations,
        nredo=restarts,
        seed=seed % 2**31,  # faiss keeps 32 bits with a sign
        min_points_per_centroid=1,  # small classes are expected here and need no warning
        max_points_per_centroid=len(vectors),  # faiss would cluster a sample otherwise
    )
    kmeans.train(vectors)
    return kmeans.assign(vectors)[1]


def clusters_on(
    device: str, vectors: np.ndarray, k: int, seed: int, iterations: int, restarts: int
) -> np.ndarray:
    """int64 [N]: the cluster of each vector, by Lloyd's algorithm on a device: of the `restarts`, each from k different
    rows, the one with the least squared distances. No sum depends on the order of threads."""
    import torch

    points = torch.from_numpy(np.ascontiguousarray(vectors)).to(device)
    found = []
    for restart in range(restarts):
        rows = permutation(("k-means", seed, restart), len(vectors))[:k]
        centres = points[torch.from_numpy(rows).to(device)]
        nearest = None
        for _ in range(iterations):
            before, (nearest, _) = nearest, _nearest(points, centres)
            if before is not None and torch.equal(before, nearest):
                break
            centres = _means(points, nearest, centres)
        nearest, distances = _nearest(points, centres)
        found.append((float(distances.double().sum()), nearest))
    best: np.ndarray = min(found, key=lambda one: one[0])[1].cpu().numpy()
    return best


def _nearest(points: Any, centres: Any) -> tuple[Any, Any]:
    """The nearest centre of each point [N], and its squared distance less the point's own square [N]."""
    import torch

    squares = (centres * centres).sum(1)
    found = [
        (squares - 2 * (some @ centres.T)).min(1)
        for some in points.split(max(1, BLOCK_BYTES // (4 * len(centres))))
    ]
    return torch.cat([one.indices for one in found]), torch.cat([one.values for one in found])


def _means(points: Any, nearest: Any, before: Any) -> Any:
    """The means of the clusters [k, D]. Those without a point get a half of the largest, one each."""
    import torch

    # Sorted there, and so in a fixed order, where adding at indices is not.
    sums = torch.zeros_like(before).index_put_((nearest,), points, accumulate=True)
    counts = torch.bincount(nearest, minlength=len(before))
    centres = sums / counts.clamp(min=1)[:, None]
    empty = (counts == 0).nonzero()[:, 0]
    if len(empty):
        largest = counts.argsort(descending=True, stable=True)[: len(empty)]
        sides = torch.full((centres.shape[1],), SPLIT, device=centres.device)
        sides[1::2] *= -1
        whole = centres[largest]
        centres[empty], centres[largest] = whole * (1 + sides), whole * (1 - sides)
    return centres


def nmi_of_clusters(clusters: np.ndarray, labels: np.ndarray) -> float:
    """2 I(a; b) / (H(a) + H(b)), the arithmetic form, for two integer arrays [N]. 1 if neither tells rows apart.

    This is the definition of the lifted-structure paper (Song et al. 2016) and scikit-learn's "arithmetic" one.
    """
    _, a = np.unique(clusters, return_inverse=True)
    _, b = np.unique(labels, return_inverse=True)
    together = np.unique(a * (b.max() + 1) + b, return_counts=True)[1]
    h_a, h_b, h_ab = _entropy(np.bincount(a)), _entropy(np.bincount(b)), _entropy(together)
    if h_a + h_b == 0:
        return 1.0
    return float(np.clip(2 * (h_a + h_b - h_ab) / (h_a + h_b), 0.0, 1.0))


def _entropy(counts: np.ndarray) -> float:
    """In nats, of a partition into parts of these sizes, none empty."""
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum())


def nmi_schedule(members: int) -> list[int]:
    """The ensemble sizes at which NMI is computed: 1, 2, 4, ... and `members` itself."""
    if members < 1:
        raise UsageError(f"nmi: an ensemble has 1 member or more, not {members}.")
    return [2**i for i in range((members - 1).bit_length())] + [members]
