"""Counter-based randomness: rows that depend on names and numbers alone, the same for ever."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from muster.workers.rng import permutation, torch_seed, uniforms

NAMES = ("augment", 7, 12, 3)


@pytest.mark.parametrize("columns", [1, 3, 4])
def test_a_row_does_not_depend_on_how_many_rows_are_drawn(columns: int) -> None:
    many = uniforms(NAMES, 1000, columns, epoch=5)
    for rows in (1, 2, 7, 999):
        assert (uniforms(NAMES, rows, columns, epoch=5) == many[:rows]).all()


def test_draws_depend_on_every_name_and_on_the_epoch() -> None:
    draws = [
        uniforms(names, 4, epoch=epoch)[:, 0]
        for names, epoch in [
            (NAMES, 0),
            (NAMES, 1),
            (("order", 7, 12, 3), 0),
            (("augment", 8, 12, 3), 0),
            (("augment", 7, 12, 4), 0),
            (("augment", 7, 123), 0),
            (("augment", 71, 2, 3), 0),
            (("augment", "7", 12, 3), 0),
        ]
    ]
    assert len({tuple(draw) for draw in draws}) == len(draws)


def test_numbers_from_numpy_draw_like_plain_ones() -> None:
    names = ("augment", np.int64(7), np.int32(12), np.int64(3))
    assert (uniforms(names, 3) == uniforms(NAMES, 3)).all()


def test_draws_are_uniform_in_zero_to_one() -> None:
    draws = uniforms(("uniform",), 50_000, 2)
    assert draws.dtype == np.float64
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = np.histogram(draws, bins=10, range=(0, 1))[0]
    assert abs(counts / 1e4 - 1).max() < 0.05
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.02


def test_a_permutation_holds_each_number_once_and_differs_between_epochs() -> None:
    orders = [permutation(("order", 0, 12, 1), 500, epoch=epoch) for epoch in range(3)]
    assert all(sorted(order.tolist()) == list(range(500)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 3
    assert permutation(("order",), 0).tolist() == []


def test_known_values_stay_what_they_are() -> None:
    """Every key of every store stands for draws like these: changed ones ask for a new TRAINING_VERSION."""
    assert uniforms(NAMES, 2, 2, epoch=9).tolist() == PINNED_UNIFORMS
    assert permutation(("order", 0, 12, 1), 8, epoch=2).tolist() == PINNED_ORDER
    assert torch_seed(("init", 0, 12, 1)) == PINNED_SEED


PINNED_UNIFORMS = [[0.1599143407501289, 0.2817966059703866], [0.06083215528077002, 0.5961782223226542]]
PINNED_ORDER = [0, 2, 7, 1, 5, 3, 6, 4]
PINNED_SEED = 4388305943421772557


def test_seeds_for_torch_are_taken_by_torch() -> None:
    seeds = {torch_seed(("step", 0, 12, 1, epoch, step)) for epoch in range(10) for step in range(10)}
    assert len(seeds) == 100
    for seed in seeds:
        assert 0 <= seed < 2**63
        torch.manual_seed(seed)
