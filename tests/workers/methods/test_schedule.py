"""The learning rate of every step, against torch's schedulers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from muster.workers.methods.dreml.schedule import learning_rate
from muster.workers.methods.dreml.settings import Recipe
from tests.workers.samples import small_recipe

Make = Callable[[torch.optim.Optimizer], Any]


def ours(recipe: Recipe, steps: int) -> list[float]:
    return [
        learning_rate(recipe, epoch, step, steps) for epoch in range(recipe.epochs) for step in range(steps)
    ]


def torchs(make: Make, rate: float, ticks: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler, found = make(optimizer), []
    for tick in range(ticks):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if tick + 1 < ticks:
            scheduler.step()
    return found


@pytest.mark.parametrize(
    ("epochs", "steps", "warmup"),
    [(6, 100, 0.25), (3, 7, 0.3), (12, 46, 0.5), (2, 2, 0.5), (5, 4, 0.9), (1, 8, 0.25)],
)
def test_one_cycle_is_torchs(epochs: int, steps: int, warmup: float) -> None:
    recipe = small_recipe(epochs=epochs, schedule="one-cycle", lr=0.3, warmup=warmup)
    wanted = torchs(
        lambda optimizer: lr_scheduler.OneCycleLR(
            optimizer, max_lr=0.3, total_steps=epochs * steps, pct_start=warmup, cycle_momentum=False
        ),
        0.3,
        epochs * steps,
    )
    assert ours(recipe, steps) == pytest.approx(wanted, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 2), (2, 2), (1, 3)])
def test_one_cycle_of_very_few_steps_starts_at_the_rate_and_falls(epochs: int, steps: int) -> None:
    rates = ours(small_recipe(epochs=epochs, schedule="one-cycle", lr=0.3, warmup=0.2), steps)
    assert rates[0] == 0.3
    assert rates == sorted(rates, reverse=True)
    assert all(0 < rate <= 0.3 for rate in rates)


def test_step_is_torchs() -> None:
    recipe = small_recipe(epochs=12, schedule="step", lr=0.01, step_epochs=4, gamma=0.1)
    wanted = torchs(lambda optimizer: lr_scheduler.StepLR(optimizer, 4, 0.1), 0.01, 12)
    assert ours(recipe, 1) == pytest.approx(wanted, rel=1e-12)
    assert ours(recipe, 3)[::3] == ours(recipe, 3)[2::3] == ours(recipe, 1)


@pytest.mark.parametrize(
    ("epochs", "shares", "milestones"),
    [
        (12, (0.5, 0.8), [6, 9]),
        (12, (0.5,), [6]),
        (100, (0.29, 0.57, 0.58), [29, 57, 58]),
        (10, (0, 1), [0, 10]),
    ],
)
def test_milestones_are_torchs(epochs: int, shares: tuple[float, ...], milestones: list[int]) -> None:
    recipe = small_recipe(epochs=epochs, schedule="milestones", lr=0.01, milestones=shares, gamma=0.01)
    wanted = torchs(lambda optimizer: lr_scheduler.MultiStepLR(optimizer, milestones, 0.01), 0.01, epochs)
    assert ours(recipe, 1) == pytest.approx(wanted, rel=1e-12)


def test_constant_stays() -> None:
    assert set(ours(small_recipe(epochs=4, schedule="constant", lr=0.02), 5)) == {0.02}
