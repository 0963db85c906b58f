"""Re-identification: one random image of each vehicle is found by the others, ten times over."""

from __future__ import annotations

import numpy as np

from muster.workers.score.protocol import one_of_each_class
from muster.workers.score.retrieval import prefix_curve

LABELS = np.array([4, 4, 7, 9, 4, 9, 7, 7, 2, 9])


def test_each_class_has_one_image_in_the_gallery_and_all_others_ask() -> None:
    for draw in range(20):
        protocol = one_of_each_class(LABELS, draw)
        assert sorted(LABELS[protocol.gallery]) == [2, 4, 7, 9]
        assert sorted([*protocol.gallery, *protocol.query]) == list(range(10))
        assert protocol.lone_queries == 0
        assert set(protocol.references) == {1}


def test_a_draw_is_the_same_again_and_draws_differ() -> None:
    first = [one_of_each_class(LABELS, draw).gallery.tolist() for draw in range(20)]
    assert first == [one_of_each_class(LABELS, draw).gallery.tolist() for draw in range(20)]
    assert len({tuple(gallery) for gallery in first}) > 10


def test_every_image_of_a_class_is_drawn_equally_often() -> None:
    labels = np.repeat([1, 0], 4)
    drawn = np.concatenate([one_of_each_class(labels, draw).gallery for draw in range(800)])
    assert all(150 < count < 250 for count in np.bincount(drawn, minlength=8))


def test_recall_is_that_of_the_nearest_gallery_image() -> None:
    """By hand, on a line: vectors are angles, and the nearest gallery image is the nearest angle."""
    angles = np.array([0.0, 0.1, 1.0, 1.1, 2.0, 0.3])
    labels = np.array([0, 0, 1, 1, 2, 2])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    for draw in range(10):
        protocol = one_of_each_class(labels, draw)
        nearest = [
            labels[protocol.gallery[np.abs(angles[protocol.gallery] - angles[q]).argmin()]]
            for q in protocol.query
        ]
        (score,) = prefix_curve([vectors], protocol, (1,))
        assert score.recall[1] == np.mean(nearest == labels[protocol.query])
