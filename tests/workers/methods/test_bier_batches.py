"""P x K batches: every label once an epoch, never twice a batch, and nothing remembered between steps."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from muster.workers.methods.bier.settings import BierSettings
from muster.workers.train.label_batches import LabelBatches


def made(counts, P=4, K=2, seed=0, world_size=1):
    """(batches, labels): classes 10, 17, 24, ... of the given sizes, shuffled."""
    labels = np.random.default_rng(1).permutation(np.repeat(10 + 7 * np.arange(len(counts)), counts))
    return LabelBatches(labels, BierSettings(labels=P, images=K), seed, world_size), labels


@pytest.mark.parametrize(
    ("classes", "P"), [(12, 4), (10, 4), (11, 3), (7, 6), (9, 8), (5, 5), (100, 64), (98, 64)]
)
def test_each_epoch_of_labels_has_each_label_once_and_no_batch_has_one_twice(classes, P):
    batches, _ = made([3] * classes, P=P)
    steps = 5 * classes  # so P x steps is a whole number of epochs
    chosen = np.stack([batches.labels(step) for step in range(steps)])
    assert all(len(set(row)) == P for row in chosen.tolist())
    for epoch in chosen.reshape(-1, classes):
        assert sorted(epoch) == list(range(classes))
    assert len({tuple(epoch) for epoch in chosen.reshape(-1, classes)}) > 1


@pytest.mark.parametrize(("classes", "P"), [(10, 4), (9, 8), (100, 64)])
def test_a_step_depends_on_seed_and_step_alone(classes, P):
    batches, _ = made([3] * classes, P=P)
    forwards = [batches.batch(step) for step in range(40)]
    for step in (39, 0, 17, 18, 3):
        assert np.array_equal(batches.batch(step), forwards[step])
        assert np.array_equal(made([3] * classes, P=P)[0].batch(step), forwards[step])
    other = made([3] * classes, P=P, seed=1)[0]
    assert any(not np.array_equal(other.batch(step), forwards[step]) for step in range(3))


def test_k_images_of_each_label_stand_together():
    batches, labels = made([5] * 9, P=4, K=3)
    for step in range(20):
        blocks = labels[batches.batch(step)].reshape(4, 3)
        assert (blocks == blocks[:, :1]).all()
        assert np.array_equal((blocks[:, 0] - 10) // 7, batches.labels(step))


def test_images_of_a_class_differ_where_there_are_enough_and_repeat_where_not():
    counts = [1, 2, 3, 4, 9, 9]
    batches, labels = made(counts, P=6, K=4)
    repeats = Counter()
    for step in range(50):
        for block in batches.batch(step).reshape(6, 4):
            size = counts[(labels[block[0]] - 10) // 7]
            assert size < 4 or len(set(block.tolist())) == 4
            repeats[size] += len(set(block.tolist())) < 4
    assert repeats == {1: 50, 2: 50, 3: 50, 4: 0, 9: 0}


def test_images_of_a_class_are_drawn_evenly():
    """Every image, and every unordered pair of them, is as likely: chi-squared."""
    batches, _ = made([5, 5], P=2, K=2)
    pairs = Counter()
    steps = 4000
    for step in range(steps):
        pairs.update(tuple(sorted(block)) for block in batches.batch(step).reshape(2, 2).tolist())
    assert len(pairs) == 20
    expected = 2 * steps / 20
    assert sum((n - expected) ** 2 / expected for n in pairs.values()) < 50  # 18 degrees of freedom: p < 1e-4


def test_a_small_class_is_drawn_from_evenly():
    batches, _ = made([3, 3], P=2, K=4)
    drawn = Counter(np.concatenate([batches.batch(step) for step in range(3000)]).tolist())
    expected = 3000 * 8 / 6
    assert sum((n - expected) ** 2 / expected for n in drawn.values()) < 25  # 5 degrees of freedom


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_ranks_share_the_batch_in_order_and_equally(world_size):
    batches, _ = made([4] * 12, P=8, K=2, world_size=world_size)
    whole, _ = made([4] * 12, P=8, K=2)
    for step in (0, 1, 5):
        shares = [batches.share(step, rank) for rank in range(world_size)]
        assert {len(share) for share in shares} == {16 // world_size}
        assert np.array_equal(np.concatenate(shares), whole.batch(step))
    assert np.array_equal(
        np.arange(16)[batches.positions(world_size - 1)], np.arange(16)[-16 // world_size :]
    )


def test_too_few_classes_and_a_batch_that_does_not_divide_are_told_together():
    with pytest.raises(ValueError, match="only 3 training classes") as caught:
        made([4] * 3, P=5, K=3, world_size=4)
    assert "15 doesn't divide by 4 ranks" in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "P", "K", "world_size", "nearest"),
    [
        (100, 30, 2, 8, "labels = 28 (56 images), labels = 32 (64 images)"),
        (31, 30, 2, 8, "nearest that do: labels = 28 (56 images)"),
        (50, 3, 3, 4, "nearest that do: labels = 4 (12 images)"),
        (9, 5, 3, 16, "no number of labels does: change images or the ranks"),
    ],
)
def test_the_nearest_batches_that_divide_are_named(classes, P, K, world_size, nearest):
    with pytest.raises(ValueError, match="doesn't divide by") as caught:
        made([4] * classes, P=P, K=K, world_size=world_size)
    assert str(caught.value).endswith(nearest)
