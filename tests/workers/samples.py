"""Small made-up inputs for the worker layer's tests: packs in memory, recipes of a few steps, specs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from muster.workers.methods.dreml.settings import MemberSpec, Recipe
from muster.workers.methods.registry import method_of
from muster.workers.packs.pack import INDEX_SCHEMA, Pack, PackIndex, Part, Uint8, image_digest
from muster.workers.rng import uniforms
from muster.workers.spec import ModelSpec, TestView
from muster.workers.store.checkpoint import Checkpoint
from muster.workers.task import InputPlace
from muster.workers.train import loop
from muster.workers.train.team import ALONE, Team
from muster.workers.train.trainer import Materials, Trainer

CPU = torch.device("cpu")
VIEW = TestView(resize="squash:20", crop=16, mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.3))


def pack_of(images: Sequence[Uint8], labels: Sequence[int]) -> Pack:
    """A pack in memory of uint8 images [height, width, 3] of any sizes."""
    offsets = np.cumsum([0, *(image.nbytes for image in images)])
    rows = [
        {
            "image_id": f"{label}/{number}.png",
            "class_name": f"class {label}",
            "role": "",
            "label": int(label),
            "offset": int(offset),
            "height": image.shape[0],
            "width": image.shape[1],
            "sha256": image_digest(image),
        }
        for number, (image, label, offset) in enumerate(zip(images, labels, offsets, strict=False))
    ]
    table = pa.Table.from_pylist(rows, schema=INDEX_SCHEMA)
    names = [f"class {number}" for number in range(max(labels) + 1)]
    digest = hashlib.sha256(b"".join(row["sha256"] for row in rows)).hexdigest()[:32]
    index = PackIndex(digest, "train", "squash:20", names, table)
    return Pack(index, np.concatenate([image.reshape(-1) for image in images]))


def synthetic_pack(classes: int = 6, each: int = 5, side: int = 20) -> Pack:
    """Images that a small network can tell apart: a class is a pattern, an image adds noise to it. A function
    of its arguments alone, on every machine."""
    images, labels = [], []
    for label in range(classes):
        pattern = uniforms(("pattern", label), 16, 3).reshape(4, 4, 3)
        large = np.kron(pattern, np.ones((side // 4, side // 4, 1)))
        for copy in range(each):
            noise = uniforms(("noise", label, copy), side * side, 3).reshape(side, side, 3) - 0.5
            images.append(np.floor(255 * (large + 0.4 * noise).clip(0, 1)).astype(np.uint8))
            labels.append(label)
    return pack_of(images, labels)


def small_recipe(**changes: Any) -> Recipe:
    """Two epochs of small steps on 20-pixel images, cut to 16."""
    settings: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 8,
        "resize": "squash:20",
        "crop": 16,
        "pad": 2,
        "mean": VIEW.mean,
        "std": VIEW.std,
    }
    return Recipe(**{**settings, **changes})


def small_spec(part: Part, recipe: Recipe | None = None, **changes: Any) -> MemberSpec:
    """The first member of conv4 networks with 3 meta-classes, on one CPU thread."""
    settings: dict[str, Any] = {
        "train_digest": part.digest,
        "classes": part.classes,
        "backbone": "conv4",
        "weights": "none",
        "D": 3,
        "index": 1,
        "seed": 0,
        "recipe": recipe or small_recipe(),
        "precision": "fp32",
        "threads": 1,
        "deterministic": False,
    }
    return MemberSpec(**{**settings, **changes})


def trainer_of(
    spec: ModelSpec,
    pack: Pack,
    part: Part | None = None,
    *,
    team: Team = ALONE,
    initial: Any = None,
    inputs: Sequence[np.ndarray] = (),
    input: InputPlace = "auto",
) -> Trainer:
    """A model of any method at its beginning, on one CPU thread; by default on all classes of the pack."""
    torch.set_num_threads(spec.threads)
    materials = Materials(pack, part or pack.index.part(), CPU, team, initial, inputs, input)
    return method_of(spec).training.trainer(spec, materials)


def train(spec: ModelSpec, pack: Pack, part: Part | None = None, **options: Any) -> Checkpoint:
    """Trains a model of any method to its end."""
    given = {name: options.pop(name) for name in ("team", "initial", "inputs") if name in options}
    return loop.train(trainer_of(spec, pack, part, **given), **options)


def kept(spec: ModelSpec, pack: Pack, state: Checkpoint) -> Mapping[str, torch.Tensor]:
    """The weights that a finished model keeps."""
    return trainer_of(spec, pack).kept(state)


def same_tensors(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Equal names, and equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
