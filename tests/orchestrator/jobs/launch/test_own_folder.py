"""Launches on folders of pictures as people have them: twins, transparency, a validation split, older reading rules."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.orchestrator.bare import BareMuster, bare_muster

__all__ = ["bare_muster"]

CLASSES = [f"class {number:02d}" for number in range(8)]


@pytest.fixture
def words(image_folder: Path, tmp_path: Path) -> list[str]:
    """A launch of one tiny member."""
    where = [
        "--data-root",
        str(image_folder),
        "--storage",
        str(tmp_path / "store"),
        "--name",
        "one",
        "--json",
    ]
    small = ["--D", "2", "--L", "1", "--epochs", "1", "--backbone", "conv4", "--image-size", "16"]
    return ["launch", "dreml", "--dataset", "folder", *where, *small]


def warnings_of(document: dict[str, Any]) -> str:
    rows = document.get("rows", ())
    return "\n".join(
        [*document.get("warnings", ()), *(row["value"] for row in rows if row["what"] == "warning")]
    )


def metrics(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "store/runs/one/metrics.json").read_text())
    return found


# Twins


def test_twins_are_told_before_and_after_and_left_out_where_it_is_asked_for(
    bare_muster: BareMuster, words: list[str], image_folder: Path, tmp_path: Path
) -> None:
    again = image_folder / CLASSES[7] / "again.png"
    Image.open(image_folder / CLASSES[0] / "0.jpg").save(again)  # of a class that trains, in another format
    shutil.copy(image_folder / CLASSES[5] / "1.jpg", image_folder / CLASSES[6] / "twin.jpg")
    answer = bare_muster(*words).document
    told = "class 00/0.jpg"
    assert "2 picture(s) are in two splits or twice in test" in warnings_of(answer)
    assert told in warnings_of(answer)
    assert "class 05/1.jpg and class 06/twin.jpg" in warnings_of(answer)
    assert warnings_of(answer) == "\n".join(metrics(tmp_path)["warnings"])
    plain = metrics(tmp_path)["identity"]
    fewer = bare_muster(*words, "--drop-duplicates", "--name", "two").document
    assert "2 picture(s) were left out" in warnings_of(fewer)
    found = json.loads((tmp_path / "store/runs/two/plan.json").read_text())
    assert (found["train_images"], found["test_images"]) == (23, 25)
    assert json.loads((tmp_path / "store/runs/two/metrics.json").read_text())["identity"] != plain


def test_pictures_that_are_equal_only_when_small_are_no_twins(
    bare_muster: BareMuster, words: list[str], image_folder: Path
) -> None:
    large = Image.open(image_folder / CLASSES[0] / "0.jpg").resize((16, 16), Image.Resampling.BILINEAR)
    large.save(image_folder / CLASSES[7] / "small.png")
    assert "two splits" not in warnings_of(bare_muster(*words).document)


def test_a_batch_that_needs_more_images_than_there_are_is_told(
    bare_muster: BareMuster, words: list[str]
) -> None:
    given = ["launch", "baseline", *words[2 : words.index("--D")], "--loss", "triplet", "--epochs", "1"]
    shape = ["--P", "4", "--backbone", "conv4", "--image-size", "16", "--dry-run"]
    assert "A step draws 40 images and 24 train" not in warnings_of(
        bare_muster(*given, *shape, "--K", "6").document
    )
    bare_muster(*given, *shape[:-1], "--K", "10")
    assert "A step draws 40 images and 24 train" in warnings_of(
        bare_muster(*given, *shape, "--K", "10").document
    )


# A validation split


def test_a_given_validation_split_is_scored_and_may_not_be_asked_for_twice(
    bare_muster: BareMuster, words: list[str], image_folder: Path, tmp_path: Path
) -> None:
    for name, labels in (("train", CLASSES[:4]), ("val", CLASSES[4:6]), ("test", CLASSES[6:])):
        (image_folder / name).mkdir()
        for label in labels:
            shutil.move(image_folder / label, image_folder / name / label)
    bare_muster(*words)
    found = metrics(tmp_path)
    assert set(found["splits"]) == {"test", "val"}
    assert (tmp_path / "store/runs/one/gathered/val").is_dir()
    ran = bare_muster(*words, "--val-classes", "2", "--name", "two", code=2)
    assert "has a validation split of its own" in ran.err


def test_queries_look_in_the_gallery_alone_and_it_is_said(
    bare_muster: BareMuster, words: list[str], image_folder: Path, tmp_path: Path
) -> None:
    for name, labels in (("train", CLASSES[:4]), ("query", CLASSES[4:]), ("gallery", [])):
        (image_folder / name).mkdir()
        for label in labels:
            shutil.move(image_folder / label, image_folder / name / label)
    for label in CLASSES[5:]:
        target = image_folder / "gallery" / label / "5.jpg"
        target.parent.mkdir()
        shutil.move(image_folder / "query" / label / "5.jpg", target)
    answer = bare_muster(*words).document
    assert answer["protocol"] == "query images are looked for in the gallery"
    assert metrics(tmp_path)["splits"]["test"]["queries"] == 15
    assert "6 of 21 test queries have no gallery image" in warnings_of(answer)
    assert (
        "query images are looked for in the gallery" in (tmp_path / "store/runs/one/report.html").read_text()
    )


# What the pictures are


def test_the_dry_run_the_answer_and_the_report_say_what_the_pictures_are(
    bare_muster: BareMuster, words: list[str], image_folder: Path, tmp_path: Path
) -> None:
    clear = np.zeros((20, 20, 4), np.uint8)
    clear[:10] = (10, 200, 30, 255)
    Image.fromarray(clear).save(image_folder / CLASSES[1] / "logo.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30), "teal").save(image_folder / CLASSES[2] / "phone.jpg", exif=exif)
    pages = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    pages[0].save(image_folder / CLASSES[6] / "scan.tif", save_all=True, append_images=pages[1:])
    (image_folder / CLASSES[3] / "notes.txt").write_text("x")
    dry = bare_muster(*words, "--dry-run").document
    answer, again = (bare_muster(*words).document for _ in range(2))
    for document in (dry, answer, again, bare_muster(*words, "--dry-run").document):
        said = warnings_of(document)
        assert "52 files and links: 51 taken; left out 1 no pictures (.txt 1)" in said
        assert "1 picture(s) have a rotation in EXIF that is not followed: class 02/phone.jpg" in said
        assert (
            "1 picture(s) have several pages or frames, of which the first is taken: class 06/scan.tif"
            in said
        )
        assert "class 01/logo.png" in said
    assert {"what": "train classes", "value": "class 00, class 01, class 02, class 03"} in dry["rows"]
    report = (tmp_path / "store/runs/one/report.html").read_text()
    assert "left out 1 no pictures" in report
    assert "class 04, class 05, class 06, class 07" in report
    assert json.loads((tmp_path / "store/runs/one/plan.json").read_text())["account"]["entries"] == 52
    note = {"reason": "no pictures", "count": 1, "first": ["class 03/notes.txt"], "kinds": {".txt": 1}}
    assert answer["account"]["left_out"] == again["account"]["left_out"] == [note]


@pytest.mark.parametrize("flag", [["--background", "black"], ["--exif-transpose"]])
def test_what_changes_pixels_changes_keys(
    bare_muster: BareMuster, words: list[str], image_folder: Path, tmp_path: Path, flag: list[str]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    clear.paste((200, 0, 0, 255), (0, 0, 10, 10))
    clear.save(image_folder / CLASSES[0] / "clear.png", exif=exif)
    keys = []
    for extra in ([], flag):
        bare_muster(*words, *extra, "--name", f"run{len(extra)}")
        keys.append(json.loads((tmp_path / f"store/runs/run{len(extra)}/plan.json").read_text())["members"])
    assert keys[0] != keys[1]


def test_what_a_limit_left_out_comes_back_without_it(
    bare_muster: BareMuster, words: list[str], image_folder: Path, tmp_path: Path
) -> None:
    Image.effect_noise((200, 200), 50).save(image_folder / CLASSES[0] / "large.png")
    limited = bare_muster(*words, "--max-pixels", "10000", "--skip-bad-images").document
    assert "class 00/large.png (its 200 x 200 pixels are more than --max-pixels 10000" in warnings_of(limited)
    bare_muster(*words, "--skip-bad-images")
    assert json.loads((tmp_path / "store/runs/one/plan.json").read_text())["train_images"] == 25


# Older rules


def test_an_older_run_goes_on_by_its_rule_and_a_new_launch_says_what_changed(
    bare_muster: BareMuster, words: list[str], image_folder: Path, tmp_path: Path
) -> None:
    for name in ("aaa empty", "aab empty", "aac empty", "aad empty"):
        (image_folder / name).mkdir()
    run = tmp_path / "store/runs/one"
    first = bare_muster(*words, "--reading", "1").document
    members = json.loads((run / "plan.json").read_text())["members"]
    saved = json.loads((run / "run.json").read_text())
    for name in (
        "reading",
        "layout",
        "allow_shared_classes",
        "drop_duplicates",
        "background",
        "exif_transpose",
        "max_pixels",
    ):
        del saved["data"][name]  # as releases before there was another rule wrote it
    saved.pop("check", None)
    (run / "run.json").write_text(json.dumps(saved))
    (run / "DONE.json").unlink()
    again = bare_muster("resume", "one", "--storage", tmp_path / "store", "--json").document
    assert again["models"] == {"asked": 1, "reused": 1, "trained": 0, "failed": 0}
    assert again["curve"] == first["curve"]
    assert json.loads((run / "plan.json").read_text())["members"] == members
    plan = bare_muster(*words, "--dry-run").document
    said = warnings_of(plan)
    assert "This root has packs that were read by rule 1; rule 2 takes" in said
    assert "now in train: class 02, class 03" in said
    assert "members are trained anew. --reading 1 keeps the old rule" in said
    kept = bare_muster(*words, "--reading", "1", "--dry-run").document
    assert kept["to_train"] == 0
    assert "rule 1" not in warnings_of(kept)
    new = bare_muster(*words).document
    assert new["models"]["trained"] == 1
    assert "members are trained anew" in warnings_of(new)


def test_where_the_new_rule_changes_nothing_nothing_is_trained_or_said(
    bare_muster: BareMuster, words: list[str]
) -> None:
    bare_muster(*words, "--reading", "1")
    answer = bare_muster(*words).document
    assert answer["models"] == {"asked": 1, "reused": 1, "trained": 0, "failed": 0}
    assert "rule" not in warnings_of(answer)


def test_changed_pixels_are_named(bare_muster: BareMuster, words: list[str], image_folder: Path) -> None:
    clear = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    clear.save(image_folder / CLASSES[0] / "clear.png")
    bare_muster(*words, "--reading", "1")
    said = warnings_of(bare_muster(*words).document)
    assert "other pixels of 1 train picture(s): class 00/clear.png" in said


# Refused


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--background", "polka dots"], "no colour, as white, black or #rrggbb"),
        (["--reading", "9"], "there are 1 to 2"),
        (["--reading", "1", "--exif-transpose"], "reading 1 does not know that"),
        (["--max-pixels", "0"], "must be at least 1"),
        (["--max-pixels", "500"], "--max-pixels 500 allows"),
        (["--layout", "heap"], "layout"),
    ],
)
def test_bad_settings_have_one_message(
    bare_muster: BareMuster, words: list[str], flags: list[str], says: str, tmp_path: Path
) -> None:
    ran = bare_muster(*words, *flags, code=2)
    assert says in ran.err
    assert not list((tmp_path / "store").glob("models/*"))


def test_settings_of_a_folder_are_a_folders(bare_muster: BareMuster, tmp_path: Path) -> None:
    ran = bare_muster("launch", "dreml", "--layout", "classes", "--storage", tmp_path / "store", code=2)
    assert "layout: only folder and table have that" in ran.err


def test_bad_pictures_are_told_by_the_dry_run(
    bare_muster: BareMuster, words: list[str], image_folder: Path
) -> None:
    (image_folder / CLASSES[0] / "0.jpg").write_bytes(b"")
    ran = bare_muster(*words, "--dry-run", code=2)
    assert "class 00/0.jpg: the file is empty" in ran.err
    os.truncate(image_folder / CLASSES[1] / "1.jpg", 200)
    assert "class 01/1.jpg" in bare_muster(*words, code=2).err
