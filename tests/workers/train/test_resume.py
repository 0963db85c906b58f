"""Killed and resumed is the same as never interrupted: to the last bit, for every recipe and network."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from torch import nn

from muster.workers.errors import ToldToEndError
from muster.workers.methods.dreml.settings import MemberSpec
from muster.workers.networks import backbones
from muster.workers.store.checkpoint import Checkpoint
from tests.workers.samples import (
    kept,
    same_tensors,
    small_recipe,
    small_spec,
    synthetic_pack,
    train,
)
from tests.workers.train.resumed import same_when_resumed, told_after

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
    straight, saved = same_when_resumed(partial(train, spec, PACK, initial=initial))
    assert len(saved) == spec.recipe.epochs
    resumed = train(spec, PACK, initial=initial, resume=Checkpoint.from_bytes(saved[0]))
    assert same_tensors(kept(spec, PACK, resumed), kept(spec, PACK, straight))


def test_who_is_told_to_end_saves_the_steps_so_far_and_says_so() -> None:
    spec = small_spec(PART, small_recipe(epochs=2))
    saved: list[Checkpoint] = []
    for steps in (2, 1):
        with pytest.raises(ToldToEndError, match=r"^Member 1 was told to end, and has saved its work\.$"):
            train(spec, PACK, save=saved.append, told_to_end=told_after(steps))
    assert [(state.epoch, state.stretch.steps) for state in saved] == [(0, 2), (0, 1)]
    assert saved[0].stretch.images == 2 * spec.recipe.batch_size


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

    def __init__(self, outputs: int) -> None:
        super().__init__(outputs)
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
