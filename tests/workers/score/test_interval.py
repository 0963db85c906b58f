"""Intervals of scores, against the definition drawn by hand and against what is known of simple cases."""

from __future__ import annotations

import numpy as np
import pytest

from muster.workers.score.interval import over_classes, over_members
from muster.workers.score.protocol import leave_one_out
from muster.workers.score.queries import QueryRecord
from muster.workers.score.retrieval import prefix_curve
from tests.workers.score.test_retrieval import ensemble, small_integers


def by_hand(hits: np.ndarray, labels: np.ndarray, draws: int = 4000) -> tuple[float, float]:
    """Classes drawn one by one with repetition, all queries of each, and the share of hits among them."""
    rng = np.random.default_rng(77)
    classes = np.unique(labels)
    shares = []
    for _ in range(draws):
        drawn = [hits[labels == one] for one in rng.choice(classes, len(classes))]
        shares.append(np.concatenate(drawn).mean())
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def test_an_interval_is_that_of_classes_drawn_with_repetition() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 30, 400)
    luck = rng.uniform(0.2, 0.9, 30)[labels]
    hits = rng.uniform(size=(2, 400)) < np.stack([luck, luck / 2])
    for row, edges in zip(hits, over_classes(hits, labels), strict=True):
        assert edges == pytest.approx(by_hand(row, labels), abs=0.015)
        assert edges[0] < row.mean() < edges[1]


def test_images_of_a_class_that_succeed_together_are_one_piece_of_evidence() -> None:
    """10 classes of 100 images each, half of them found whole: as unsure as 10 flips of a coin, not 1,000."""
    labels = np.repeat(np.arange(10), 100)
    ((low, high),) = over_classes((labels % 2 == 0)[None], labels)
    assert (low, high) == (pytest.approx(0.2), pytest.approx(0.8))


def test_what_all_classes_share_is_sure_and_labels_are_names() -> None:
    labels = np.repeat([7, 1_000_000, 12], 4)
    hits = np.tile([True, False, True, True], 3)
    assert over_classes(hits[None], labels) == [(0.75, 0.75)]
    assert over_classes(hits[None], labels) == over_classes(hits[None], labels)


def test_a_gain_is_over_members_drawn_with_repetition() -> None:
    alone = np.array([0.5, 0.52, 0.54, 0.5, 0.6])
    low, high = over_members(0.7, alone)
    spread = alone.std() / np.sqrt(len(alone))  # of a mean of 5 draws
    assert low == pytest.approx(0.7 - alone.mean() - 1.96 * spread, abs=0.01)
    assert high == pytest.approx(0.7 - alone.mean() + 1.96 * spread, abs=0.01)
    assert over_members(0.7, np.array([0.5, 0.5])) == (pytest.approx(0.2), pytest.approx(0.2))


@pytest.mark.parametrize("made", [ensemble, small_integers], ids=["no ties", "full of ties"])
def test_hits_are_those_of_the_first_rank_at_every_size(made) -> None:
    labels, members = made(90, (5, 3, 4), 9)
    protocol = leave_one_out(labels)
    record = QueryRecord(protocol, (1, 2, 3))
    hits = np.zeros((3, 90), np.bool_)
    curve = prefix_curve(members, protocol, (2, 4), record=record, hits=hits)
    ranks = record.ranks.T
    assert (hits == ((ranks >= 1) & (ranks <= 2))).all()
    assert [score.hits[2] for score in curve] == hits.sum(axis=1).tolist()


def test_a_k_beyond_the_gallery_finds_all() -> None:
    labels, members = small_integers(12, (3,), 3)
    hits = np.zeros((1, 12), np.bool_)
    protocol = leave_one_out(labels)
    prefix_curve(members, protocol, (40,), hits=hits)
    assert (hits[0] == (protocol.references > 0)).all()
