"""Killed and resumed is the same as never interrupted: to the last bit, for every recipe and network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from muster.workers.methods.dreml.settings import MemberSpec
from muster.workers.networks import backbones
from muster.workers.store.checkpoint import Checkpoint
from tests.workers.samples import kept, same_tensors, small_recipe, small_spec, synthetic_pack, train

PACK = synthetic_pack()
PART = PACK.index.part()
RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "no momentum": {"momentum": 0},
    "nesterov and weight decay": {"nesterov": True, "weight_decay": 0.05},
    "one cycle, rotation": {"schedule": "one-cycle", "rotate": 25, "normalize_logits": True},
    "milestones, cap": {"schedule": "milestones", "milestones": (0.3, 0.7), "class_cap": 3},
    "best epoch": {"select": "best-train", "lr": 0.02, "schedule": "constant", "epochs": 5},
    "a remainder of one": {"batch_size": 29},
}


def straight_and_resumed(spec: MemberSpec, initial: Any = None) -> None:
    """Trains straight through, and again from each of its checkpoints as bytes, in the state of a new process."""
    saved: list[bytes] = []
    straight = train(spec, PACK, initial=initial, save=lambda state: saved.append(state.to_bytes()))
    assert len(saved) == spec.recipe.epochs
    for number, data in enumerate(saved, start=1):
        torch.manual_seed(number)
        resumed = train(spec, PACK, initial=initial, resume=Checkpoint.from_bytes(data))
        assert same_tensors(resumed.model, straight.model), f"resumed after epoch {number}"
        assert same_tensors(resumed.optimizer, straight.optimizer), f"resumed after epoch {number}"
        assert same_tensors(kept(spec, PACK, resumed), kept(spec, PACK, straight))
        losses = [row["loss"] for row in straight.history]
        assert [row["loss"] for row in resumed.history] == losses
    assert resumed.to_bytes() == saved[-1]


@pytest.mark.parametrize("name", RECIPES)
def test_resuming_gives_the_same_bits(name: str) -> None:
    straight_and_resumed(small_spec(PART, small_recipe(**{"epochs": 3, **RECIPES[name]}), index=2))


def test_resuming_in_bfloat16_gives_the_same_bits() -> None:
    straight_and_resumed(small_spec(PART, small_recipe(epochs=2), precision="bf16"))


def test_resuming_from_pretrained_weights_gives_the_same_bits() -> None:
    initial = backbones.build("conv4", 10, 5).state_dict()
    straight_and_resumed(small_spec(PART, small_recipe(epochs=2), weights="f" * 64), initial)


class WithDropout(backbones.Conv4):
    """conv4 that drops half of its features."""

    def __init__(self, outputs: int, width: int = 16) -> None:
        super().__init__(outputs, width)
        self.insert(len(self) - 1, nn.Dropout(0.5))


def test_a_network_with_dropout_resumes_to_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "Conv4", WithDropout)
    spec = small_spec(PART, small_recipe(epochs=3))
    straight_and_resumed(spec)
    monkeypatch.undo()
    plain = train(spec, PACK)
    assert "7.weight" not in plain.model


def test_a_depthwise_network_of_torchvision_resumes_to_the_same_bits() -> None:
    """Its 1 x 1 and depthwise kernels are where memory order is easily lost."""
    spec = small_spec(PART, small_recipe(epochs=2, class_cap=2, crop=32), backbone="shufflenet_v2_x0_5")
    straight_and_resumed(spec)
