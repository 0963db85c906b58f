"""Packing what can't be packed: bad images are told, interrupted builds leave nothing, leftovers are swept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from muster.workers.datasets import ImageFolder, Item
from muster.workers.datasets.pictures import Picture
from muster.workers.errors import BadImagesError, StoreError, UsageError
from muster.workers.packs import build as packing
from muster.workers.packs import scratch as workshop
from muster.workers.packs.build import bad_images, build_pack, find_pack, source_name
from muster.workers.store.layout import Store
from tests.workers.datasets.test_image_files import empty, text, truncated
from tests.workers.packs.made_packs import RESIZE, CountingFolder, build, packs


def break_some(root: Path) -> dict[str, str]:
    """Three broken images of the training classes, by name, each with a part of its cause."""
    truncated(root / "class 00" / "1.jpg")
    empty(root / "class 01" / "2.jpg")
    text(root / "class 03" / "4.jpg")
    return {
        "class 00/1.jpg": "the file is truncated",
        "class 01/2.jpg": "the file is empty",
        "class 03/4.jpg": "no picture of a kind that is read",
    }


def test_bad_images_are_all_named_with_their_cause_and_nothing_is_stored(
    image_folder: Path, store: Store
) -> None:
    broken = break_some(image_folder)
    with pytest.raises(BadImagesError) as caught:
        build(store, ImageFolder(image_folder))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("3 of 24 images of")
    for line, (name, cause) in zip(lines[1:], broken.items(), strict=False):
        assert line.strip().startswith(f"{name}: ")
        assert cause in line.lower()
    assert "--skip-bad-images" in lines[-1]
    assert packs(store) == []


def test_of_many_bad_images_the_first_ten_are_shown_and_the_rest_counted(
    image_folder: Path, store: Store
) -> None:
    for number in range(4):
        for copy in range(4):
            empty(image_folder / f"class {number:02d}" / f"{copy}.jpg")
    with pytest.raises(BadImagesError, match="16 of 24") as caught:
        build(store, ImageFolder(image_folder))
    assert str(caught.value).count(".jpg:") == 10
    assert "and 6 more" in str(caught.value)


def test_skipping_goes_on_without_the_bad_images_and_lists_them(image_folder: Path, store: Store) -> None:
    broken = break_some(image_folder)
    data = CountingFolder(image_folder)
    index = build(store, data, skip_bad=True)
    assert len(index) == 21
    assert not set(index.table["image_id"].to_pylist()) & set(broken)
    assert [bad.image_id for bad in bad_images(store, index.digest)] == list(broken)
    assert all(broken[bad.image_id] in bad.cause.lower() for bad in bad_images(store, index.digest))
    data.decoded.clear()
    assert build(store, data, skip_bad=True).digest == index.digest
    assert data.decoded == []
    with pytest.raises(BadImagesError):
        build(store, data)


def test_skipped_images_are_listed_though_the_others_were_packed_before(
    image_folder: Path, store: Store
) -> None:
    clean = build(store, ImageFolder(image_folder))
    empty(image_folder / "class 00" / "new.jpg")
    index = build(store, ImageFolder(image_folder), skip_bad=True)
    assert [bad.image_id for bad in bad_images(store, index.digest)] == ["class 00/new.jpg"]
    assert bad_images(store, clean.digest) == []
    assert index.part().digest == clean.part().digest  # so its models are the same


def test_if_all_images_are_bad_skipping_is_refused_too(image_folder: Path, store: Store) -> None:
    for image in image_folder.rglob("*.jpg"):
        text(image)
    with pytest.raises(BadImagesError, match="24 of 24"):
        build(store, ImageFolder(image_folder), skip_bad=True)


def test_a_strip_of_an_image_is_bad_and_not_the_end(image_folder: Path, store: Store) -> None:
    Image.new("RGB", (1, 3000)).save(image_folder / "class 00" / "strip.png")
    with pytest.raises(BadImagesError, match=r"strip\.png: its 1 x 3000 pixels become 200 x 600000"):
        build(store, ImageFolder(image_folder), resize="short:200")


def test_an_interrupted_build_leaves_nothing_that_a_reader_trusts(
    image_folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(CountingFolder):
        def read(self, item: Item) -> Picture:
            if item.image_id == "class 02/0.jpg":
                raise KeyboardInterrupt
            return super().read(item)

    split = ImageFolder(image_folder).splits()["train"]
    with pytest.raises(KeyboardInterrupt):
        build_pack(store, Stopped(image_folder), split, RESIZE)
    assert all(name.startswith("muster-part-") for name in packs(store))  # for the next builder alone
    assert find_pack(store, ImageFolder(image_folder), split, RESIZE, False) is None

    move_in = type(store.files).move_in

    def failing(*args: object) -> None:
        move_in(*args)  # type: ignore[arg-type]
        raise StoreError("the disk is full")

    monkeypatch.setattr(type(store.files), "move_in", failing)
    data = CountingFolder(image_folder)
    with pytest.raises(StoreError):
        build_pack(store, data, split, RESIZE)
    monkeypatch.undo()
    assert not [name for name in packs(store) if "DONE" in name or "muster-pack-" in name]
    assert find_pack(store, data, split, RESIZE, False) is None
    assert len(build(store, data)) == 24


LEAVE = """
import os, sys
from muster.workers.store.layout import Store
from muster.workers.packs.scratch import scratch_folder
with scratch_folder(Store(sys.argv[1])) as scratch:
    (scratch / "pixels.bin").write_bytes(b"half")
    os._exit(9)
