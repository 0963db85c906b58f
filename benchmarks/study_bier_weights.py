"""Why boosting loses on `glyphs`: BIER, its baselines, and runs that take the effect of its pair weights apart.

All train `conv4` from random weights with the preset's batches, on one CPU thread, without 40 validation classes
(docs/bier.md, "On glyphs"). Prints a JSON line for each: recall@1 on the validation and the test classes, in per cent.

    python benchmarks/study_bier_weights.py [steps] [run ...]
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F

from muster.orchestrator.ensemble.plan import member_tasks, prepare
from muster.orchestrator.methods.loading import load
from muster.workers.member import open_images, run_member
from muster.workers.methods.bier import network as bier
from muster.workers.methods.bier.network import BierStep, RankLoss, boosted_loss
from muster.workers.score.combine import combine
from muster.workers.score.protocol import leave_one_out
from muster.workers.score.retrieval import prefix_curve
from muster.workers.store.layout import Store
from muster.workers.store.vectors import read_vectors

POSITIVE = 0.4
"About the weight that boosting gives to every positive pair: their margins lie between -3 and 1."


def weigh_positives_less() -> Any:
    """All weights 1, but for the positive pairs, which weigh what boosting leaves them on average."""
    plain = bier._pair_tables

    def tables(same: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        mask, share = plain(same, dtype)
        return mask, torch.where(same, POSITIVE * share, share)

    return mock.patch.object(bier, "_pair_tables", tables)


def boost_learners_alone() -> Any:
    """The learners are boosted; the shared network is trained by the same losses with all weights 1."""

    def forward(step: BierStep, images: torch.Tensor, labels: torch.Tensor) -> RankLoss:
        hidden, learners = step.network.features(images), step.network.learners
        boosted = boosted_loss(learners(hidden.detach()), labels, step.settings)
        vectors = F.linear(hidden, learners.weight.detach(), learners.bias.detach())
        plain = boosted_loss(vectors, labels, replace(step.settings, boost=False))
        auxiliary = step.auxiliary(hidden, learners.weight)
        return RankLoss(boosted.loss + plain.loss + auxiliary, boosted, auxiliary.detach())

    return mock.patch.object(BierStep, "forward", forward)


BOOST, PLAIN = {"bier.boost": True}, {"bier.boost": False}
RUNS: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "BIER": (BOOST, nullcontext),
    "BIER, eta": ({**BOOST, "bier.variant": "eta"}, nullcontext),
    "all weights 1": (PLAIN, nullcontext),
    "one embedding of 512": ({**PLAIN, "bier.sizes": (512,)}, nullcontext),
    "all weights 1, positive pairs 0.4": (PLAIN, weigh_positives_less),
    "BIER, shared network with weights 1": (BOOST, boost_learners_alone),
    "BIER, balanced": ({**BOOST, "bier.variant": "balanced"}, nullcontext),
}


def recall_at_1(store: Store, flags: dict[str, Any], steps: int) -> dict[str, float]:
    """Trains in this process; recall@1 of each split, in per cent."""
    given = {
        "method": "bier",
        "data.val_classes": 40,
        "bier.steps": steps,
        "bier.anneal_every": 300,
        "storage": store.root,
    }
    request = load(None, {**given, **flags}, [])
    prepared = prepare(request, store, lambda *_: None)
    assert prepared is not None
    combination = request.settings.combination
    assert combination is not None
    (task,) = member_tasks(request, prepared, "none", "fp32")
    run_member(store, task, "study", torch.device("cpu"))
    found = {}
    for target in task.targets:
        vectors = combine(read_vectors(store.model(task.key).embedding(target.digest)), combination.sizes)
        part = open_images(store, target.images)[1]
        (score,) = prefix_curve([vectors], leave_one_out(part.labels), (1,))
        found[target.split] = round(100 * score.recall[1], 1)
    return found


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    for name in sys.argv[2:] or RUNS:
        flags, changed = RUNS[name]
        # In a store of its own each time: a loss that was changed here has no key of its own.
        with tempfile.TemporaryDirectory(prefix="muster-study-") as root, changed():
            found = recall_at_1(Store(root), flags, steps)
        print(json.dumps({"study": "BIER's pair weights", "run": name, "steps": steps, **found}), flush=True)


if __name__ == "__main__":
    main()
