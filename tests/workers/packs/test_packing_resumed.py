"""A builder that is killed leaves its work, and the next one goes on with it: the pack is the same."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest

from muster.workers.datasets import DataSet, ImageFolder, Item
from muster.workers.errors import BadImagesError
from muster.workers.packs import build as packing
from muster.workers.packs import scratch as workshop
from muster.workers.packs.build import Decoded, bad_images, build_pack, decoded
from muster.workers.packs.pack import ResizeRule
from muster.workers.store.layout import Store
from tests.workers.datasets.test_image_files import truncated
from tests.workers.packs.made_packs import RESIZE, CountingFolder, build, packs

KILLED = """
import os, sys
from pathlib import Path
from muster.workers.datasets import ImageFolder
from muster.workers.packs.build import build_pack
from muster.workers.store.layout import Store
data = ImageFolder(Path(sys.argv[2]))
def progress(done, total):
    if done == 15:
        os._exit(9)
build_pack(
    Store(sys.argv[1]), data, data.splits()["train"], "squash:20", skip_bad=len(sys.argv) > 3, progress=progress
)
"""


def kill_a_builder(store: Store, images: Path, *skip: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, store.root, str(images), *skip],
        check=False,
        cwd=Path(packing.__file__).parents[1],
    )
    assert done.returncode == 9


def the_part(store: Store) -> Path:
    (folder,) = (Path(store.root) / "packs").glob("muster-part-*")
    return folder


def test_the_next_builder_decodes_only_what_is_left(image_folder: Path, store: Store, tmp_path: Path) -> None:
    kill_a_builder(store, image_folder)
    data, seen = CountingFolder(image_folder), []
    split = data.splits()["train"]
    index = build_pack(store, data, split, RESIZE, progress=lambda done, total: seen.append((done, total)))
    assert len(data.decoded) == 24 - 15
    assert seen == [(number, 24) for number in range(15, 25)]
    straight = build(Store(str(tmp_path / "other")), ImageFolder(image_folder))
    assert index.digest == straight.digest
    assert index.table.equals(straight.table)
    assert len(packs(store)) == 5  # nothing of the part is left


def test_work_is_kept_where_what_decodes_fails(image_folder: Path, store: Store) -> None:
    """As a worker of Ray's does that is killed: neither the files nor the request are wrong."""

    def failing(data: DataSet, items: Sequence[Item], rule: ResizeRule) -> Iterator[Decoded]:
        yield from islice(decoded(data, items, rule), 15)
        raise RuntimeError("the worker died")

    data = CountingFolder(image_folder)
    with pytest.raises(RuntimeError):
        build_pack(store, data, data.splits()["train"], RESIZE, decode=failing)
    data.decoded.clear()
    assert len(build(store, data)) == 24
    assert len(data.decoded) == 24 - 15


@pytest.mark.parametrize("cut", [1, 1200, 5 * 1200 + 7])
def test_pixels_that_never_reached_the_disk_are_made_again(
    cut: int, image_folder: Path, store: Store
) -> None:
    kill_a_builder(store, image_folder)
    pixels = the_part(store) / "pixels.bin"
    os.truncate(pixels, pixels.stat().st_size - cut)
    data = CountingFolder(image_folder)
    build(store, data)
    assert len(data.decoded) == 24 - 15 + -(-cut // 1200)


def test_damage_in_the_part_is_noticed(image_folder: Path, store: Store, tmp_path: Path) -> None:
    kill_a_builder(store, image_folder)
    part = the_part(store)
    content = bytearray((part / "pixels.bin").read_bytes())
    content[3 * 1200 + 5] ^= 1
    (part / "pixels.bin").write_bytes(content)
    journal = part / "journal.jsonl"
    journal.write_text(journal.read_text()[:-20])
    data = CountingFolder(image_folder)
    assert build(store, data).digest == build(Store(str(tmp_path / "b")), ImageFolder(image_folder)).digest
    assert len(data.decoded) == 24 - 3


def test_bad_images_found_before_the_kill_are_still_told(image_folder: Path, store: Store) -> None:
    truncated(image_folder / "class 00" / "1.jpg")
    kill_a_builder(store, image_folder)
    with pytest.raises(BadImagesError, match=r"class 00/1\.jpg"):
        build(store, ImageFolder(image_folder))
    assert packs(store) == []
    kill_a_builder(store, image_folder, "skip")
    index = build(store, ImageFolder(image_folder), skip_bad=True)
    assert [bad.image_id for bad in bad_images(store, index.digest)] == ["class 00/1.jpg"]


def test_changed_files_are_another_pack_and_begin_anew(image_folder: Path, store: Store) -> None:
    kill_a_builder(store, image_folder)
    os.utime(image_folder / "class 00" / "0.jpg", ns=(1, 1))
    data = CountingFolder(image_folder)
    build(store, data)
    assert len(data.decoded) == 24


def test_a_part_that_nobody_goes_on_with_is_swept_after_a_week(image_folder: Path, store: Store) -> None:
    kill_a_builder(store, image_folder)
    part = the_part(store)
    other = part.with_name("muster-part-other")
    part.rename(other)
    build(store, ImageFolder(image_folder))
    assert other.exists()
    before = time.time() - 1.1 * workshop.WEEK
    for path in (*other.iterdir(), other):
        os.utime(path, (before, before))
    with workshop.scratch_folder(store):
        assert not other.exists()
