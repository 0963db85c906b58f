"""Tables of the pictures of 8 classes of 6, in the forms that people have, for `muster data check table`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli import Muster, Ran
from tests.orchestrator.cli.test_own_pictures import CLASSES

Rows = list[dict[str, Any]]
#: Of 8 classes of 6 pictures, the first four train.
BY_CLASS = {"train": (24, 4), "test": (24, 4)}


@pytest.fixture
def check(muster_without_cluster: Muster, image_folder: Path) -> Callable[..., Ran]:
    """`muster data check table` on the pictures of 8 classes."""

    def run(*words: object, root: object = image_folder, code: int = 0) -> Ran:
        return muster_without_cluster(
            "data", "check", "table", *(["--root", root] if root else []), *words, "--json", code=code
        )

    return run


@pytest.fixture
def rows(image_folder: Path) -> Rows:
    paths = sorted(path.relative_to(image_folder).as_posix() for path in image_folder.rglob("*.jpg"))
    return [{"path": path, "label": path.partition("/")[0]} for path in paths]


def csv_file(path: Path, rows: Sequence[Mapping[str, Any]], delimiter: str = ",") -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def lines_file(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def parquet_file(path: Path, rows: Sequence[Mapping[str, Any]], **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path, **how)
    return path


FORMS: dict[str, Callable[[Path, Rows], Path]] = {
    "items.csv": csv_file,
    "items.CSV": csv_file,
    "semicolons.csv": lambda path, rows: csv_file(path, rows, ";"),
    "items.tsv": lambda path, rows: csv_file(path, rows, "\t"),
    "items.jsonl": lines_file,
    "items.parquet": parquet_file,
}


def split_of(row: Mapping[str, Any]) -> str:
    return {"0": "train", "1": "train", "2": "train", "3": "validation"}.get(row["label"][-1], "test")


def hub_rows(image_folder: Path, classes: Sequence[str]) -> Rows:
    return [
        {
            "image": {"bytes": path.read_bytes(), "path": path.name},
            "label": CLASSES.index(path.parent.name),
        }
        for name in classes
        for path in sorted((image_folder / name).iterdir())
    ]


def with_features(rows: Rows) -> pa.Table:
    """A table as `datasets` writes it, whose labels have names."""
    names = [f"bird {name}" for name in CLASSES]
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.Table.from_pylist(rows).replace_schema_metadata(metadata)


def saved(folder: Path, table: pa.Table, files: int = 2) -> None:
    """As `Dataset.save_to_disk` does it."""
    folder.mkdir(parents=True)
    size = -(-table.num_rows // files)
    names = [f"data-{number:05d}-of-{files:05d}.arrow" for number in range(files)]
    for number, name in enumerate(names):
        with pa.ipc.new_stream(folder / name, table.schema) as writer:
            writer.write_table(table.slice(number * size, size), max_chunksize=5)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")
