"""Building packs: the same files are found again without decoding, changed ones are noticed."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
from PIL import Image

from muster.workers.datasets import ImageFolder, Item
from muster.workers.datasets.pictures import Picture
from muster.workers.packs import build as packing
from muster.workers.packs.build import build_pack, find_pack
from muster.workers.packs.pack import ResizeRule
from muster.workers.store.layout import Store
from tests.workers.packs.made_packs import RESIZE, CountingFolder, build, packs


def test_the_same_files_are_found_again_without_decoding(image_folder: Path, store: Store) -> None:
    data = CountingFolder(image_folder)
    first = build(store, data)
    assert sorted(data.decoded) == sorted(item.image_id for item in data.splits()["train"].items)
    data.decoded.clear()
    again = build(store, data)
    assert data.decoded == []
    assert again.digest == first.digest
    assert again.table.equals(first.table)


def test_a_new_process_on_another_store_gives_the_same_digest(
    image_folder: Path, store: Store, tmp_path: Path
) -> None:
    other = Store(str(tmp_path / "other"))
    digest = build(store, ImageFolder(image_folder)).digest
    assert build(other, ImageFolder(image_folder)).digest == digest
    assert [len(packs(one)) for one in (store, other)] == [5, 5]


def test_another_rule_is_another_pack(image_folder: Path, store: Store) -> None:
    data = CountingFolder(image_folder)
    digests = {build(store, data, resize=resize).digest for resize in ("squash:20", "squash:24", "short:20")}
    assert len(digests) == 3
    assert len(data.decoded) == 3 * 24


def test_a_changed_image_is_noticed_and_packed_anew(image_folder: Path, store: Store) -> None:
    data = CountingFolder(image_folder)
    first = build(store, data)
    image = image_folder / "class 01" / "2.jpg"
    Image.new("RGB", (40, 30), (9, 200, 30)).save(image)
    data.decoded.clear()
    changed = build(store, data)
    assert len(data.decoded) == 24
    assert changed.digest != first.digest
    assert changed.part().digest != first.part().digest
    assert find_pack(store, data, data.splits()["train"], RESIZE, False) is not None


def test_a_touched_image_is_decoded_again_and_gives_the_same_pack(image_folder: Path, store: Store) -> None:
    data = CountingFolder(image_folder)
    first = build(store, data)
    os.utime(image_folder / "class 01" / "2.jpg", ns=(1, 1))
    data.decoded.clear()
    assert build(store, data).digest == first.digest
    assert len(data.decoded) == 24


def test_an_image_that_changes_while_it_is_packed_is_not_taken_for_the_new_one(
    image_folder: Path, store: Store
) -> None:
    class Changing(CountingFolder):
        def read(self, item: Item) -> Picture:
            image = super().read(item)
            if item.image_id == "class 01/2.jpg":
                Image.new("RGB", (40, 30), (9, 200, 30)).save(image_folder / item.image_id)
            return image

    old = build(store, Changing(image_folder))
    data = CountingFolder(image_folder)
    new = build(store, data)
    assert len(data.decoded) == 24
    assert new.digest != old.digest


def test_progress_counts_every_image(image_folder: Path, store: Store) -> None:
    data, seen = ImageFolder(image_folder), []
    split = data.splits()["train"]
    build_pack(store, data, split, RESIZE, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 24) for number in range(1, 25)]


def test_two_builders_at_once_end_with_one_whole_pack(image_folder: Path, store: Store) -> None:
    class Rival(ImageFolder):
        """Builds the same pack while this one is being built."""

        def read(self, item: Item) -> Picture:
            if item.image_id == "class 02/0.jpg":
                build(store, ImageFolder(image_folder))
            return super().read(item)

    index = build(store, Rival(image_folder))
    assert build(store, CountingFolder(image_folder)).digest == index.digest
    assert len(packs(store)) == 5


def test_the_estimated_size_is_exact_for_squares(image_folder: Path, store: Store) -> None:
    data = ImageFolder(image_folder)
    estimate = packing.estimated_bytes(data.splits()["train"], ResizeRule.parse(RESIZE))
    assert estimate == build(store, data).bytes


def test_labels_and_roles_are_part_of_a_packs_identity(image_folder: Path, store: Store) -> None:
    data = ImageFolder(image_folder)
    split = data.splits()["train"]
    queries = dataclasses.replace(split, items=[item._replace(role="query") for item in split.items])
    plain, other = (build_pack(store, data, one, RESIZE) for one in (split, queries))
    assert plain.digest != other.digest
    assert plain.part().digest == other.part().digest
    assert other.table["role"].to_pylist() == ["query"] * 24


def test_pixels_are_those_of_the_images_in_order(image_folder: Path, store: Store, tmp_path: Path) -> None:
    data = ImageFolder(image_folder)
    index = build(store, data)
    pixels = np.fromfile(Path(store.root) / "packs" / index.digest / "pixels.bin", np.uint8).reshape(
        24, 20, 20, 3
    )
    for found, item in zip(pixels, data.splits()["train"].items, strict=True):
        assert np.array_equal(found, ResizeRule.parse(RESIZE).apply(data.read(item).image))
