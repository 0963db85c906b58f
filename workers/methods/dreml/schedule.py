"""The learning rate as a pure function of the step: nothing to save, nothing to resume."""

from __future__ import annotations

import math

from muster.workers.methods.dreml.settings import Recipe


def learning_rate(recipe: Recipe, epoch: int, step: int, steps: int) -> float:
    """The learning rate of `step` (of `steps`) in `epoch`, all counted from 0."""
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "step":
        return recipe.lr * recipe.gamma ** (epoch // recipe.step_epochs)
    if recipe.schedule == "milestones":
        # 0.29 x 100 is 28.999... in floating point, and means 29
        passed = sum(epoch >= math.floor(share * recipe.epochs + 1e-9) for share in recipe.milestones)
        return recipe.lr * float(recipe.gamma**passed)
    return _one_cycle(recipe, epoch * steps + step, recipe.epochs * steps)


def _one_cycle(recipe: Recipe, step: int, total: int) -> float:
    """Half a cosine up from lr / 25 to lr in the warm-up, half a cosine down to lr / 250,000 after it.

    Source: Smith and Topin 2017; the values of torch's OneCycleLR, and lr itself where the warm-up is
    shorter than a step.
    """
    low, end = recipe.lr / 25, recipe.lr / 25e4
    peak = max(0.0, recipe.warmup * total - 1)
    if step < peak:
        return recipe.lr + (low - recipe.lr) * (1 + math.cos(math.pi * step / peak)) / 2
    share = (step - peak) / max(1.0, total - 1 - peak)
    return end + (recipe.lr - end) * (1 + math.cos(math.pi * share)) / 2
