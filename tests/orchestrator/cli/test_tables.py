"""Tables of pictures in the forms people have: read as given, or refused with the row and the cure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli import Muster, Ran
from tests.orchestrator.cli.test_own_pictures import CLASSES, left, picture, sides

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


def split_of(row: Mapping[str, Any]) -> str:
    return {"0": "train", "1": "train", "2": "train", "3": "validation"}.get(row["label"][-1], "test")


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


# Bad input


def changed(rows: Rows, number: int, **cells: Any) -> Rows:
    return [{**row, **cells} if place == number else row for place, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ({"path": "../outside.jpg"}, ["path(s) that lead out of the data root", ":7: '../outside.jpg'"]),
        ({"path": "class 00/../../x.jpg"}, ["path(s) that lead out of the data root", ":7: '../x.jpg'"]),
        ({"path": "https://x.org/a.jpg"}, ["path(s) that are addresses", ":7: https://x.org/a.jpg"]),
        ({"split": ""}, ["row(s) without a split", ":7"]),
        ({"path": "/etc/passwd"}, ["path(s) that lead out of the data root", ":7: '/etc/passwd'"]),
        ({"path": "class 00/9.jpg"}, ["not there", ":7: class 00/9.jpg", "--skip-bad-images"]),
        ({"path": ""}, ["row(s) without a path: ", ":7"]),
        ({"label": ""}, ["row(s) without a label: ", ":7"]),
        (
            {"path": "class 00/0.jpg", "label": "class 01"},
            ["picture(s) with two labels", ":7: class 00/0.jpg: class 00 in items.csv:2"],
        ),
        ({"split": "tset"}, ["split(s) that are none of train, test, val, query, gallery", ":7: 'tset'"]),
        ({"split": "test"}, ["classes of the same name are in several splits", "class 00"]),
    ],
)
def test_a_bad_row_is_refused_by_its_line(
    check: Any, rows: Rows, tmp_path: Path, cells: dict[str, str], told: list[str]
) -> None:
    whole = [{**row, "split": split_of(row)} for row in rows]
    refused = check("--list", csv_file(tmp_path / "items.csv", changed(whole, 5, **cells)), code=2)
    for text in told:
        assert text in refused.err
    assert "Traceback" not in refused.err


def test_all_that_is_wrong_is_told_at_once(check: Any, rows: Rows, tmp_path: Path) -> None:
    broken = changed(changed(changed(rows, 3, label=""), 4, path="../x.jpg"), 5, path="nowhere.jpg")
    refused = check("--list", csv_file(tmp_path / "items.csv", broken), code=2).err
    assert all(f"items.csv:{line}" in refused for line in (5, 6, 7))


def test_pictures_that_are_gone_are_left_out_where_it_is_asked_for(
    check: Any, rows: Rows, tmp_path: Path
) -> None:
    table = csv_file(tmp_path / "items.csv", changed(rows, 5, path="class 00/9.jpg"))
    found = check("--list", table, "--skip-bad-images").document
    assert sides(found)["train"] == (23, 4)
    assert left(found) == {"whose pictures are not there": 1}


def test_rows_that_name_a_picture_again_are_left_out_and_counted(
    check: Any, rows: Rows, tmp_path: Path
) -> None:
    found = check("--list", csv_file(tmp_path / "items.csv", [*rows, rows[3], rows[3]])).document
    assert sides(found) == BY_CLASS
    assert left(found) == {"that name a picture again": 2}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("items.csv", b"", ["items.csv is empty: its first line should name its columns"]),
        ("items.csv", b"path,label\na.jpg\n", ["items.csv:2: 1 cells, and there are 2 columns"]),
        ("items.csv", b'path,label\n"a.jpg,x\nb.jpg,y\n', ["items.csv:2: a quote is opened and not closed"]),
        ("items.csv", b"path,label\na.jpg,\xff\xfe\n", ["items.csv:2", "is not UTF-8 text"]),
        ("items.csv", b"path,label\na\0.jpg,x\n", ["items.csv:2: "]),
        ("items.csv", b'path,label\n"' + b"x" * 200_000, ["items.csv:2: a quote is opened and not closed"]),
        ("items.csv", b"path,path,label\na,b,c\n", ["several columns of the name path"]),
        ("items.jsonl", b'{"path": "a.jpg", "label": 1}\n{"path": \n', ["items.jsonl:2: no JSON"]),
        ("items.jsonl", b"[1, 2]\n", ["items.jsonl:1: each line should be an object"]),
        ("items.jsonl", b"", ["items.jsonl is empty"]),
        ("items.parquet", b"PAR1 and no more", ["items.parquet can't be read as a table"]),
        ("items.csv", "path,label\n".encode("utf-16"), ["items.csv is UTF-16 text: save it as UTF-8"]),
        ("items.csv", b"\x1f\x8b\x08rest\n", ["items.csv is compressed: unpack it"]),
        ("items.csv", b"PAR1rest", ["items.csv is Parquet: name it .parquet"]),
        ("items.csv", b"path,label\n", ["has no row with a picture"]),
        ("items.arrow", b"ARROW1 and no more", ["items.arrow can't be read as a table: it is cut"]),
        ("items.xlsx", b"", ["is no table that is read: its name should end in .csv"]),
    ],
)
def test_a_table_that_can_t_be_read_is_named_with_its_line(
    check: Any, tmp_path: Path, name: str, content: bytes, told: list[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    refused = check("--list", tmp_path / name, code=2).err
    for text in told:
        assert text in refused
    assert "Traceback" not in refused


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--list", "missing.csv"], "missing.csv is missing"),
        ([], "Name your table: --list items.csv"),
        (["--split-by", "file"], "split_by = file and split_file need each other"),
        (["--split-seed", "3"], "split_seed = 3: has no effect without split_by = random"),
        (["--columns", "label"], "columns = label: should be like path=file,label=item_id"),
        (["--columns", "colour=x"], "columns = colour=x: should be like"),
        (["--reading", "1"], "reading = 1: a table was never read by it"),
        (["--columns", "label=a,path=a"], "columns = label=a,path=a: names one of path, image, label"),
        (["--columns", "label=a,label=b"], "or one of yours, twice"),
        (["--list", "https://somewhere/items.csv"], "tables are read from disks"),
        (["--list", "items.csv.gz"], "items.csv.gz is compressed: unpack it"),
    ],
)
def test_options_that_say_nothing_are_refused(check: Any, words: list[str], told: str) -> None:
    assert told in check(*words, code=2).err


def test_a_table_is_no_folder_s(muster_without_cluster: Muster, image_folder: Path) -> None:
    words = ["data", "check", "folder", "--root", image_folder, "--list", "items.csv", "--json"]
    assert "table: only the data set table has that" in muster_without_cluster(*words, code=2).err


def test_a_list_of_classes_that_is_wrong_is_refused(check: Any, rows: Rows, tmp_path: Path) -> None:
    table = csv_file(tmp_path / "items.csv", rows)

    def refused(*classes: tuple[str, str]) -> str:
        listed = csv_file(
            tmp_path / "classes.csv", [{"label": name, "split": kind} for name, kind in classes]
        )
        found: str = check("--list", table, "--split-by", "file", "--split-file", listed, code=2).err
        return found

    sides = [("class 00", "train"), ("class 01", "test")]
    assert "names 1 class(es) that have no picture: class 99" in refused(*sides, ("class 99", "test"))
    assert "classes.csv:2: 'query' is none of train, val, test" in refused(("class 00", "query"))
    assert "class 00 is in train and in test" in refused(*sides, ("class 00", "test"))
    assert "has no class for test" in refused(("class 00", "train"))


def test_bytes_that_are_no_picture_are_named_by_their_row(
    check: Any, image_folder: Path, tmp_path: Path
) -> None:
    rows = hub_rows(image_folder, CLASSES)
    rows[7]["image"]["bytes"] = b"GIF89a and no more"
    rows[9]["image"]["bytes"] = None
    (tmp_path / "hub").mkdir()
    pq.write_table(with_features(rows), tmp_path / "hub" / "data.parquet")
    refused = check(root=tmp_path / "hub", code=2).err
    assert "data.parquet#7: its data are damaged" in refused
    assert "data.parquet#9: the row holds no image bytes" in refused


def test_a_column_of_bytes_beside_the_list_s_root_is_read(
    check: Any, image_folder: Path, tmp_path: Path
) -> None:
    rows = [
        {"photo": path.read_bytes(), "label": path.parent.name}
        for path in sorted(image_folder.rglob("*.jpg"))
    ]
    rows = [{**row, "embedding": b"\0"} for row in rows]
    table = parquet_file(tmp_path / "other" / "items.parquet", rows)
    assert sides(check("--list", table, "--columns", "image=photo").document) == BY_CLASS
    assert "has no column path" in check("--list", table, code=2).err


def test_a_picture_of_each_row_is_its_own(image_folder: Path, tmp_path: Path) -> None:
    """Rows are read forwards; whoever asks for an earlier one gets it too."""
    from PIL import Image

    from muster.workers.datasets.cells import image_file

    paths = [picture(tmp_path / f"{number}.png", number) for number in range(300)]
    rows = [{"image": path.read_bytes(), "label": number % 9} for number, path in enumerate(paths)]
    parquet_file(tmp_path / "all.parquet", rows, row_group_size=110)
    with pa.ipc.new_stream(tmp_path / "all.arrow", pa.Table.from_pylist(rows).schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows), max_chunksize=70)
    for name in ("all.parquet", "all.arrow"):
        for row in (0, 5, 299, 3, 150, 149, 0, 111, 109):
            found = image_file(tmp_path, f"{name}#{row}").getvalue()
            assert found == paths[row].read_bytes()
            Image.open(io.BytesIO(found)).load()


# What a tester found


def test_what_the_first_line_lacks_is_read_all_the_same(check: Any, rows: Rows, tmp_path: Path) -> None:
    told = [{**row, "split": "test" if row["label"] < CLASSES[5] else "train"} for row in rows]
    del told[0]["split"]
    refused = check("--list", lines_file(tmp_path / "items.jsonl", told), code=2)
    assert "1 row(s) without a split: items.jsonl:1" in refused.err
    told[0]["split"] = "test"
    del told[1]["label"]
    assert (
        "row(s) without a label: items.jsonl:2"
        in check("--list", lines_file(tmp_path / "items.jsonl", told), code=2).err
    )


@pytest.mark.parametrize("between", ["\t", "|", ";"])
def test_what_stands_between_cells_is_seen(check: Any, rows: Rows, tmp_path: Path, between: str) -> None:
    assert sides(check("--list", csv_file(tmp_path / "items.csv", rows, between)).document) == BY_CLASS


def test_paths_that_windows_wrote_and_ways_about_are_read(check: Any, rows: Rows, tmp_path: Path) -> None:
    for spell in (
        lambda path: path.replace("/", "\\"),
        lambda path: f"./{path}",
        lambda path: f"x/../{path}",
    ):
        table = csv_file(tmp_path / "items.csv", [{**row, "path": spell(row["path"])} for row in rows])
        assert sides(check("--list", table).document) == BY_CLASS


def test_a_part_of_a_data_set_that_is_lacking_is_named(
    check: Any, image_folder: Path, tmp_path: Path
) -> None:
    table = with_features(hub_rows(image_folder, CLASSES))
    (tmp_path / "hub" / "data").mkdir(parents=True)
    pq.write_table(table, tmp_path / "hub" / "data" / "train-00000-of-00002.parquet")
    refused = check(root=tmp_path / "hub", code=2).err
    assert "lacks 1 file(s) of its data set: train-00001-of-00002.parquet" in refused
    (tmp_path / "hub" / "data" / "train-00001-of-00002.parquet.incomplete").touch()
    assert "was not fetched whole" in check(root=tmp_path / "hub", code=2).err
    saved(tmp_path / "one", table)
    (tmp_path / "one" / "state.json").write_text(
        '{"_data_files": [{"filename": "data-00000-of-00002.arrow"}]}'
    )
    assert "lacks 1 file(s)" in check(root=tmp_path / "one", code=2).err


@pytest.mark.parametrize(
    "content", [b"{}", b"[1]", b"7", b"no JSON", b'{"_data_files": 3}', b'{"_data_files": [1]}']
)
def test_a_state_that_lies_is_refused_in_our_words(check: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)
    refused = check(root=tmp_path, code=2).err
    assert "state.json is not as Hugging Face's `datasets` writes it, with _data_files" in refused


def test_a_stream_that_was_cut_between_two_batches_is_noticed(
    check: Any, image_folder: Path, tmp_path: Path
) -> None:
    saved(tmp_path / "one", with_features(hub_rows(image_folder, CLASSES)), files=1)
    path = tmp_path / "one" / "data-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[:-8])  # the mark of the end
    assert "it is cut" in check(root=tmp_path / "one", code=2).err


def test_splits_that_are_given_are_not_made_anew(
    muster_without_cluster: Muster, check: Any, rows: Rows, image_folder: Path, tmp_path: Path
) -> None:
    table = csv_file(tmp_path / "items.csv", [{**row, "split": split_of(row)} for row in rows])
    refused = check("--list", table, "--split-by", "random", code=2).err
    assert "splits are given, and --split-by random would make others" in refused
    assert "--layout classes" in refused
    for number, name in enumerate(CLASSES):
        (image_folder / ("train" if number < 4 else "test")).mkdir(exist_ok=True)
        (image_folder / name).rename(image_folder / ("train" if number < 4 else "test") / name)
    words = ["data", "check", "folder", "--root", image_folder, "--split-by", "random"]
    assert "splits are given" in muster_without_cluster(*words, code=2).err


@pytest.mark.parametrize("label", [["a"], {"a": 1}, b"cat"])
def test_a_label_is_a_word_a_number_or_a_date(check: Any, rows: Rows, tmp_path: Path, label: Any) -> None:
    table = parquet_file(tmp_path / "items.parquet", [{**row, "label": label} for row in rows])
    assert "48 label(s) that are no word, number or date" in check("--list", table, code=2).err


def test_a_stray_quote_in_a_column_that_is_not_read_is_told(check: Any, rows: Rows, tmp_path: Path) -> None:
    table = csv_file(tmp_path / "items.csv", [{**row, "caption": "x"} for row in rows])
    lines = table.read_text().splitlines()
    lines[3], lines[6] = lines[3][:-1] + '"5 inch', lines[6][:-1] + '12"'
    table.write_text("\n".join(lines) + "\n")
    found = check("--list", table).document
    assert sides(found)["train"] == (21, 4)
    told = (
        "1 row(s) of the table go over several lines: items.csv:4. Is that meant, or is a quote not closed?"
    )
    assert told in found["warnings"]


def test_pictures_and_paths_in_one_table_are_told_apart(
    check: Any, image_folder: Path, tmp_path: Path
) -> None:
    rows = [
        {
            "image": path.read_bytes(),
            "path": path.relative_to(image_folder).as_posix(),
            "label": path.parent.name,
        }
        for path in sorted(image_folder.rglob("*.jpg"))
    ]
    table = parquet_file(tmp_path / "items.parquet", rows)
    assert (
        "Say which is meant: --columns path=path, or --columns image=image"
        in check("--list", table, code=2).err
    )
    for column in ("path", "image"):
        assert sides(check("--list", table, "--columns", f"{column}={column}").document) == BY_CLASS


def test_a_column_has_one_meaning(check: Any, rows: Rows, tmp_path: Path) -> None:
    table = csv_file(tmp_path / "items.csv", [{**row, "split": split_of(row)} for row in rows])
    assert "one column is meant in two ways" in check("--list", table, "--columns", "label=split", code=2).err


def test_a_file_s_name_and_its_rows_say_the_same_split(
    check: Any, image_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "hub").mkdir()
    for name, classes in {"train": CLASSES[:4], "test": CLASSES[4:]}.items():
        rows = [{**row, "split": "train"} for row in hub_rows(image_folder, classes)]
        pq.write_table(with_features(rows), tmp_path / "hub" / f"{name}.parquet")
    refused = check(root=tmp_path / "hub", code=2).err
    assert "24 row(s) of another split than their file's name says" in refused


def test_names_of_classes_are_those_of_all_files_or_of_none(
    check: Any, image_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "hub").mkdir()
    pq.write_table(with_features(hub_rows(image_folder, CLASSES[:4])), tmp_path / "hub" / "train.parquet")
    parquet_file(tmp_path / "hub" / "test.parquet", hub_rows(image_folder, CLASSES[4:]))
    assert "the files name their classes differently" in check(root=tmp_path / "hub", code=2).err


def test_roles_hold_where_classes_are_split_by_name(check: Any, rows: Rows, tmp_path: Path) -> None:
    told = [
        {**row, "is_query": number % 2 == 0, "is_gallery": number % 3 == 0} for number, row in enumerate(rows)
    ]
    found = check("--list", parquet_file(tmp_path / "items.parquet", told)).document
    assert sides(found) == {"train": (24, 4), "test": (16, 4)}
    assert left(found) == {"of test that neither ask nor answer": 8}


def test_one_training_class_is_too_few_in_a_check_too(check: Any, rows: Rows, tmp_path: Path) -> None:
    table = csv_file(tmp_path / "items.csv", rows)
    classes = [{"label": name, "split": "test" if name > CLASSES[0] else "train"} for name in CLASSES]
    listed = csv_file(tmp_path / "classes.csv", classes)
    words = ["--list", table, "--split-by", "file", "--split-file", listed]
    assert "has one training class: at least 2 are needed" in check(*words, code=2).err
