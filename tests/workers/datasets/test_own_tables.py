"""Tables of one's own pictures: which column is packed, who asks and who answers, damage in a file of pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from muster.workers.datasets import ImageTable, Reading
from muster.workers.errors import UsageError
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
