"""Tables that can't be what was meant: refused with the row and the cure, or told."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli import Muster
from tests.orchestrator.cli.tables import (
    BY_CLASS,
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
from tests.orchestrator.cli.test_own_pictures import CLASSES, left, picture, sides

__all__ = ["check", "rows"]


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


def test_a_picture_that_is_none_is_named_with_its_line(
    check: Any, muster_without_cluster: Muster, rows: Rows, image_folder: Path, tmp_path: Path
) -> None:
    (image_folder / "class 01/2.jpg").write_bytes(b"no picture at all")  # told by its first bytes
    cut = image_folder / "class 06/3.jpg"
    cut.write_bytes(cut.read_bytes()[:-30])  # told when it is decoded
    table = csv_file(tmp_path / "items.csv", rows)
    assert "items.csv:10: class 01/2.jpg: it is no picture" in check("--list", table, code=2).err
    words = [
        "data",
        "pack",
        "table",
        "--root",
        image_folder,
        "--list",
        table,
        "--storage",
        tmp_path / "store",
    ]
    err = muster_without_cluster(*words, code=2).err
    assert "items.csv:10: class 01/2.jpg: it is no picture" in err
    assert "items.csv:41: class 06/3.jpg: its data end before the end marker" in err


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
        (["--list", "nosuch://somewhere/items.csv"], "Can't open nosuch://somewhere/items.csv"),
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
    assert "several columns of pictures" in check("--list", table, code=2).err


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
