"""Tables of one's own pictures: which column is packed, who asks and who answers, damage in a file of pictures."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from muster.workers.datasets import ImageTable, Reading
from muster.workers.datasets.cells import _Part
from muster.workers.datasets.own.headers import read_headers
from muster.workers.datasets.pictures import BadPictureError
from muster.workers.errors import SourceError, UsageError
from muster.workers.packs.build import build_pack, find_pack, source_name
from muster.workers.store.layout import Store

RESIZE = "squash:8"


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(buffer, "PNG")
    return buffer.getvalue()


def table(path: Path, *, columns: Sequence[str], rows: int = 8) -> Path:
    """Rows of 4 classes, each with a picture in every one of these columns: darker than 50, or than 150."""
    pictures = {
        name: pa.array([png(100 * place + row) for row in range(rows)], pa.binary())
        for place, name in enumerate(columns)
    }
    labels = [f"class {row * 4 // rows}" for row in range(rows)]
    pq.write_table(pa.table({**pictures, "label": labels}), path)
    return path


def opened(path: Path, *columns: str, **how: Any) -> ImageTable:
    return ImageTable(None, Reading(table=str(path), columns=columns, **how))


# Several columns of pictures


@pytest.mark.parametrize(
    ("there", "first", "second"),
    [
        (("front", "back"), ["image=front"], ["image=back"]),
        (("image", "thumb"), [], ["image=thumb"]),
    ],
)
def test_another_column_of_pictures_is_another_pack(
    tmp_path: Path, store: Store, there: tuple[str, ...], first: list[str], second: list[str]
) -> None:
    path = table(tmp_path / "items.parquet", columns=there)
    data, other = opened(path, *first), opened(path, *second)
    built = build_pack(store, data, data.splits()["train"], RESIZE)
    assert find_pack(store, other, other.splits()["train"], RESIZE, False) is None
    again = build_pack(store, other, other.splits()["train"], RESIZE)
    assert again.digest != built.digest
    for one, digest in ((data, built.digest), (other, again.digest)):
        found = find_pack(store, one, one.splits()["train"], RESIZE, False)
        assert found is not None
        assert found.digest == digest


def test_where_one_column_has_pictures_its_name_says_nothing(tmp_path: Path) -> None:
    """Packs of older releases are found by what they were named for."""
    path = table(tmp_path / "items.parquet", columns=["photo"])
    names = set()
    for data in (opened(path), opened(path, "image=photo")):
        names.add(source_name(data, data.splits()["train"], RESIZE, False))
    assert len(names) == 1


# Who asks and who answers


def listed(folder: Path, rows: Sequence[str]) -> ImageTable:
    """A table with the columns path, label, split and role, beside its pictures."""
    for row in rows:
        (folder / row.partition(",")[0]).write_bytes(png(0))
    (folder / "items.csv").write_text("\n".join(["path,label,split,role", *rows]) + "\n")
    return opened(folder / "items.csv")


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("query,", "gallery,", "gallery, and query in items.csv:4"),
        ("gallery,", "query,", "query, and gallery in items.csv:4"),
        ("test,query", "test,gallery", "gallery, and query in items.csv:4"),
        ("test,", "test,query", "query, and both in items.csv:4"),
    ],
)
def test_a_picture_whose_rows_say_two_sides_is_refused(
    tmp_path: Path, one: str, other: str, said: str
) -> None:
    trained = ["a0.png,a,train,", "b0.png,b,train,"]
    tested = [f"{name}.png,c,{side}" for side in (one, other) for name in ("c0", "c1")]
    with pytest.raises(UsageError) as caught:
        listed(tmp_path, [*trained, *tested]).splits()
    told = str(caught.value)
    assert "2 picture(s) whose rows say two sides of the search" in told
    assert f"items.csv:6: c0.png: {said}" in told
    assert "split test" in told
    assert "without a role" in told


def test_a_picture_without_a_role_asks_and_answers(tmp_path: Path) -> None:
    rows = ["a0.png,a,train,", "b0.png,b,train,", "c0.png,c,test,", "c1.png,c,test,gallery", "c0.png,c,test,"]
    data = listed(tmp_path, rows)
    assert [item.role for item in data.splits()["test"].items] == ["", "gallery"]


# Damage in a file of pictures


def damaged(path: Path) -> Path:
    """A table whose pictures can't be read from some row in its middle on."""
    noise = np.random.default_rng(0)
    pictures = pa.array([noisy(noise) for _ in range(100)], pa.binary())
    labels = [f"class {number // 25}" for number in range(100)]
    how: dict[str, Any] = {"data_page_size": 1 << 12, "use_dictionary": ["label"], "write_batch_size": 8}
    pq.write_table(pa.table({"image": pictures, "label": labels}), path, compression="zstd", **how)
    column = pq.read_metadata(path).row_group(0).column(0)
    data, at = bytearray(path.read_bytes()), column.data_page_offset + column.total_compressed_size * 2 // 3
    data[at : at + 5000] = bytes(5000)
    path.write_bytes(data)
    return path


