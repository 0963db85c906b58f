"""Tables of pictures in the forms people have, read as they are given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.cli import Muster
from tests.orchestrator.cli.tables import (
    BY_CLASS,
    FORMS,
    Rows,
    check,
    csv_file,
    hub_rows,
    lines_file,
    parquet_file,
    rows,
    saved,
    split_of,
    with_features,
)
from tests.orchestrator.cli.test_own_pictures import CLASSES, left, sides

__all__ = ["check", "rows"]


@pytest.mark.parametrize("form", FORMS)
def test_a_table_in_any_form_is_split_by_class(check: Any, rows: Rows, tmp_path: Path, form: str) -> None:
    found = check("--list", FORMS[form](tmp_path / form, rows)).document
    assert sides(found) == BY_CLASS
    assert found["account"]["entries"] == found["account"]["taken"] == 48


def test_without_a_root_paths_are_below_the_table(check: Any, rows: Rows, image_folder: Path) -> None:
    table = csv_file(image_folder / "items.csv", rows)
    assert sides(check("--list", table, root=None).document) == BY_CLASS


def test_a_mark_of_order_and_ends_of_lines_of_another_system_are_read(
    check: Any, rows: Rows, tmp_path: Path
) -> None:
    table = csv_file(tmp_path / "items.csv", rows)
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    assert sides(check("--list", table).document) == BY_CLASS


@pytest.mark.parametrize("form", ["items.csv", "items.jsonl", "items.parquet"])
def test_columns_of_other_names_are_mapped(check: Any, rows: Rows, tmp_path: Path, form: str) -> None:
    named = [{"file": row["path"], "item_id": row["label"], "price": 3} for row in rows]
    table = FORMS[form](tmp_path / form, named)
    assert sides(check("--list", table, "--columns", "path=file,label=item_id").document) == BY_CLASS
    refused = check("--list", table, code=2)
    assert "has no column label and path; it has file, item_id, price" in refused.err
    assert "--columns path=NAME,label=NAME" in refused.err


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_shown_as_they_are_given(check: Any, rows: Rows, tmp_path: Path, form: str) -> None:
    labels = dict(
        zip(CLASSES, ["007", "2026-11-27", "42", "Größe 38", "NaN", "null", "x,y", "L/XL"], strict=True)
    )
    table = FORMS[form](tmp_path / form, [{**row, "label": labels[row["label"]]} for row in rows])
    found = check("--list", table).document
    shown = ", ".join(row["names"] for row in found["splits"])
    assert shown == ", ".join(sorted(labels.values()))


def test_numbers_are_labels(check: Any, rows: Rows, tmp_path: Path) -> None:
    numbered = [{**row, "label": int(row["label"][-2:])} for row in rows]
    for table in (lines_file(tmp_path / "a.jsonl", numbered), parquet_file(tmp_path / "a.parquet", numbered)):
        assert check("--list", table).document["splits"][0]["names"] == "0, 1, 2, 3"
    gaps = [{**row, "label": float(row["label"])} for row in numbered]  # as a table with gaps keeps them
    table = parquet_file(tmp_path / "gaps.parquet", gaps)
    assert check("--list", table).document["splits"][0]["names"] == "0, 1, 2, 3"


# Splits and roles


def test_splits_that_are_given_are_used(check: Any, rows: Rows, tmp_path: Path) -> None:
    table = csv_file(tmp_path / "items.csv", [{**row, "split": split_of(row)} for row in rows])
    assert sides(check("--list", table).document) == {"train": (18, 3), "val": (6, 1), "test": (24, 4)}
    assert sides(check("--list", table, "--layout", "classes").document) == BY_CLASS


def test_a_table_of_open_metric_learning(check: Any, rows: Rows, tmp_path: Path) -> None:
    def told(row: Mapping[str, Any], number: int) -> dict[str, Any]:
        if row["label"] < CLASSES[4]:
            return {**row, "split": "train", "is_query": "", "is_gallery": ""}
        return {**row, "split": "validation", "is_query": number % 3 == 0, "is_gallery": number % 3 != 0}

    table = csv_file(tmp_path / "df.csv", [told(row, number) for number, row in enumerate(rows)])
    found = check("--list", table).document
    assert sides(found) == BY_CLASS
    assert "There is no test split: the validation split is what is tested." in found["warnings"]


def test_queries_and_a_gallery_are_splits_or_roles(check: Any, rows: Rows, tmp_path: Path) -> None:
    def side(number: int) -> str:
        return "query" if number % 3 == 0 else "gallery"

    tested = [(number, row) for number, row in enumerate(rows) if row["label"] >= CLASSES[4]]
    trained = [{**row, "split": "train"} for row in rows if row["label"] < CLASSES[4]]
    as_splits = [*trained, *({**row, "split": side(number)} for number, row in tested)]
    as_roles = [
        *({**row, "role": ""} for row in trained),
        *({**row, "split": "test", "role": side(number)} for number, row in tested),
    ]
    for name, table in {"splits": as_splits, "roles": as_roles}.items():
        found = check("--list", csv_file(tmp_path / f"{name}.csv", table)).document
        assert sides(found) == BY_CLASS
        asks = sum(side(number) == "query" for number, _ in tested)
        shown = {row["split"]: (row["ask"], row["answer"]) for row in found["splits"]}
        assert shown == {"train": (None, None), "test": (asks, len(tested) - asks)}


def test_test_rows_on_neither_side_are_left_out_and_counted(check: Any, rows: Rows, tmp_path: Path) -> None:
    told = [
        {**row, "split": split_of(row), "is_query": row["label"] != CLASSES[7], "is_gallery": False}
        for row in rows
    ]
    for row in told:
        row["is_gallery"] = row["is_query"]
    found = check("--list", parquet_file(tmp_path / "items.parquet", told)).document
    assert sides(found)["test"] == (18, 3)
    assert left(found) == {"of test that neither ask nor answer": 6}


def test_a_random_half_of_the_classes_trains(check: Any, rows: Rows, tmp_path: Path) -> None:
    table = csv_file(tmp_path / "items.csv", rows)
    words = ["--list", table, "--split-by", "random", "--split-seed"]
    names = [check(*words, seed).document["splits"][0]["names"] for seed in (1, 1, 2)]
    assert names[0] == names[1] != names[2]
    assert names[0] != ", ".join(CLASSES[:4])


def test_a_list_says_which_classes_train(check: Any, rows: Rows, tmp_path: Path) -> None:
    table = csv_file(tmp_path / "items.csv", rows)
    kinds = ["test", "train", "test", "train", "train", "val", "train"]
    classes = [{"label": name, "split": kind} for name, kind in zip(CLASSES, kinds, strict=False)]
    listed = csv_file(tmp_path / "classes.csv", classes)
    found = check("--list", table, "--split-by", "file", "--split-file", listed).document
    assert sides(found) == {"test": (12, 2), "train": (24, 4), "val": (6, 1)}
    assert "1 class(es) are in no split of" in "\n".join(found["warnings"])


def test_folders_of_classes_are_split_so_too(
    muster_without_cluster: Muster, image_folder: Path, tmp_path: Path
) -> None:
    words = ["data", "check", "folder", "--root", image_folder, "--json"]
    found = muster_without_cluster(*words, "--split-by", "random", "--split-seed", 3).document
    assert sides(found) == BY_CLASS
    assert found["splits"][0]["names"] != ", ".join(CLASSES[:4])
    kinds = [{"label": name, "split": "test" if name < CLASSES[5] else "train"} for name in CLASSES]
    listed = csv_file(tmp_path / "classes.csv", kinds)
    found = muster_without_cluster(*words, "--split-by", "file", "--split-file", listed).document
    assert sides(found) == {"test": (30, 5), "train": (18, 3)}


# Hugging Face


@pytest.mark.parametrize(
    "names",
    [
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("train.parquet", "test.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
    ],
)
def test_a_data_set_of_the_hub_keeps_its_splits_and_the_names_of_its_classes(
    check: Any, image_folder: Path, tmp_path: Path, names: tuple[str, str]
) -> None:
    for name, classes in zip(names, (CLASSES[:5], CLASSES[5:]), strict=True):
        (tmp_path / "hub" / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            with_features(hub_rows(image_folder, classes)), tmp_path / "hub" / name, row_group_size=4
        )
    found = check(root=tmp_path / "hub").document
    assert sides(found) == {"train": (30, 5), "test": (18, 3)}
    assert found["splits"][1]["names"] == "bird class 05, bird class 06, bird class 07"


def test_a_data_set_that_was_saved_to_disk_is_read(check: Any, image_folder: Path, tmp_path: Path) -> None:
    saved(tmp_path / "one", with_features(hub_rows(image_folder, CLASSES)))
    found = check(root=tmp_path / "one").document
    assert sides(found) == BY_CLASS
    for name, classes in {"train": CLASSES[:5], "validation": CLASSES[5:]}.items():
        saved(tmp_path / "both" / name, with_features(hub_rows(image_folder, classes)))
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    found = check(root=tmp_path / "both").document
    assert sides(found) == {"train": (30, 5), "test": (18, 3)}


def test_splits_that_share_their_classes_are_put_together_where_it_is_asked_for(
    check: Any, image_folder: Path, tmp_path: Path
) -> None:
    for name in ("train", "test"):
        rows = hub_rows(image_folder, CLASSES)
        (tmp_path / "hub").mkdir(exist_ok=True)
        pq.write_table(
            with_features(rows[:: 2 if name == "train" else 3]), tmp_path / "hub" / f"{name}.parquet"
        )
    refused = check(root=tmp_path / "hub", code=2)
    assert "classes of the same name are in several splits (8 of train and test" in refused.err
    assert "--layout classes" in refused.err
    assert sides(check("--layout", "classes", root=tmp_path / "hub").document) == {
        "train": (20, 4),
        "test": (20, 4),
    }
