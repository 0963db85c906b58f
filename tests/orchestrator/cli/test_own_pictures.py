"""Folders of pictures as people have them: every file is taken, or left out with a reason, or refused by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli import Muster, Ran

CLASSES = [f"class {number:02d}" for number in range(8)]


@pytest.fixture
def check(muster_without_cluster: Muster, image_folder: Path) -> Callable[..., Ran]:
    """`muster data check folder` of the 8 classes of 6 JPEG files."""

    def run(*words: str, code: int = 0) -> Ran:
        return muster_without_cluster(
            "data", "check", "folder", "--root", image_folder, *words, "--json", code=code
        )

    return run


def sides(document: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return {row["split"]: (row["images"], row["classes"]) for row in document["splits"]}


def left(document: dict[str, Any]) -> dict[str, int]:
    return {one["reason"]: one["count"] for one in document["account"]["left_out"]}


def found_below(root: Path) -> int:
    """What `find` counts: files and links."""
    text = subprocess.run(
        ["find", str(root), "(", "-type", "f", "-o", "-type", "l", ")", "-printf", "x"],
        capture_output=True,
        check=True,
    ).stdout
    return len(text)


def adds_up(document: dict[str, Any], root: Path) -> None:
    account = document["account"]
    assert account["entries"] == account["taken"] + account["followed"] + sum(left(document).values())
    assert account["entries"] == found_below(root)


def picture(path: Path, seed: int = 0, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([99, seed]).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **how)
    return path


# Suffixes


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("new.jfif", {"format": "JPEG"}),
        ("new.jpe", {"format": "JPEG"}),
        ("new.avif", {"format": "AVIF"}),
        ("new.jp2", {"format": "JPEG2000"}),
        ("new.tga", {"format": "TGA"}),
        ("new.JPG_large", {"format": "JPEG"}),
        ("no suffix at all", {"format": "PNG"}),
        ("v1.2", {"format": "WEBP"}),
    ],
)
def test_what_pillow_opens_is_a_picture_whatever_its_suffix(
    check: Any, image_folder: Path, name: str, how: dict[str, Any]
) -> None:
    picture(image_folder / CLASSES[0] / name, **how)
    document = check().document
    assert sides(document)["train"] == (25, 4)
    adds_up(document, image_folder)


def test_a_class_of_iphone_pictures_is_a_class(check: Any, image_folder: Path) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    for number in range(3):
        picture(image_folder / "class 08" / f"IMG_{number}.HEIC", number, format="HEIF")
    document = check().document
    assert sides(document) == {"train": (30, 5), "test": (21, 4)}


def test_iphone_pictures_without_the_package_that_reads_them_are_refused_with_the_cure(
    image_folder: Path,
) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    picture(image_folder / "class 08" / "IMG_1.heic", format="HEIF")
    code = "import sys, runpy; sys.modules['pillow_heif'] = None; runpy.run_module('muster', run_name='__main__')"
    words = ["data", "check", "folder", "--root", str(image_folder)]
    ran = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "1 HEIC picture(s)" in ran.stderr
    assert "class 08/IMG_1.heic" in ran.stderr
    assert "pip install pillow-heif" in ran.stderr


def test_files_that_are_no_pictures_are_counted_by_their_kind(check: Any, image_folder: Path) -> None:
    for name in ("notes.txt", "labels.json", "clip.mp4", "draw.svg", "odd.xyz", "photo.nef"):
        (image_folder / CLASSES[2] / name).write_text("not a picture")
    document = check().document
    assert left(document) == {"no pictures": 5, "raw files of cameras": 1}
    assert any(".txt 1" in text and "photo.nef" not in text for text in document["warnings"])
    adds_up(document, image_folder)


# Links and rights


def test_a_dangling_link_is_named(check: Any, image_folder: Path) -> None:
    (image_folder / CLASSES[0] / "gone.jpg").symlink_to("/nowhere/gone.jpg")
    (image_folder / "class 08").symlink_to("/nowhere/class 08")
    said = check(code=2).document["problems"][0]
    assert "2 link(s) lead nowhere" in said
    assert "class 00/gone.jpg" in said
    assert "class 08" in said
    document = check("--skip-bad-images").document
    assert left(document) == {"links that lead nowhere": 2}
    adds_up(document, image_folder)


def test_links_to_folders_inside_a_class_and_back_are_left_out_with_the_reason(
    check: Any, image_folder: Path
) -> None:
    (image_folder / CLASSES[0] / "more").symlink_to(image_folder / CLASSES[1])
    (image_folder / "up").symlink_to(image_folder.parent)
    document = check().document
    assert left(document) == {
        "links to folders inside a class": 1,
        "links that lead back to a folder above": 1,
    }
    adds_up(document, image_folder)


def test_what_may_not_be_read_is_named(image_folder: Path) -> None:
    """As whoever has not all rights, as root has."""
    (image_folder / CLASSES[5]).chmod(0)
    without = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.getuid() == 0 else []
    words = [sys.executable, "-m", "muster", "data", "check", "folder", "--root", str(image_folder)]
    ran = subprocess.run([*without, *words], capture_output=True, text=True, check=False)
    (image_folder / CLASSES[5]).chmod(0o755)
    assert ran.returncode == 2
    assert "class 05: Permission denied" in ran.stderr


def test_pipes_are_left_out_and_never_opened(check: Any, image_folder: Path) -> None:
    os.mkfifo(image_folder / CLASSES[0] / "pipe.jpg")
    assert left(check().document) == {"neither files nor folders": 1}


# Litter


@pytest.mark.parametrize(
    "folder", ["@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", ".thumbnails", "lost+found", "@Recycle"]
)
def test_what_programs_leave_is_no_class_and_no_picture(check: Any, image_folder: Path, folder: str) -> None:
    for place in (image_folder, image_folder / CLASSES[0], image_folder / CLASSES[6]):
        picture(place / folder / "SYNOPHOTO_THUMB_M.jpg")
    (image_folder / CLASSES[0] / "Thumbs.db").write_text("x")
    (image_folder / CLASSES[0] / "1.jpg~").write_bytes((image_folder / CLASSES[0] / "1.jpg").read_bytes())
    document = check().document
    assert sides(document) == {"train": (24, 4), "test": (24, 4)}
    assert left(document) == {"hidden, or left by programs": 5}
    adds_up(document, image_folder)


@pytest.mark.parametrize("place", ["store", "out/my store", "."])
def test_our_own_store_is_no_class(
    check: Any, muster_without_cluster: Muster, image_folder: Path, place: str
) -> None:
    store = image_folder / place
    (store / "packs" / "sources").mkdir(parents=True)
    picture(store / "runs" / "one" / "plots" / "curve.png")
    (store / "runs" / "one" / "run.json").write_text("{}")
    document = check().document
    assert sides(document) == {"train": (24, 4), "test": (24, 4)}
    assert left(document) == {"files of a muster store": 2}
    adds_up(document, image_folder)


def test_empty_folders_move_no_class(check: Any, image_folder: Path) -> None:
    for number in range(4):
        (image_folder / f"a empty {number}").mkdir()
    (image_folder / "b of texts").mkdir()
    (image_folder / "b of texts" / "a.txt").write_text("x")
    document = check().document
    assert sides(document) == {"train": (24, 4), "test": (24, 4)}
    assert document["account"]["empty_classes"] == [*(f"a empty {n}" for n in range(4)), "b of texts"]
    assert any("5 folder(s) hold no picture" in text for text in document["warnings"])


def test_pictures_in_no_class_folder_are_told(check: Any, image_folder: Path) -> None:
    picture(image_folder / "cover.png")
    assert left(check().document) == {"pictures in no class folder": 1}


# Layouts


def split_up(root: Path, **splits: list[str]) -> None:
    for name, labels in splits.items():
        (root / name).mkdir()
        for label in labels:
            shutil.move(root / label, root / name / label)


def test_query_and_gallery_are_the_two_sides_of_the_test(check: Any, image_folder: Path) -> None:
    split_up(image_folder, train=CLASSES[:4], query=CLASSES[4:])
    for label in CLASSES[4:]:
        for number in (3, 4, 5):
            target = image_folder / "gallery" / label / f"{number}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(image_folder / "query" / label / f"{number}.jpg", target)
    document = check("--allow-shared-classes").document
    assert sides(document) == {"train": (24, 4), "test": (24, 4)}
    assert check().document["splits"] == document["splits"]  # query and gallery share theirs by nature


def test_a_validation_split_is_read(check: Any, image_folder: Path) -> None:
    split_up(image_folder, train=CLASSES[:4], val=CLASSES[4:6], test=CLASSES[6:])
    assert sides(check().document) == {"train": (24, 4), "val": (12, 2), "test": (12, 2)}


@pytest.mark.parametrize("names", [("Train", "TEST"), ("training", "testing")])
def test_splits_may_be_written_in_other_ways(check: Any, image_folder: Path, names: tuple[str, str]) -> None:
    split_up(image_folder, **{names[0]: CLASSES[:6], names[1]: CLASSES[6:]})
    assert sides(check().document) == {"train": (36, 6), "test": (12, 2)}


@pytest.mark.parametrize(
    ("splits", "says"),
    [
        ({"train": CLASSES[:4]}, "train hold(s) folders as a split does, and class 04"),
        ({"train": CLASSES[:6], "val": CLASSES[6:]}, "no pictures for test"),
        ({"query": CLASSES[:4], "gallery": CLASSES[4:]}, "no pictures for train"),
        (
            {"train": CLASSES[:4], "val": CLASSES[4:5], "validation": CLASSES[5:6], "test": CLASSES[6:]},
            "both the val",
        ),
        (
            {"train": CLASSES[:4], "test": CLASSES[4:6], "gallery": CLASSES[6:]},
            "which of them is to be tested",
        ),
        ({"train": CLASSES[:4], "query": CLASSES[4:]}, "need each other"),
    ],
)
def test_what_can_t_be_told_is_refused_with_the_layouts(
    check: Any, image_folder: Path, splits: dict[str, list[str]], says: str
) -> None:
    split_up(image_folder, **splits)
    said = " ".join(check(code=2).document["problems"])
    assert says in said


def test_a_class_that_is_called_train_is_a_class(check: Any, image_folder: Path) -> None:
    (image_folder / CLASSES[7]).rename(image_folder / "train")
    assert sides(check().document) == {"train": (24, 4), "test": (24, 4)}


def test_the_layout_can_be_said(check: Any, image_folder: Path) -> None:
    (image_folder / "train" / "views").mkdir(parents=True)
    (image_folder / "train" / "sides").mkdir()
    for number in range(6):
        view = "views" if number % 2 else "sides"
        shutil.move(image_folder / CLASSES[7] / f"{number}.jpg", image_folder / "train" / view)
    assert "--layout classes" in check(code=2).document["problems"][0]
    document = check("--layout", "classes").document
    assert sides(document) == {"train": (24, 4), "test": (24, 4)}
    split_up(image_folder, test=CLASSES[5:7])
    document = check("--layout", "splits").document
    assert sides(document) == {"train": (6, 2), "test": (12, 2)}
    assert left(document) == {"pictures beside the splits": 30}
    adds_up(document, image_folder)


# Names


def test_classes_in_both_splits_are_refused_unless_it_is_said(check: Any, image_folder: Path) -> None:
    split_up(image_folder, train=CLASSES[:6], test=CLASSES[6:])
    shutil.copytree(image_folder / "train" / CLASSES[0], image_folder / "test" / CLASSES[0])
    said = check(code=2).document["problems"][0]
    assert "1 of train and test: class 00" in said
    assert "--allow-shared-classes" in said
    assert sides(check("--allow-shared-classes").document)["test"] == (18, 3)


@pytest.mark.parametrize(("one", "other"), [("Café", "Cafe\u0301"), ("dog", "Dog"), ("STRASSE", "straße")])
def test_names_that_look_the_same_are_told(check: Any, image_folder: Path, one: str, other: str) -> None:
    for number, name in enumerate((one, other)):
        picture(image_folder / name / "1.jpg", number)
        picture(image_folder / name / "2.jpg", 10 + number)
    told = [text for text in check().document["warnings"] if "written in two ways" in text]
    assert len(told) == 1
