"""The compared methods' settings by name: the input of DREML's preset of that name, and an optimisation of ours.

The compared papers' own input and optimisers differ from one to the next; with DREML's pictures, backbone and epochs
it is the loss that is compared. A preset gives defaults; every field can be set on top of it.
"""

from __future__ import annotations

from typing import Any

from muster.orchestrator.methods import presets
from muster.workers.datasets import Traits

Settings = dict[str, Any]
#: Images in a batch, in DREML's presets and from random weights; npairs takes one pair of each label, the others 4
#: images.
BATCH, GLYPHS_BATCH = 128, 64
#: conv4 starts from random weights, so all of it learns at one rate.
GLYPHS = {"epochs": 12, "lr": 1e-3, "embedding_lr": 1.0, "anneal_epochs": 9}


def settings(preset: str, traits: Traits, side: int, given: Settings) -> tuple[Settings, Settings, Settings]:
    """Baseline settings, input recipe and test view of a preset, for pictures of `side` px; `given` over them."""
    recipe, view = presets.input_settings(preset, traits, side)
    images = 2 if given.get("loss") == "npairs" else 4
    batch = {
        "labels": (GLYPHS_BATCH if preset in presets.FROM_SCRATCH else BATCH) // images,
        "images": images,
    }
    found = {**batch, **(GLYPHS if preset in presets.FROM_SCRATCH else {}), **given}
    if preset in presets.FROM_SCRATCH and found.get("loss") == "proxynca":
        found.setdefault("proxy_lr", 10.0)
    if found.get("anneal_epochs") == 0 and "anneal_factor" not in given:
        found.pop("anneal_factor", None)
    return found, recipe, view
