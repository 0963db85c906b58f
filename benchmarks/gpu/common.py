"""What all measurements share: a device, sizes, packs of noise, and how time is taken."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from muster.workers.methods.dreml.settings import MemberSpec, Recipe
from muster.workers.packs.pack import INDEX_SCHEMA, Pack, PackIndex, Part, image_digest
from muster.workers.spec import InputRecipe, TestView
from muster.workers.task import InputPlace
from muster.workers.train.trainer import Materials, Trainer

ROOT = Path(__file__).resolve().parents[1]
#: A measurement's results by name; a number, a text, or a list or dict of these.
Found = dict[str, Any]


class UnmeasuredError(Exception):
    """This machine can't be asked; the text says why."""


@dataclass(frozen=True)
class Bench:
    """Where and how much is measured."""

    device: torch.device
    small: bool = False
    "Sizes for a CPU, to see that a measurement works: its numbers mean nothing."
    repeats: int = 3

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def size(self, full: int, small: int) -> int:
        return small if self.small else full

    @property
    def batch(self) -> int:
        return self.size(128, 8)

    @property
    def side(self) -> int:
        return self.size(256, 32)

    def needs_gpu(self, what: str) -> None:
        """Raises UnmeasuredError on a CPU."""
        if not self.on_gpu:
            raise UnmeasuredError(f"{what} needs a GPU")

    def sync(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object]) -> float:
        """Of one call, the device's work included."""
        self.sync()
        started = time.perf_counter()
        work()
        self.sync()
        return time.perf_counter() - started

    def rate(self, work: Callable[[], object], each: int, steps: int, warmup: int = 3) -> Found:
        """So many `each` a second of `work`, done `steps` times in a row: the repeats' median, and all of them."""
        for _ in range(self.size(warmup, 1)):
            work()
        rates = []
        for _ in range(self.repeats):
            took = self.seconds(lambda: [work() for _ in range(steps)] and None)
            rates.append(steps * each / took)
        return {"per_s": round(statistics.median(rates), 1), "all": [round(one, 1) for one in rates]}

    def pack(self, images: int, side: int, classes: int) -> Pack:
        """Images of noise in memory; the same every time."""
        kept = _packs.get((images, side, classes))
        if kept is None:
            kept = _packs[images, side, classes] = noise(images, side, classes)
        return kept


_packs: dict[tuple[int, int, int], Pack] = {}


def noise(images: int, side: int, classes: int) -> Pack:
    """A pack of noise, `side` pixels square, classes in turn."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, side, side, 3), dtype=np.uint8)
    each = side * side * 3
    rows = [
        {
            "image_id": f"{number}", "class_name": f"{number % classes}", "role": "", "label": number % classes,
            "offset": number * each, "height": side, "width": side, "sha256": image_digest(pixels[number]),
        }
        for number in range(images)
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=INDEX_SCHEMA)
    index = PackIndex("noise", "train", f"squash:{side}", [f"{number}" for number in range(classes)], table)
    return Pack(index, pixels.reshape(-1))


def recipe(bench: Bench, **changes: Any) -> Recipe:
    """DREML's, on squares of the benchmark's side."""
    side = bench.side
    usual: dict[str, Any] = {
        "epochs": 1, "batch_size": bench.batch, "lr": 0.01, "resize": f"squash:{side}", "crop": side,
        "pad": round(10 * side / 256),
    }  # fmt: skip
    return Recipe(**{**usual, **changes})


def view(side: int) -> TestView:
    """The middle of squares of this side, with ImageNet's statistics."""
    usual = InputRecipe()
    return TestView(resize=f"squash:{side}", crop=side, mean=usual.mean, std=usual.std)


def spec(bench: Bench, part: Part, **changes: Any) -> MemberSpec:
    """A member of DREML: resnet18, D = 12."""
    recipe_of = changes.pop("recipe", None) or recipe(bench)
    usual: dict[str, Any] = {
        "train_digest": part.digest, "classes": part.classes, "backbone": "resnet18", "weights": "none", "seed": 0,
        "precision": "bf16" if bench.on_gpu else "fp32", "threads": torch.get_num_threads(), "deterministic": False,
        "D": min(12, part.classes), "index": 1,
    }  # fmt: skip
    return MemberSpec(**{**usual, **changes}, recipe=recipe_of)


def trainer(bench: Bench, pack: Pack, input: InputPlace = "auto", **changes: Any) -> Trainer:
    """A member in training on all of a pack, whose images are there."""
    from muster.workers.methods.dreml.trainer import MemberTrainer
    from muster.workers.train.trainer import prepare_device

    part = pack.index.part()
    asked = spec(bench, part, **changes)
    prepare_device(asked, bench.device)
    return MemberTrainer(asked, Materials(pack, part, bench.device, input=input))


@contextlib.contextmanager
def child(code: str, *words: object) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that runs `code`; `words` are its sys.argv[1:]."""
    command, env = (
        [sys.executable, "-c", code, *map(str, words)],
        {**os.environ, "PYTHONPATH": f"{ROOT.parent / 'src'}"},
    )
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT.parent, env=env)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def told(process: subprocess.Popen[str], timeout: float = 300) -> Any:
    """The JSON of the last line that a process prints. Raises UnmeasuredError if it fails."""
    out, _ = process.communicate(timeout=timeout)
    if process.returncode or not out.strip():
        raise UnmeasuredError(f"its process ended with {process.returncode}")
    return json.loads(out.strip().splitlines()[-1])
