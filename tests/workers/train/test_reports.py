"""What the loop tells while it trains: where it is, how long a step takes, and whether another one follows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from muster.workers.methods.bier.settings import BierSettings, BierSpec
from muster.workers.spec import InputRecipe, ModelSpec
from muster.workers.train import loop
from muster.workers.train.team import Team
from tests.workers.samples import VIEW, small_recipe, small_spec, synthetic_pack, train

PACK = synthetic_pack()
PART = PACK.index.part()


def bier_spec() -> BierSpec:
    recipe = InputRecipe(resize="squash:20", crop=16, pad=2, mean=VIEW.mean, std=VIEW.std)
    settings = BierSettings(sizes=(4, 6), labels=4, images=2, steps=11, lr=1e-3)
    return BierSpec(
        train_digest=PART.digest, classes=PART.classes, backbone="conv4", weights="none", seed=3, recipe=recipe,
        bier=settings, precision="fp32", threads=1, deterministic=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "stretches"),
    [(small_spec(PART, small_recipe(epochs=2)), [4, 4]), (bier_spec(), [4, 4, 3])],
    ids=["epochs", "steps"],
)
def test_a_checkpoint_is_announced_and_nothing_else_is(
    monkeypatch: pytest.MonkeyPatch, spec: ModelSpec, stretches: list[int]
) -> None:
    """Each step takes two seconds here, and each is told of."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock.now))
    fetched = loop.fed

    def steps(*what: Any) -> Any:
        for batch in fetched(*what):
            clock.now += 2
            yield batch

    monkeypatch.setattr(loop, "fed", steps)
    told: list[Any] = []

    def save(state: Any) -> None:
        clock.now += 1000
        told.append("checkpoint")

    train(
        spec,
        PACK,
        team=Team(checkpoint_steps=4),
        save=save,
        report=lambda progress: told.append((progress["stepping"], progress["step_seconds"])),
    )
    expected: list[Any] = []
    for steps_of_it in stretches:
        expected += [(True, 2.0)] * (steps_of_it - 1) + [(False, 2.0), "checkpoint"]
    assert told == expected