"""


def test_what_a_killed_builder_left_is_swept_by_the_next(image_folder: Path, store: Store) -> None:
    subprocess.run(
        [sys.executable, "-c", LEAVE, store.root], check=False, cwd=Path(packing.__file__).parents[1]
    )
    assert any("muster-pack" in name for name in packs(store))
    build(store, ImageFolder(image_folder))
    assert not any("muster-pack" in name for name in packs(store))


def test_a_living_builders_scratch_is_left_alone(image_folder: Path, store: Store) -> None:
    with workshop.scratch_folder(store) as scratch:
        (scratch / "pixels.bin").write_bytes(b"half")
        build(store, ImageFolder(image_folder))
        assert (scratch / "pixels.bin").read_bytes() == b"half"
    assert not scratch.exists()


def test_what_another_host_left_is_swept_after_a_day(image_folder: Path, store: Store) -> None:
    assert store.files.local_root is not None
    old, fresh, writing = (store.files.local_root / f"packs/muster-pack-elsewhere-{name}" for name in "abc")
    for folder in (old, fresh, writing):
        folder.mkdir(parents=True)
        (folder / "pixels.bin").write_bytes(b"half")
    before = time.time() - 2 * workshop.DAY
    for path in (old / "pixels.bin", old, writing):
        os.utime(path, (before, before))
    build(store, ImageFolder(image_folder))
    assert not old.exists()
    assert fresh.exists()
    assert writing.exists()


def test_a_disk_without_room_is_told_before_anything_is_decoded(
    image_folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(image_folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    data = CountingFolder(image_folder)
    with pytest.raises(UsageError, match=r"kB of disk.*has 1.0 kB free.*--storage"):
        build(store, data)
    assert data.decoded == []


def test_a_store_that_cannot_be_written_is_named(image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file.*--storage"):
        build(Store(str(tmp_path / "file")), ImageFolder(image_folder))


def test_a_source_that_is_another_split_s_leads_to_no_pack(image_folder: Path, tmp_path: Path) -> None:
    """Two sources swapped would train on the test images, and test on the others."""
    store, data = Store(str(tmp_path / "store")), ImageFolder(image_folder)
    splits = data.splits()
    packs = {name: build_pack(store, data, split, RESIZE) for name, split in splits.items()}
    names = [store.pack_source(source_name(data, split, RESIZE, False)) for split in splits.values()]
    first, second = (store.files.get(name) for name in names)
    store.files.put(names[0], second)
    store.files.put(names[1], first)
    assert [find_pack(store, data, split, RESIZE, False) for split in splits.values()] == [None, None]
    again = {name: build_pack(store, data, split, RESIZE).digest for name, split in splits.items()}
    assert again == {name: pack.digest for name, pack in packs.items()}