def noisy(noise: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise.integers(0, 256, (16, 16, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_pictures_behind_a_damaged_page_are_named_with_what_is_damaged(tmp_path: Path) -> None:
    data = opened(damaged(tmp_path / "items.parquet"))
    found = read_headers(data, data.splits())
    names = [name for name, _ in found.bad]
    first = int(names[0].partition("#")[2])
    assert 0 < first < 70
    assert names == [f"items.parquet#{row}" for row in range(first, 100)]
    for _, cause in found.bad:
        assert cause.startswith(f"its file can't be read from row {first} on (")
        assert "row any more" not in cause
    assert data.read(data.splits()["train"].items[0])  # rows before it are there


def test_a_store_that_did_not_answer_is_asked_again() -> None:
    """Nothing is damaged by that."""
    asked = []

    def begin() -> Iterator[pa.Array]:
        asked.append(len(asked))
        yield pa.array([b"0", b"1"])
        if len(asked) == 1:
            raise SourceError("no answer")
        yield pa.array([b"2", b"3"])

    part = _Part(0, begin)
    assert part.value(0) == b"0"
    with pytest.raises(SourceError):
        part.value(3)
    assert part.value(3) == b"3"
    with pytest.raises(BadPictureError, match="no such row any more"):
        part.value(4)


# Where a mistake is, and what a label is called


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("items.csv", b"path,label\na.png\n", ":2: 1 cells"),
        ("items.csv", b"path,label\na.png,\xff\xfe\n", ":2: '\\udcff\\udcfe' is not UTF-8 text"),
        ("items.csv", b'path,label\na.png,"x\ny"\n', ":2: a cell goes over the line's end"),
        ("items.csv", b'path,label\n"a.png,x\n', ":2: a quote is opened and not closed"),
        ("items.jsonl", b'{"path": \n', ":1: no JSON"),
        ("items.jsonl", b"[1]\n", ":1: each line should be an object"),
    ],
)
def test_a_mistake_is_named_with_a_file_that_exists(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / "meta").mkdir()
    path = tmp_path / "meta" / name
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        ImageTable(tmp_path, Reading(table=str(path))).splits()
    assert str(caught.value).startswith(f"{path}{said}")


def classes_of(folder: Path, labels: Sequence[Any], split_of: Sequence[tuple[Any, str]]) -> dict[str, Any]:
    """The classes of each split, where a list of classes says which train."""
    pictures = pa.array([png(number) for number in range(len(labels))], pa.binary())
    pq.write_table(pa.table({"image": pictures, "label": labels}), folder / "items.parquet")
    names, kinds = zip(*split_of, strict=True)
    pq.write_table(pa.table({"label": names, "split": kinds}), folder / "classes.parquet")
    how = {"split_by": "file", "split_file": str(folder / "classes.parquet")}
    splits = opened(folder / "items.parquet", **how).splits()
    return {name: split.class_names for name, split in splits.items()}


def test_a_list_of_classes_calls_labels_as_the_table_does(tmp_path: Path) -> None:
    numbers = [0.0, 1.0, 2.0, 3.5]
    given = list(zip(numbers, ["train", "train", "test", "test"], strict=True))
    assert classes_of(tmp_path, numbers, given) == {"train": ["0", "1"], "test": ["2", "3.5"]}


@pytest.mark.parametrize("label", [None, "", "  "])
def test_a_list_of_classes_with_an_empty_label_is_refused(tmp_path: Path, label: str | None) -> None:
    given = [(label, "train"), ("a", "train"), ("b", "test")]
    with pytest.raises(UsageError, match=r"classes\.parquet, row 1: it has no label"):
        classes_of(tmp_path, ["a", "b", "None", "c"], given)
