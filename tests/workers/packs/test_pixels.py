"""Resize rules against torchvision, and packs as they are opened: in place, fetched, damaged."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from muster.workers.datasets import ImageFolder
from muster.workers.errors import CorruptFileError, StoreError, UsageError
from muster.workers.packs.build import build_pack, find_pack
from muster.workers.packs.pack import Pack, PackIndex, ResizeRule, open_pack
from muster.workers.store.layout import Store
from tests.workers.samples import synthetic_pack

SHAPES = [
    (40, 30),
    (30, 40),
    (30, 30),
    (64, 48),
    (500, 333),
    (333, 500),
    (3, 1000),
    (1000, 7),
    (255, 256),
    (20, 61),
]


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng([width, height]).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("side", [16, 30, 281])
@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_the_short_side_is_resized_as_torchvision_does(width: int, height: int, side: int) -> None:
    image = picture(width, height)
    found = ResizeRule.parse(f"short:{side}").apply(image)
    wanted = TF.resize(image, side, InterpolationMode.BILINEAR, antialias=True)
    assert found.size == wanted.size
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("side", [16, 30])
@pytest.mark.parametrize(("width", "height"), SHAPES[:5])
def test_squashing_is_torchvisions_resize_to_a_square(width: int, height: int, side: int) -> None:
    image = picture(width, height)
    found = ResizeRule.parse(f"squash:{side}").apply(image)
    assert np.array_equal(found, TF.resize(image, [side, side], InterpolationMode.BILINEAR, antialias=True))


def test_an_image_of_the_right_size_is_left_as_it_is() -> None:
    image = picture(30, 40)
    assert ResizeRule.parse("short:30").apply(image) is image


def test_a_strip_that_would_become_gigantic_is_refused_with_its_sizes() -> None:
    with pytest.raises(ValueError, match="1 x 2000 pixels become 256 x 512000"):
        ResizeRule.parse("short:256").apply(picture(1, 2000))
    assert ResizeRule.parse("squash:256").apply(picture(1, 2000)).size == (256, 256)


@pytest.mark.parametrize(
    "text", ["", "256", "squash", "squash:", "squash:0", "short:-3", "short:2.5", "crop:256", "SQUASH:3"]
)
def test_a_rule_that_cannot_be_read_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(
        ValueError, match=rf"resize = {re.escape(repr(text))}: must be squash:N, short:N or white:N"
    ):
        ResizeRule.parse(text)


def packed(store: Store, root: Path, resize: str = "short:16") -> PackIndex:
    data = ImageFolder(root)
    return build_pack(store, data, data.splits()["train"], resize)


def whole(pack: Pack) -> list[bytes]:
    return [pack.image(row).tobytes() for row in range(len(pack.index))]


def test_ragged_images_keep_their_shapes(image_folder: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    index = packed(store, image_folder)
    pack = open_pack(store.pack(index.digest), index.digest, tmp_path / "cache")
    data = ImageFolder(image_folder)
    rule = ResizeRule.parse("short:16")
    shapes = set()
    for row, item in enumerate(data.splits()["train"].items):
        wanted = np.asarray(rule.apply(data.read(item).image))
        assert np.array_equal(pack.image(row), wanted)
        assert pack.sizes(np.array([row])).tolist() == [list(wanted.shape[:2])]
        shapes.add(wanted.shape)
    assert len(shapes) > 3
    assert index.bytes == len(pack.pixels) == sum(len(image) for image in whole(pack))


def test_a_pack_says_what_it_holds_without_its_pixels(image_folder: Path, tmp_path: Path) -> None:
    index = packed(Store(str(tmp_path / "store")), image_folder, "squash:20")
    assert (len(index), index.split, index.resize) == (24, "train", "squash:20")
    assert index.class_names == [f"class {number:02d}" for number in range(4)]
    assert index.labels.tolist() == [number for number in range(4) for _ in range(6)]
    assert index.bytes == 24 * 20 * 20 * 3


def test_a_part_holds_the_classes_asked_for_labelled_in_their_order() -> None:
    index = synthetic_pack(classes=5, each=2).index
    part = index.part((3, 0))
    assert part.rows.tolist() == [0, 1, 6, 7]
    assert part.labels.tolist() == [1, 1, 0, 0]
    assert part.classes == 2
    assert index.part().labels.tolist() == index.labels.tolist()


def test_every_kind_of_store_gives_the_same_pixels(root: str, image_folder: Path, tmp_path: Path) -> None:
    local, store = Store(str(tmp_path / "local")), Store(root)
    wanted, index = packed(local, image_folder), packed(store, image_folder)
    assert index.digest == wanted.digest
    first = open_pack(store.pack(index.digest), index.digest, tmp_path / "cache")
    again = open_pack(store.pack(index.digest), index.digest, tmp_path / "cache")
    plain = open_pack(local.pack(index.digest), index.digest, tmp_path / "cache")
    assert whole(first) == whole(again) == whole(plain)


def test_a_pack_is_fetched_once_and_again_if_the_copy_is_damaged(
    s3_bucket: str, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(s3_bucket.replace("bucket?", "bucket/fetched?"))
    index = packed(store, image_folder)
    fetched: list[str] = []
    fetch = type(store.files).fetch
    monkeypatch.setattr(type(store.files), "fetch", lambda *args: (fetched.append(args[1]), fetch(*args)))
    cache = tmp_path / "cache"
    wanted = [whole(open_pack(store.pack(index.digest), index.digest, cache)) for _ in range(3)]
    assert len(fetched) == 1
    copy = cache / "packs" / index.digest / "pixels.bin"
    copy.write_bytes(copy.read_bytes()[:-1] + b"\xff")
    again = open_pack(store.pack(index.digest), index.digest, cache)
    assert len(fetched) == 2
    assert whole(again) == wanted[0]


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("how", [damage, Path.unlink])
def test_damaged_pixels_are_noticed_forgotten_and_built_again(
    how: Any, image_folder: Path, tmp_path: Path
) -> None:
    store, cache = Store(str(tmp_path / "store")), tmp_path / "cache"
    index = packed(store, image_folder)
    folder = store.pack(index.digest)
    pixels = tmp_path / "store" / folder.name / "pixels.bin"
    before = pixels.read_bytes()
    open_pack(folder, index.digest, cache)
    how(pixels)
    with pytest.raises(CorruptFileError, match=r"pixels\.bin.*launch again"):
        open_pack(folder, index.digest, cache)
    with pytest.raises(UsageError, match=f"no pack {index.digest}"):
        open_pack(folder, index.digest, cache)
    data = ImageFolder(image_folder)
    assert find_pack(store, data, data.splits()["train"], "short:16", False) is None
    assert packed(store, image_folder).digest == index.digest
    assert open_pack(folder, index.digest, cache).pixels.tobytes() == before


def test_a_damaged_index_is_noticed_and_built_again(image_folder: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    index = packed(store, image_folder)
    damage(tmp_path / "store" / "packs" / index.digest / "index.parquet")
    with pytest.raises(CorruptFileError, match=r"index\.parquet is damaged"):
        open_pack(store.pack(index.digest), index.digest, tmp_path / "cache")
    assert packed(store, image_folder).digest == index.digest
    assert len(open_pack(store.pack(index.digest), index.digest, tmp_path / "cache").index) == 24


def test_the_content_is_read_once_for_each_version_of_the_file(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from muster.workers.store.files import FileRecord

    store, cache = Store(str(tmp_path / "store")), tmp_path / "cache"
    index = packed(store, image_folder)
    checked: list[Path] = []
    of_path = FileRecord.of_path
    monkeypatch.setattr(FileRecord, "of_path", lambda path: (checked.append(path), of_path(path))[1])
    for _ in range(3):
        open_pack(store.pack(index.digest), index.digest, cache)
    assert len(checked) == 1
    pixels = tmp_path / "store" / "packs" / index.digest / "pixels.bin"
    pixels.write_bytes(pixels.read_bytes())
    open_pack(store.pack(index.digest), index.digest, cache)
    assert len(checked) == 2


def test_a_cache_that_cannot_be_written_is_named_with_the_cure(image_folder: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    index = packed(store, image_folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="MUSTER_CACHE"):
        open_pack(store.pack(index.digest), index.digest, tmp_path / "file" / "cache")
    assert store.pack(index.digest).done() is not None
