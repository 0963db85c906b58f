"""What retrieval refuses, and what it says then."""

from __future__ import annotations

import numpy as np
import pytest

from muster.workers.errors import MusterError, UsageError
from muster.workers.score.protocol import Protocol, leave_one_out
from muster.workers.score.retrieval import prefix_curve


def ensemble(n, dims, classes):
    rng = np.random.default_rng(0)
    return rng.integers(0, classes, n), [rng.standard_normal((n, d), np.float32) for d in dims]


def test_no_query_with_a_right_answer_is_an_error():
    with pytest.raises(UsageError, match="no query is left: none of the 5 queries"):
        leave_one_out(np.arange(5))
    with pytest.raises(UsageError, match="the same labels"):
        Protocol(np.array([1, 1, 2, 2]), np.array([0, 1]), np.array([2, 3]))


@pytest.mark.parametrize("ks", [(), (0,), (1, -2), (1.5,), (True,)])
def test_k_must_be_whole_and_positive(ks):
    labels, members = ensemble(20, (4,), 3)
    with pytest.raises(UsageError, match="K must be"):
        prefix_curve(members, leave_one_out(labels), ks)


def test_vectors_that_do_not_fit_name_their_member():
    labels, (good, other) = ensemble(20, (4, 4), 3)
    protocol = leave_one_out(labels)
    for bad in (other[:-1], other.astype(np.float64), other[:, 0], other[:, :0]):
        with pytest.raises(UsageError, match=r"member 2: .* need float32 of shape \[20, D\]"):
            prefix_curve([good, bad], protocol)
    with pytest.raises(UsageError, match="no members"):
        prefix_curve([], protocol)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite_name_their_member(value):
    labels, (good, bad) = ensemble(20, (4, 4), 3)
    bad[7, 2] = value
    with pytest.raises(
        MusterError, match="member 2: 1 of 20 vectors hold NaN or infinity, the first is row 7"
    ):
        prefix_curve([good, bad], leave_one_out(labels))


def test_all_mistakes_of_a_protocol_are_told_at_once():
    with pytest.raises(UsageError) as caught:
        Protocol(np.array([0.0, 1.0]), np.array([[0]]), np.array([0]))
    assert len(caught.value.problems) == 2
    with pytest.raises(UsageError) as caught:
        Protocol(np.array([0, 0, 1]), np.array([-1, 0]), np.array([1, 1, 3]))
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("length", [1e19, 3e15])
def test_vectors_whose_products_overflow_are_no_hits(length: float) -> None:
    vectors = np.full((20, 4), length, np.float32)
    with pytest.raises(
        MusterError, match=r"its longest vector has a length of .*, and such products overflow"
    ):
        prefix_curve([vectors], leave_one_out(np.arange(20) // 2))
