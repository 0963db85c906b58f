"""The embedded data set: its counts, and that it is drawn the same each time."""

from __future__ import annotations

from collections import Counter

import numpy as np

from muster.workers.datasets import Glyphs, open_data_set
from muster.workers.datasets.glyphs import CLASSES_PER_SPLIT, FACES


def test_each_split_has_200_characters_in_16_faces_and_they_share_none() -> None:
    splits = Glyphs().splits()
    assert list(splits) == ["train", "test"]
    for split in splits.values():
        assert len(split.items) == 3200
        assert len(split.class_names) == CLASSES_PER_SPLIT == 200
        assert set(Counter(item.class_name for item in split.items).values()) == {len(FACES)}
    assert not set(splits["train"].class_names) & set(splits["test"].class_names)


def test_an_image_is_drawn_the_same_each_time_and_its_siblings_differ() -> None:
    data = open_data_set("glyphs", None)
    items = data.splits()["train"].items
    drawn = [np.asarray(data.read(item).image) for item in items[:32]]
    assert all(image.shape == (32, 32, 3) and image.dtype == np.uint8 for image in drawn)
    assert all(
        np.array_equal(image, data.read(item).image) for image, item in zip(drawn, items, strict=False)
    )
    assert len({image.tobytes() for image in drawn}) == 32


def test_the_source_digest_is_that_of_the_split() -> None:
    splits = Glyphs().splits()
    digests = [Glyphs().source_digest(split) for split in splits.values()]
    assert digests[0] != digests[1]
    assert digests == [Glyphs().source_digest(split) for split in splits.values()]
