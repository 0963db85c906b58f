"""Annotation files of data sets, changed in every way: one message with what is wrong, or a listing; nothing outside
the copy is read, nothing hangs and nothing takes the memory."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given

from muster.workers.datasets import Published, matlab, open_data_set
from muster.workers.errors import MusterError, UsageError
from tests.fuzzing import bounded, fuzzed, mutations
from tests.workers.datasets import copies

LAYOUTS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    **{name: (name, made) for name, made in copies.COPIES.items()},
    **{f"cars196 {layout}": ("cars196", made) for layout, made in copies.CAR_LAYOUTS.items()},
}


def listed(name: str, root: Path) -> None:
    """All that is done with a copy before an image is decoded; and every image decoded."""
    data = open_data_set(name, str(root), allow_counts=True)
    assert isinstance(data, Published)
    data.tree_found()
    for split in data.splits().values():
        data.source_digest(split)
        for item in split.items:
            assert ".." not in item.image_id.split("/")
            try:
                data.read(item)
            except MemoryError:
                raise
            except Exception as error:  # packing takes nearly anything for a bad image
                assert str(error)  # noqa: PT017


def lists_of(root: Path) -> list[Path]:
    return sorted(p for p in root.rglob("*") if p.is_file() and p.suffix.lower() not in {".jpg", ".png"})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_changed_lists_get_a_message_or_are_read(layout: str, tmp_path: Path) -> None:
    name, made = LAYOUTS[layout]
    root = made(tmp_path)
    for path in lists_of(root):
        whole = path.read_bytes()
        each_change(name, root, path, whole)
        path.write_bytes(whole)


def each_change(name: str, root: Path, path: Path, whole: bytes) -> None:
    @fuzzed(5)
    @given(mutations(path.name, whole))
    def each(data: bytes) -> None:
        path.write_bytes(data)
        with bounded():
            try:
                listed(name, root)
            except MusterError as error:
                assert str(error)  # noqa: PT017

    each()


OUTSIDE = [
    "../../../../nowhere/x.jpg",
    "/nowhere/x.jpg",
    "..\\..\\x.jpg",
    "C:\\x.jpg",
    "x/../../../y.jpg",
    "a\0b.jpg",
]
NAMED = {
    "cub200": ("CUB_200_2011/images.txt", "1 {}"),
    "sop": ("Stanford_Online_Products/Ebay_test.txt", "3 11319 1 {}"),
    "inshop": ("In-shop Clothes Retrieval Benchmark/Eval/list_eval_partition.txt", "{} id_00000001 train"),
    "vehicleid": ("VehicleID_V1.0/train_test_split/train_list.txt", "{} 9"),
}


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("name", NAMED)
def test_an_image_outside_the_copy_is_refused_with_its_line(name: str, path: str, tmp_path: Path) -> None:
    file, line = NAMED[name]
    root = copies.COPIES[name](tmp_path)
    lines = (root / file).read_text().splitlines()
    lines[-1] = line.format(path.removesuffix(".jpg") if name == "vehicleid" else path)
    (root / file).write_text("\n".join(lines) + "\n")
    with pytest.raises(UsageError, match=rf"lead out of the data root: .*:{len(lines)}: "):
        open_data_set(name, str(root), allow_counts=True).splits()


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("place", ["names", "images"])
def test_cars_outside_the_copy_are_refused(place: str, path: str, tmp_path: Path) -> None:
    root = copies.cars_by_class(tmp_path)
    file = root / ("names.csv" if place == "names" else "anno_test.csv")
    lines = file.read_text().splitlines()
    lines[0] = '".."' if place == "names" else f'"{path}",1,2,30,31,1'
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(UsageError, match="lead out of the data root"):
        open_data_set("cars196", str(root), allow_counts=True).splits()


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("what", ["pipe", "device", "huge"])
def test_a_list_that_would_never_end_is_refused(name: str, what: str, tmp_path: Path) -> None:
    root = copies.COPIES[name](tmp_path)
    file = root / NAMED[name][0]
    file.unlink()
    if what == "pipe":
        os.mkfifo(file)
    elif what == "device":
        file.symlink_to("/dev/zero")
    else:
        with file.open("wb") as made:
            made.truncate(1 << 40)  # a hole, which takes no disk
    with bounded(1 << 30), pytest.raises(UsageError, match=r"missing|no file|larger than"):
        open_data_set(name, str(root), allow_counts=True).splits()


def test_a_matlab_file_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matlab, "MOST_BYTES", 1 << 22)
    root = copies.cars_joint(tmp_path)
    element = zlib.compress(bytes(1 << 24))
    head = (root / "cars_annos.mat").read_bytes()[:128]
    (root / "cars_annos.mat").write_bytes(head + struct.pack("<II", 15, len(element)) + element)
    with bounded(1 << 29), pytest.raises(UsageError, match="unpacks to more than"):
        open_data_set("cars196", str(root), allow_counts=True).splits()


def test_a_table_that_promises_a_billion_rows_is_refused(tmp_path: Path) -> None:
    root = copies.cars_parquet(tmp_path)
    path = root / "data/train-00000-of-00001.parquet"
    labels = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1 << 24, np.int8)), pa.array([0], pa.int64()))
    image = pa.nulls(len(labels), pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    buffer = io.BytesIO()
    table = pa.table({"image": image, "label": labels.cast(pa.int64())})
    pq.write_table(table, buffer, compression="zstd")
    path.write_bytes(buffer.getvalue())
    del labels, image, table
    assert path.stat().st_size < 1 << 20
    with bounded(1 << 29), pytest.raises(UsageError, match="it promises"):
        open_data_set("cars196", str(root), allow_counts=True).splits()
