"""Crops for a GPU: written into buffers that are used again, against new memory for each batch and a copy to pin it.

Random crops of 256 px with a border of 10 from 1,024 packed images of noise, 128 a batch, one core, a warm cache.
What muster did until its input was fed from buffers: a new array of zeros, the crops, and a copy of it (with a GPU into
pinned memory; here it is pageable). Beside both a plain copy of as many bytes, which is the most that could be. All
are timed in alternation, `--rounds` times, and the medians are compared. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from gpu.common import noise

from muster.workers.packs.pack import Pack
from muster.workers.train.prefetch import Buffer

BATCH, SIDE, PAD = 128, 256, 10
TARGETS = {"ratio": 2.0, "share_of_copy": 0.4}


def new_memory(pack: Pack, rows: np.ndarray, tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
    """As it was."""
    out = np.zeros((len(rows), SIDE, SIDE, 3), dtype=np.uint8)
    for target, row, top, left in zip(out, rows.tolist(), tops.tolist(), lefts.tolist(), strict=True):
        y0, y1, x0, x1 = max(top, 0), min(top + SIDE, SIDE), max(left, 0), min(left + SIDE, SIDE)
        target[y0 - top : y1 - top, x0 - left : x1 - left] = pack.image(row)[y0:y1, x0:x1]
    return out.copy()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    pack, rng = noise(1024, SIDE, 8), np.random.default_rng(0)
    buffer, source = Buffer(torch.device("cpu")), np.ones((BATCH, SIDE, SIDE, 3), np.uint8)
    target = np.empty_like(source)
    took: dict[str, list[float]] = {}
    for _ in range(rounds):
        rows = rng.integers(0, 1024, BATCH)
        tops, lefts = (rng.integers(-PAD, PAD + 1, BATCH) for _ in range(2))
        images = buffer.images(BATCH, SIDE).numpy()
        ways: dict[str, Callable[[], object]] = {
            "new memory": lambda at=(rows, tops, lefts): new_memory(pack, *at),
            "buffer": lambda at=(rows, tops, lefts), out=images: pack.crops(*at, SIDE, out),
            "plain copy": lambda: np.copyto(target, source),
        }
        found = {}
        for name, way in ways.items():
            started = time.perf_counter()
            found[name] = way()
            took.setdefault(name, []).append(time.perf_counter() - started)
        assert np.array_equal(found["new memory"], images)  # the same crops, to the last bit
    middle = {name: statistics.median(times) for name, times in took.items()}
    rates = {name: round(BATCH / seconds) for name, seconds in middle.items()}
    ratio, share = middle["new memory"] / middle["buffer"], middle["plain copy"] / middle["buffer"]
    line = {
        "images_per_s": rates,
        "ratio": round(ratio, 2),
        "share_of_copy": round(share, 2),
        "targets": TARGETS,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
