"""A short member with its checkpoints written behind the training, against the same with a wait for each.

resnet18 at 32 px, 512 images an epoch; a state of 90 MB after each, to a folder. Both ways are run in
alternation, `--rounds` times, and the medians compared: the whole training, and how long an epoch waits for its
checkpoint. The weights are compared too: they are the same. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from gpu.common import Bench, noise, recipe, trainer

from muster.workers.store.checkpoint import Checkpoint, save_checkpoint
from muster.workers.store.layout import Store
from muster.workers.train.loop import train
from muster.workers.train.saving import Saver

EPOCHS = 4
TARGET = {"stall_ratio": 5.0, "training_ratio": 1.0}


def trained(bench: Bench, behind: bool) -> tuple[float, float, dict[str, torch.Tensor]]:
    """Seconds of a training, of which of waits for checkpoints, and the weights."""
    member = trainer(bench, noise(512, bench.side, 4), recipe=recipe(bench, epochs=EPOCHS))
    waited = 0.0
    with tempfile.TemporaryDirectory() as folder:
        model = Store(folder).model("0" * 32)

        def write(checkpoint: Checkpoint) -> None:
            save_checkpoint(model, "one", checkpoint)

        saver = Saver(write)

        def save(checkpoint: Checkpoint) -> None:
            nonlocal waited
            began = time.perf_counter()
            (saver if behind else write)(checkpoint)
            waited += time.perf_counter() - began

        began = time.perf_counter()
        with saver:
            state = train(member, save=save)
        return time.perf_counter() - began, waited, state.model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    bench = Bench(torch.device("cpu"), small=True)
    took: dict[str, list[float]] = {}
    for _ in range(rounds):
        weights = []
        for name, behind in (("waiting", False), ("behind", True)):
            whole, waited, model = trained(bench, behind)
            took.setdefault(f"{name} s", []).append(whole)
            took.setdefault(f"{name} stall ms", []).append(1000 * waited / EPOCHS)
            weights.append(model)
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    middle = {name: round(statistics.median(values), 3) for name, values in took.items()}
    found = {
        "benchmark": "checkpoints", **middle,
        "stall_ratio": round(middle["waiting stall ms"] / middle["behind stall ms"], 2),
        "training_ratio": round(middle["waiting s"] / middle["behind s"], 3), "target": TARGET,
    }  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main()
