"""Correlation between learners against numpy.corrcoef on explicit tables of image pairs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from muster.workers.score.combine import CHUNK, combine, correlation, reduction

SIZES = (3, 4, 5)


def vectors(n=60, seed=0, common=1.0):
    """Raw learner vectors float32 [n, 12] that share a part."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 2)) @ rng.standard_normal((2, sum(SIZES)))
    return (rng.standard_normal((n, sum(SIZES))) + common * shared + 0.5).astype(np.float32)


def by_hand(x, sizes):
    """(feat_corr, clf_corr, table) with every image pair written out."""
    parts = np.split(x.astype(np.float64), np.cumsum(sizes)[:-1], axis=1)
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
    table = np.corrcoef(np.concatenate(unit, axis=1).T)
    learner = np.repeat(np.arange(len(sizes)), sizes)
    feat = np.mean(
        [abs(table[a, b]) for a, b in combinations(range(len(learner)), 2) if learner[a] != learner[b]]
    )
    above = np.triu_indices(len(x), 1)
    similarities = np.corrcoef([(e @ e.T)[above] for e in unit])
    clf = np.mean([similarities[i, j] for i, j in combinations(range(len(sizes)), 2)])
    return feat, clf, table


@pytest.mark.parametrize("common", [0.0, 1.0, 5.0])
def test_agrees_with_numpy_on_explicit_pairs(common):
    x = vectors(common=common)
    found = correlation(x, SIZES)
    feat, clf, table = by_hand(x, SIZES)
    assert found.feat_corr == pytest.approx(feat, rel=1e-10)
    assert found.clf_corr == pytest.approx(clf, rel=1e-9)
    np.testing.assert_allclose(found.table, table, atol=1e-12)
    assert (found.constant, found.images) == (0, 60)


def test_more_images_than_a_chunk_holds_are_all_counted_in_any_order():
    x = vectors(CHUNK + 700)
    x[CHUNK:] *= -1  # the last chunk is unlike the others
    whole = correlation(x, SIZES)
    shuffled = correlation(x[np.random.default_rng(2).permutation(len(x))], SIZES)
    assert shuffled.clf_corr == pytest.approx(whole.clf_corr, rel=1e-10)
    unit = combine(x, SIZES, "concat")
    np.testing.assert_allclose(whole.table, np.corrcoef(unit.T), atol=1e-6)


def test_vectors_that_hardly_differ_keep_their_digits():
    """An untrained network: all cosines near 1."""
    x = 200 + vectors()
    found = correlation(x, SIZES)
    feat, clf, _ = by_hand(x, SIZES)
    assert found.feat_corr == pytest.approx(feat, rel=1e-6)
    assert found.clf_corr == pytest.approx(clf, rel=1e-3)


def test_equal_learners_correlate_fully_and_independent_ones_hardly():
    x = np.random.default_rng(0).standard_normal((2000, 8)).astype(np.float32)
    assert correlation(np.concatenate([x, x], axis=1), (8, 8)).clf_corr == pytest.approx(1)
    other = np.random.default_rng(1).standard_normal((2000, 8)).astype(np.float32)
    apart = correlation(np.concatenate([x, other], axis=1), (8, 8))
    assert abs(apart.clf_corr) < 0.01
    assert apart.feat_corr < 0.03


def test_the_scale_of_a_learner_changes_nothing():
    x = vectors()
    scaled = x * np.repeat([0.25, 8.0, 2.0], SIZES).astype(np.float32)
    assert correlation(scaled, SIZES).clf_corr == pytest.approx(correlation(x, SIZES).clf_corr, rel=1e-12)


def test_a_constant_dimension_is_counted_and_left_out():
    x = vectors()
    x[:, 3] = 0
    found = correlation(x, SIZES)
    assert found.constant == 1
    assert np.isnan(found.table[3]).all()
    rest = correlation(np.delete(x, 3, axis=1), (3, 3, 5))
    assert found.feat_corr == pytest.approx(rest.feat_corr, rel=1e-12)
    assert found.clf_corr == pytest.approx(rest.clf_corr, rel=1e-12)


def test_a_dead_learner_gives_figures_of_the_others():
    x = vectors()
    x[:, :3] = 0
    found = correlation(x, SIZES)
    rest = correlation(x[:, 3:], (4, 5))
    assert (found.constant, found.clf_corr) == (3, pytest.approx(rest.clf_corr, rel=1e-12))
    assert np.isnan(correlation(np.zeros((5, 12), np.float32), SIZES).clf_corr)


def test_reduction():
    assert reduction(0.261, 0.5) == pytest.approx(0.478)
    assert reduction(0.6, 0.5) == pytest.approx(-0.2)
    assert np.isnan(reduction(0.1, 0.0))


def test_what_cannot_be_correlated_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        correlation(vectors(), (12,))
    with pytest.raises(ValueError, match="at least 3 images"):
        correlation(vectors(2), SIZES)
    with pytest.raises(ValueError, match="add up to 11"):
        correlation(vectors(), (3, 4, 4))
