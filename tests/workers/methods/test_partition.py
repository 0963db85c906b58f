"""The random grouping of classes into meta-classes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from muster.workers.methods.dreml.partition import meta_classes


@pytest.mark.parametrize(
    ("classes", "D", "sizes"),
    [
        pytest.param(100, 12, {8: 8, 9: 4}, id="CUB"),
        pytest.param(98, 12, {8: 10, 9: 2}, id="Cars"),
        pytest.param(3997, 192, {21: 157, 20: 35}, id="In-Shop"),
        pytest.param(13164, 192, {69: 108, 68: 84}, id="VehicleID"),
        pytest.param(12, 12, {1: 12}, id="a class each"),
        pytest.param(24, 12, {2: 12}, id="even"),
        pytest.param(5, 2, {3: 1, 2: 1}, id="smallest D"),
    ],
)
def test_every_meta_class_gets_the_floor_or_the_ceiling_of_the_share(
    classes: int, D: int, sizes: dict[int, int]
) -> None:
    metas = meta_classes(classes, D, seed=0, index=1)
    counts = np.bincount(metas, minlength=D)
    assert metas.shape == (classes,)
    assert len(counts) == D
    assert Counter(counts.tolist()) == sizes


def test_the_grouping_is_a_pure_function_of_its_arguments() -> None:
    first = meta_classes(100, 12, seed=3, index=5)
    np.random.seed(1)  # the global state must not matter
    assert (meta_classes(100, 12, seed=3, index=5) == first).all()


def test_members_seeds_and_numbers_of_meta_classes_give_different_groupings() -> None:
    first = meta_classes(100, 12, 0, 1)
    for other in (meta_classes(100, 12, 0, 2), meta_classes(100, 12, 1, 1), meta_classes(100, 13, 0, 1)):
        assert 0 < (first != other).mean() < 1


def test_members_of_an_ensemble_group_independently() -> None:
    """Two classes that one member puts together meet in others as often as chance has it: about 1 in 12."""
    members = np.stack([meta_classes(100, 12, 0, index) for index in range(1, 49)])
    assert len({tuple(member) for member in members.tolist()}) == 48
    together = (members[:, :50] == members[:, 50:]).mean()
    assert 0.06 < together < 0.11


def test_known_groupings_stay_what_they_are() -> None:
    assert meta_classes(10, 3, seed=0, index=1).tolist() == PINNED


PINNED = [2, 0, 1, 0, 0, 2, 2, 1, 1, 2]


@pytest.mark.parametrize("D", [1, 0, -3, 11])
def test_a_number_of_meta_classes_that_cannot_be_is_refused_with_the_range(D: int) -> None:
    with pytest.raises(ValueError, match=r"2\.\.10"):
        meta_classes(10, D, seed=0, index=1)
