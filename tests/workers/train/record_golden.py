"""Two tiny trainings whose losses are kept in golden.json: they tell when training's results change.

Run `python -m tests.workers.train.record_golden` to record them anew, together with the TRAINING_VERSION and the
EMBEDDING_VERSION that they belong to.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import torch

from muster.workers.embed import embed
from muster.workers.methods.dreml.settings import Recipe
from muster.workers.networks import backbones
from muster.workers.spec import EMBEDDING_VERSION, TRAINING_VERSION
from tests.workers.samples import CPU, VIEW, kept, small_recipe, small_spec, synthetic_pack, train

FILE = Path(__file__).with_name("golden.json")
#: Between them they use every branch of the recipe that changes what is computed.
RECIPES: dict[str, Recipe] = {
    "as in the paper's code": small_recipe(
        epochs=3,
        lr=0.02,
        schedule="milestones",
        milestones=(0.34, 0.67),
        gamma=0.5,
        flip=True,
        pad=2,
        class_cap=4,
        select="best-train",
    ),
    "one cycle": small_recipe(
        epochs=3,
        lr=0.05,
        schedule="one-cycle",
        nesterov=True,
        weight_decay=0.05,
        normalize_logits=True,
        flip=False,
        pad=0,
        rotate=20.0,
    ),
}


def compute(recipe: Recipe) -> dict[str, Any]:
    """A training's mean loss of each epoch, and how alike it then finds a few pairs of images."""
    pack = synthetic_pack()
    part = pack.index.part()
    spec = small_spec(part, recipe)
    state = train(spec, pack)
    network = backbones.build(spec.backbone, spec.D, 0)
    network.load_state_dict(kept(spec, pack, state))
    vectors = embed(network, pack, part, VIEW, CPU)
    cosines = (vectors[:-5] * vectors[5:]).sum(1)[::5]
    return {"losses": [row["loss"] for row in state.history], "cosines": [float(value) for value in cosines]}


def record() -> None:
    """Writes golden.json."""
    found = {
        "training_version": TRAINING_VERSION,
        "embedding_version": EMBEDDING_VERSION,
        "recorded_with": f"torch {torch.__version__} on {platform.machine()}",
        "runs": {name: compute(recipe) for name, recipe in RECIPES.items()},
    }
    FILE.write_text(json.dumps(found, indent=1) + "\n")
    print(f"recorded {len(RECIPES)} trainings in {FILE}")


if __name__ == "__main__":
    record()
