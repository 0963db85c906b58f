"""How learners' vectors are combined: the weight each one's similarity gets."""

from __future__ import annotations

import numpy as np
import pytest

from muster.workers.score.combine import CHUNK, combination_factors, combine

SIZES = (96, 160, 256)


def raw(n=20):
    x = np.random.default_rng(0).standard_normal((n, sum(SIZES))).astype(np.float32)
    return x * np.repeat([9.0, 0.1, 3.0], SIZES).astype(np.float32)


@pytest.mark.parametrize(
    ("how", "weights"),
    [
        ("share", [(96 / 512) ** 2, (160 / 512) ** 2, (256 / 512) ** 2]),
        ("sqrt", [1 / 6, 1 / 3, 1 / 2]),
        ("concat", [1, 1, 1]),
    ],
)
def test_similarity_is_the_weighted_sum_of_the_learners_cosines(how, weights):
    x = raw()
    parts = np.split(x.astype(np.float64), np.cumsum(SIZES)[:-1], axis=1)
    units = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
    expected = sum(w * (e @ e.T) for w, e in zip(weights, units, strict=True))
    found = combine(x, SIZES, how)
    assert found.dtype == np.float32
    assert found.shape == x.shape
    np.testing.assert_allclose(found @ found.T, expected, atol=1e-5)


def test_share_is_the_default_with_the_published_percentages():
    squares = np.array(combination_factors(SIZES, "share")) ** 2
    assert (100 * squares / squares.sum()).round(1).tolist() == [9.2, 25.5, 65.3]
    assert np.array_equal(combine(raw(), SIZES), combine(raw(), SIZES, "share"))


def test_one_learner_is_brought_to_unit_length_by_every_rule():
    x = raw()
    for how in ("share", "sqrt", "concat"):
        assert np.linalg.norm(combine(x, (512,), how), axis=1) == pytest.approx(1)


def test_each_image_is_combined_alone_however_many_there_are():
    x = raw(CHUNK + 10)
    some = slice(CHUNK - 3, CHUNK + 3)
    assert np.array_equal(combine(x, SIZES)[some], combine(x[some], SIZES))


def test_half_precision_is_read():
    np.testing.assert_allclose(combine(raw().astype(np.float16), SIZES), combine(raw(), SIZES), atol=1e-3)


def test_a_zero_vector_stays_zero():
    x = raw()
    x[4, :96] = 0
    found = combine(x, SIZES)
    assert (found[4, :96] == 0).all()
    assert np.isfinite(found).all()


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="must be share, sqrt or concat"):
        combine(raw(), SIZES, "mean")
    with pytest.raises(ValueError, match="add up to 256"):
        combine(raw(), (96, 160), "share")
