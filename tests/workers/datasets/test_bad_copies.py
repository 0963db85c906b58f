"""What can be wrong with a copy: each mistake is told with its file and line, many of a kind in one message."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muster.workers.datasets import PUBLISHED, open_data_set
from muster.workers.errors import UsageError
from tests.workers.datasets import copies

CUB = "CUB_200_2011"
SOP = "Stanford_Online_Products"
LISTS = "VehicleID_V1.0/train_test_split"
SHOP = "In-shop Clothes Retrieval Benchmark"


def refused(name: str, root: Path, *, allow: bool = True) -> list[str]:
    """What is said of a copy, even where other counts are allowed."""
    with pytest.raises(UsageError) as error:
        open_data_set(name, str(root), allow_counts=allow).splits()
    assert error.value.exit_code == 2
    return error.value.problems


def edit(path: Path, line: int, change: Callable[[str], str]) -> None:
    lines = path.read_text().splitlines()
    lines[line - 1] = change(lines[line - 1])
    path.write_text("\n".join(lines) + "\n")


def last_word(text: str) -> Callable[[str], str]:
    return lambda line: " ".join([*line.split()[:-1], text])


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_wrong_root_says_what_it_holds_and_what_was_expected(name: str, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    (said,) = refused(name, tmp_path)
    assert str(tmp_path) in said
    assert "holds holiday.jpg" in said
    assert next(iter(PUBLISHED[name].about.trees.values())).keys() & set(said.replace(",", " ").split())
    (said,) = refused(name, tmp_path / "nowhere")
    assert "is not a folder" in said
    with pytest.raises(UsageError, match="--data-root"):
        open_data_set(name, None)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cub200", f"{CUB}/images.txt"),
        ("cub200", f"{CUB}/image_class_labels.txt"),
        ("sop", f"{SOP}/Ebay_test.txt"),
        ("vehicleid", f"{LISTS}/test_list_800.txt"),
        ("vehicleid", f"{LISTS}/train_list.txt"),
    ],
)
def test_a_missing_list_is_named(name: str, file: str, tmp_path: Path) -> None:
    (copies.COPIES[name](tmp_path) / file).unlink()
    assert refused(name, tmp_path) == [f"{tmp_path / file} is missing."]


ROWS = [
    ("cub200", f"{CUB}/images.txt", 7, "image_id path"),
    ("cub200", f"{CUB}/image_class_labels.txt", 7, "image_id class_id"),
    ("sop", f"{SOP}/Ebay_train.txt", 4, "image_id class_id super_class_id path"),
    ("inshop", f"{SHOP}/Eval/list_eval_partition.txt", 9, "image_name item_id evaluation_status"),
    ("vehicleid", f"{LISTS}/train_list.txt", 2, "image vehicle_id"),
]


@pytest.mark.parametrize(("name", "file", "line", "columns"), ROWS)
@pytest.mark.parametrize("extra", [True, False])
def test_a_missing_or_an_extra_column_is_told_with_the_line(
    name: str, file: str, line: int, columns: str, extra: bool, tmp_path: Path
) -> None:
    path = copies.COPIES[name](tmp_path) / file
    edit(path, line, lambda row: f"{row} 7" if extra else row.rsplit(None, 1)[0])
    said = refused(name, tmp_path)[0]
    assert f"{path.name}:{line}: " in said
    assert f"where there should be {len(columns.split())} columns ({columns})" in said


@pytest.mark.parametrize(
    ("name", "file", "line", "column"),
    [
        ("cub200", f"{CUB}/image_class_labels.txt", 3, "class_id"),
        ("sop", f"{SOP}/Ebay_test.txt", 3, "class_id"),
        ("vehicleid", f"{LISTS}/test_list_800.txt", 3, "vehicle_id"),
        ("inshop", f"{SHOP}/Eval/list_eval_partition.txt", 5, "item_id"),
    ],
)
@pytest.mark.parametrize("label", ["sparrow", "1.5", "-3", "0", "²"])
def test_a_label_that_is_no_number_is_told_with_the_line(
    name: str, file: str, line: int, column: str, label: str, tmp_path: Path
) -> None:
    def change(row: str) -> str:
        cells = row.split()
        cells[{"sop": 1, "inshop": -2}.get(name, -1)] = label
        return " ".join(cells)

    path = copies.COPIES[name](tmp_path) / file
    edit(path, line, change)
    (said,) = [p for p in refused(name, tmp_path) if "no number" in p]
    assert f"{path.name}:{line}: {column} = {label!r}" in said


def test_a_duplicate_image_names_both_lines(tmp_path: Path) -> None:
    path = copies.sop(tmp_path) / SOP / "Ebay_train.txt"
    edit(path, 5, lambda _: path.read_text().splitlines()[2])
    (said,) = refused("sop", tmp_path)
    assert "1 image(s) listed twice: Ebay_train.txt:5: " in said
    assert "as in Ebay_train.txt:3" in said


@pytest.mark.parametrize("path", ["../outside.jpg", "a/../../outside.jpg", "/etc/outside.jpg", "..\\out.jpg"])
def test_a_path_that_leaves_the_root_is_refused(path: str, tmp_path: Path) -> None:
    home = copies.cub200(tmp_path) / CUB
    (tmp_path / "outside.jpg").touch()
    edit(home / "images.txt", 4, last_word(path))
    (said,) = refused("cub200", tmp_path)
    assert f"lead out of the data root: images.txt:4: {path!r}" in said


def test_a_path_to_no_image_is_no_fault_of_the_columns(tmp_path: Path) -> None:
    home = copies.cub200(tmp_path) / CUB
    edit(home / "images.txt", 4, last_word("birds/notes.txt"))
    edit(home / "images.txt", 5, last_word("../../../etc/passwd"))
    kind, outside = refused("cub200", tmp_path)
    assert "end in none of .jpg, .jpeg, .png: images.txt:4: 'birds/notes.txt'" in kind
    assert "lead out of the data root: images.txt:5: '../../../etc/passwd'" in outside


def test_images_that_are_missing_are_counted_and_ten_are_named(tmp_path: Path) -> None:
    home = copies.cub200(tmp_path) / CUB
    for folder in sorted((home / "images").iterdir())[:3]:
        shutil.rmtree(folder)
    said, counts, cure = refused("cub200", tmp_path, allow=False)
    lines = said.splitlines()
    assert lines[0] == f"{home}: 12 image(s) that the lists name are not on the disk:"
    assert lines[1] == "  images.txt:1: images/002.Bird_2/Bird_0000_0.jpg"
    assert lines[11] == "  and 2 more"
    assert len(lines) == 12
    assert "train has 0 images" in counts
    assert "--allow-counts" in cure


def test_with_other_counts_allowed_missing_images_are_left_out_and_told(tmp_path: Path) -> None:
    home = copies.sop(tmp_path) / SOP
    (home / "coffee_maker_final" / "1100_0.JPG").unlink()
    data = open_data_set("sop", str(tmp_path), allow_counts=True)
    assert len(data.splits()["train"].items) == 8
    assert data.differences[0].endswith("not on the disk: Ebay_train.txt:2: coffee_maker_final/1100_0.JPG")


def test_a_copy_without_any_training_image_is_refused_whatever_is_allowed(tmp_path: Path) -> None:
    shutil.rmtree(copies.sop(tmp_path) / SOP / "bicycle_final")
    shutil.rmtree(tmp_path / SOP / "coffee_maker_final")
    assert refused("sop", tmp_path)[-1].endswith("has no images for train and test.")


def test_all_mistakes_of_a_copy_come_at_once(tmp_path: Path) -> None:
    home = copies.cub200(tmp_path) / CUB
    edit(home / "images.txt", 2, lambda _: "2 ../x.jpg")
    edit(home / "images.txt", 3, lambda row: row.split()[0])
    edit(home / "image_class_labels.txt", 4, last_word("wren"))
    edit(home / "image_class_labels.txt", 5, last_word("777"))
    edit(home / "image_class_labels.txt", 6, lambda row: "99 1")
    said = "\n".join(refused("cub200", tmp_path))
    for part in (
        "images.txt:2: '../x.jpg'",
        "images.txt:3: 1 where there should be 2",
        "image_class_labels.txt:4: class_id = 'wren'",
        "image_class_labels.txt:5: class_id 777 is not in classes.txt",
        "image(s) without a label: images.txt:6: image_id 6",
    ):
        assert part in said


def test_a_class_on_both_sides_is_refused(tmp_path: Path) -> None:
    path = copies.sop(tmp_path) / SOP / "Ebay_test.txt"
    edit(path, 3, lambda row: row.replace("11319", "1", 1))
    (said,) = refused("sop", tmp_path)
    assert "test image(s) of a class that is trained on: Ebay_test.txt:3: class 1" in said


def test_a_list_without_its_header_and_one_that_is_no_text_are_refused(tmp_path: Path) -> None:
    path = copies.sop(tmp_path) / SOP / "Ebay_train.txt"
    rows = path.read_text().splitlines()
    path.write_text("\n".join(rows[1:]))
    assert "wrong header(s): Ebay_train.txt:1: expected 'image_id class_id" in refused("sop", tmp_path)[0]
    path.write_bytes("\n".join(rows).encode().replace(b"1101_1", b"caf\xe9"))
    assert refused("sop", tmp_path) == [f"{path}:3: not UTF-8 text."]


def test_inshop_says_when_its_list_is_cut_short_or_its_images_are_packed(tmp_path: Path) -> None:
    home = copies.inshop(tmp_path) / SHOP
    path = home / "Eval" / "list_eval_partition.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    said = refused("inshop", tmp_path, allow=False)
    assert said[0] == f"{path}:1 promises 24 rows, and there are 22."
    edit(path, 4, last_word("tarin"))
    assert "list_eval_partition.txt:4: 'tarin'" in refused("inshop", tmp_path)[0]
    shutil.rmtree(home / "Img" / "img")
    (home / "Img" / "img.zip").touch()
    (said,) = [*refused("inshop", tmp_path)]
    assert "Unpack" in said
    assert "img.zip" in said


def test_vehicleid_has_three_test_lists() -> None:
    with pytest.raises(UsageError, match="there are small, medium, large"):
        open_data_set("vehicleid", "/x", test_list="huge")


def test_the_kaggle_copy_of_cars_without_its_labels_is_refused_with_the_reason(tmp_path: Path) -> None:
    copies.cars_devkit(tmp_path, nested=True)
    shutil.rmtree(tmp_path / "devkit")
    (said,) = refused("cars196", tmp_path)
    assert "cars_annos.mat names the images of another copy" in said
    assert "cars_test_annos_withlabels.mat" in said


def test_cars_without_the_labels_of_the_test_half_are_refused(tmp_path: Path) -> None:
    copies.cars_devkit(tmp_path)
    (tmp_path / "devkit" / "cars_test_annos_withlabels.mat").unlink()
    (said,) = refused("cars196", tmp_path)
    assert "devkit/cars_test_annos_withlabels.mat: missing" in said


@pytest.mark.parametrize(
    ("content", "part"),
    [(b"", "can't be read as a MATLAB file"), (b"not a matlab file" * 20, "can't be read as a MATLAB file")],
)
def test_a_broken_matlab_file_is_named(content: bytes, part: str, tmp_path: Path) -> None:
    (copies.cars_joint(tmp_path) / "cars_annos.mat").write_bytes(content)
    (said,) = refused("cars196", tmp_path)
    assert str(tmp_path / "cars_annos.mat") in said
    assert part in said


def test_matlab_rows_are_checked_like_lines(tmp_path: Path) -> None:
    copies.cars_joint(tmp_path)
    rows = [
        {"relative_im_path": "../000001.jpg", "class": 1},
        {"relative_im_path": "car_ims/000002.jpg", "class": "coupé"},
    ]
    copies.structs(tmp_path / "cars_annos.mat", rows)
    said = "\n".join(refused("cars196", tmp_path))
    assert "cars_annos.mat, row 1: '../000001.jpg'" in said
    assert "cars_annos.mat, row 2: class = 'coupé'" in said
    copies.structs(tmp_path / "cars_annos.mat", [{"fname": "1.jpg", "class": 1}])
    (said,) = refused("cars196", tmp_path)
    assert "lacks the field(s) relative_im_path; it has fname, class" in said


def test_csv_rows_are_checked_like_lines(tmp_path: Path) -> None:
    copies.cars_by_class(tmp_path)
    path = tmp_path / "anno_train.csv"
    rows = list(csv.reader(path.open()))
    rows[0].append("9")
    rows[1][-1] = "coupe"
    rows[2][-1] = "197"
    rows[3][0] = "../../1.jpg"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    said = "\n".join(refused("cars196", tmp_path))
    assert "anno_train.csv:1: 7 where there should be 6 columns" in said
    assert "anno_train.csv:2: class = 'coupe'" in said
    assert "anno_train.csv:3: class 197 and names.csv has 196 lines" in said
    assert "anno_train.csv:4: '../../1.jpg'" in said


def test_parquet_whose_labels_could_begin_at_0_or_1_is_refused(tmp_path: Path) -> None:
    copies.cars_parquet(tmp_path, class_label=False)
    for path in (tmp_path / "data").iterdir():
        table = pq.read_table(path)
        pq.write_table(table.set_column(1, "label", pa.array([5] * table.num_rows)), path)
    (said,) = refused("cars196", tmp_path)
    assert "labels lie in 5..5" in said


def test_parquet_of_another_kind_or_with_one_split_is_refused(tmp_path: Path) -> None:
    copies.cars_parquet(tmp_path)
    path = tmp_path / "data" / "test-00000-of-00001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["label"]), path)
    assert "lacks a column of labels; it has image" in refused("cars196", tmp_path)[0]
    path.write_bytes(b"PAR1")
    assert "can't be read as Parquet" in refused("cars196", tmp_path)[0]
    path.unlink()
    assert "no Parquet file of the split test" in refused("cars196", tmp_path)[0]


@pytest.mark.parametrize("far", [False, True])
def test_a_stray_quote_in_a_csv_is_named_with_the_row_where_it_begins(far: bool, tmp_path: Path) -> None:
    """What follows is one cell, up to the end of the file; of a long file the library's limit ends it."""
    copies.cars_by_class(tmp_path)
    path = tmp_path / "anno_train.csv"
    rows = path.read_text().splitlines()
    rows[1] = '"' + rows[1]
    path.write_text("\n".join(rows + rows[2:] * 20_000 * far) + "\n")
    with pytest.raises(
        UsageError,
        match=r"anno_train\.csv:2: .*quote is opened and not closed|quote is opened and not "
        r"closed on its line: anno_train\.csv:2",
    ):
        open_data_set("cars196", str(tmp_path), allow_counts=True).splits()
