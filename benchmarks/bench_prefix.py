"""Recall@1 of every ensemble size L = 1 .. 48 by increments, against a fresh exact faiss search for each.

6,000 x 6,000 vectors, leave-one-out, the same number of threads, in one run and in alternation. `--sample N`
searches only N of the sizes with faiss, spread evenly, and takes the time of the others from a line fitted to
them: a fresh search costs an offset and a part proportional to L. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import time

import faiss
import numpy as np
import torch

from muster.workers.score.protocol import leave_one_out
from muster.workers.score.retrieval import PrefixScorer

IMAGES, CLASSES, MEMBERS = 6000, 600, 48
TARGETS = {12: 3.0, 192: 10.0}


def members(D: int, labels: np.ndarray) -> list[np.ndarray]:
    """Noisy class centres, normalised: recall@1 rises from a few per cent with L."""
    rng = np.random.default_rng(D)
    found = []
    for _ in range(MEMBERS):
        centres = rng.normal(size=(CLASSES, D))
        vectors = (centres[labels] + 2.0 * rng.normal(size=(IMAGES, D))).astype(np.float32)
        found.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return found


def fresh(vectors: list[np.ndarray], labels: np.ndarray) -> tuple[float, int]:
    """Seconds and hits of an exact search over the concatenation; the concatenating is not counted."""
    joined = np.ascontiguousarray(np.concatenate(vectors, axis=1))
    started = time.perf_counter()
    index = faiss.IndexFlatIP(joined.shape[1])
    index.add(joined)
    _, near = index.search(joined, 2)
    own = near[:, 0] == np.arange(IMAGES)
    nearest = np.where(own, near[:, 1], near[:, 0])
    hits = int((labels[nearest] == labels).sum())
    return time.perf_counter() - started, hits


def compare(D: int, sizes: list[int]) -> dict[str, object]:
    """Both ways over all sizes, each prefix right after the other way's."""
    labels = np.repeat(np.arange(CLASSES), IMAGES // CLASSES)
    vectors = members(D, labels)
    started = time.perf_counter()
    scorer = PrefixScorer(leave_one_out(labels), (1,))
    ours = [time.perf_counter() - started]  # the set-up is counted
    theirs: dict[int, float] = {}
    different = near_ties = 0
    for size in range(1, MEMBERS + 1):
        started = time.perf_counter()
        score = scorer.add(vectors[size - 1])
        ours.append(time.perf_counter() - started)
        if size in sizes:
            theirs[size], hits = fresh(vectors[:size], labels)
            different += abs(hits - score.hits[1])
            near_ties += score.near_ties
    slope, offset = np.polyfit(list(theirs), list(theirs.values()), 1) if len(theirs) > 1 else (0.0, 0.0)
    total = sum(theirs.get(size, offset + slope * size) for size in range(1, MEMBERS + 1))
    quarter = MEMBERS // 4
    return {
        "D": D,
        "ours_seconds": round(sum(ours), 3),
        "faiss_seconds": round(total, 3),
        "faiss_sizes_measured": len(theirs),
        "ratio": round(total / sum(ours), 2),
        "target": TARGETS.get(D),
        "last_over_first_increments": round(sum(ours[-quarter:]) / sum(ours[1 : quarter + 1]), 2),
        "hits_different": different,
        "near_ties_in_those": near_ties,
        "queries_compared": len(theirs) * IMAGES,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sample", type=int, default=6, help="sizes that faiss searches at D = 192")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    faiss.omp_set_num_threads(chosen.threads)
    few = sorted({int(size) for size in np.linspace(1, MEMBERS, chosen.sample).round()})
    everything = list(range(1, MEMBERS + 1))
    rows = [compare(12, everything), compare(192, few)]
    print(json.dumps({"benchmark": "prefix", "threads": chosen.threads, "rows": rows}))


if __name__ == "__main__":
    main()
