"""Listing a directory of class folders: splits, order, what is skipped and what is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from muster.workers.datasets import ImageFolder, Reading, open_data_set
from muster.workers.errors import UsageError

CLASSES = [f"class {number:02d}" for number in range(8)]


def listed(root: Path) -> dict[str, list[str]]:
    return {
        name: [item.image_id for item in split.items] for name, split in ImageFolder(root).splits().items()
    }


def test_the_first_half_of_the_classes_trains_and_the_others_test(image_folder: Path) -> None:
    splits = ImageFolder(image_folder).splits()
    assert list(splits["train"].class_names) == CLASSES[:4]
    assert list(splits["test"].class_names) == CLASSES[4:]
    assert [item.image_id for item in splits["train"].items[:2]] == ["class 00/0.jpg", "class 00/1.jpg"]
    assert len(splits["train"].items) == len(splits["test"].items) == 24
    assert splits["train"].labels == {name: number for number, name in enumerate(CLASSES[:4])}


def test_of_an_odd_number_of_classes_the_middle_one_trains(image_folder: Path) -> None:
    shutil.rmtree(image_folder / CLASSES[-1])
    splits = ImageFolder(image_folder).splits()
    assert (len(splits["train"].class_names), len(splits["test"].class_names)) == (4, 3)


def test_given_train_and_test_folders_are_the_split(image_folder: Path, tmp_path: Path) -> None:
    for name, classes in (("train", CLASSES[:6]), ("test", CLASSES[6:])):
        for label in classes:
            (tmp_path / "given" / name).mkdir(parents=True, exist_ok=True)
            shutil.move(image_folder / label, tmp_path / "given" / name / label)
    splits = ImageFolder(tmp_path / "given").splits()
    assert list(splits["train"].class_names) == CLASSES[:6]
    assert list(splits["test"].class_names) == CLASSES[6:]
    assert splits["test"].items[0].image_id == "test/class 06/0.jpg"


def test_hidden_files_other_files_and_empty_classes_are_left_out(image_folder: Path) -> None:
    before = listed(image_folder)
    source = image_folder / CLASSES[0] / "0.jpg"
    shutil.copy(source, image_folder / CLASSES[0] / "._0.jpg")
    shutil.copy(source, image_folder / CLASSES[0] / ".hidden.jpg")
    (image_folder / CLASSES[0] / ".thumbnails").mkdir()
    shutil.copy(source, image_folder / CLASSES[0] / ".thumbnails" / "0.jpg")
    (image_folder / ".cache").mkdir()
    shutil.copy(source, image_folder / ".cache" / "0.jpg")
    (image_folder / CLASSES[1] / "notes.txt").write_text("not an image")
    (image_folder / "README.md").write_text("not a class")
    (image_folder / "class 07 empty").mkdir()
    splits = ImageFolder(image_folder).splits()
    found = [item.image_id for split in splits.values() for item in split.items]
    assert found == [*before["train"], *before["test"]]
    assert "class 07 empty" not in splits["test"].class_names


def test_images_may_lie_deeper_in_their_class_folder(image_folder: Path) -> None:
    deeper = image_folder / CLASSES[0] / "views" / "front"
    deeper.mkdir(parents=True)
    shutil.move(image_folder / CLASSES[0] / "3.jpg", deeper / "3.JPEG")
    item = ImageFolder(image_folder).splits()["train"].items[5]
    assert (item.image_id, item.class_name) == ("class 00/views/front/3.JPEG", "class 00")


def test_links_that_go_round_in_circles_do_no_harm(image_folder: Path) -> None:
    before = listed(image_folder)
    (image_folder / "itself").symlink_to("itself")
    (image_folder / "up").symlink_to(image_folder, target_is_directory=True)
    (image_folder / "further up").symlink_to(image_folder.parent, target_is_directory=True)
    (image_folder / CLASSES[0] / "up").symlink_to(image_folder, target_is_directory=True)
    (image_folder / CLASSES[0] / "loop.jpg").symlink_to("loop.jpg")
    (image_folder / CLASSES[0] / "gone.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(UsageError, match=r"3 link\(s\) lead nowhere: itself, .*gone\.jpg"):
        listed(image_folder)
    without = ImageFolder(image_folder, Reading(skip_bad=True)).splits()
    assert {name: [item.image_id for item in split.items] for name, split in without.items()} == before


def test_classes_and_images_may_be_links(image_folder: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for label in CLASSES:
        (linked / label).symlink_to(image_folder / label, target_is_directory=True)
    assert listed(linked) == listed(image_folder)


def test_the_order_is_that_of_code_points(tmp_path: Path, image_folder: Path) -> None:
    root = tmp_path / "order"
    for label in ("b", "a", "B", "10", "9", "é"):
        shutil.copytree(image_folder / CLASSES[0], root / label)
    splits = ImageFolder(root).splits()
    assert [*splits["train"].class_names, *splits["test"].class_names] == ["10", "9", "B", "a", "b", "é"]


def test_the_source_digest_notices_a_changed_a_touched_a_new_and_a_moved_file(image_folder: Path) -> None:
    def digest() -> str:
        data = ImageFolder(image_folder)
        return data.source_digest(data.splits()["train"])

    image = image_folder / CLASSES[0] / "0.jpg"
    seen = [digest()]
    image.write_bytes(image.read_bytes() + b"\0")
    seen.append(digest())
    os.utime(image, ns=(0, 0))
    seen.append(digest())
    shutil.copy(image, image_folder / CLASSES[0] / "9.jpg")
    seen.append(digest())
    shutil.move(image, image_folder / CLASSES[1] / "a.jpg")
    seen.append(digest())
    assert len(set(seen)) == 5
    assert digest() == seen[-1]


def test_a_file_that_vanishes_is_named(image_folder: Path) -> None:
    data = ImageFolder(image_folder)
    split = data.splits()["train"]
    (image_folder / CLASSES[0] / "0.jpg").unlink()
    with pytest.raises(UsageError, match=r"class 00/0\.jpg"):
        data.source_digest(split)


def test_a_missing_root_and_a_file_as_root_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(UsageError, match=f"{root} is not a folder.*--data-root"):
            ImageFolder(root).splits()


def test_too_few_classes_are_refused_with_the_layout_that_is_expected(image_folder: Path) -> None:
    for label in CLASSES[3:]:
        shutil.rmtree(image_folder / label)
    with pytest.raises(UsageError, match=r"has 3 class folder.*at least 4.*ROOT/CLASS/image\.jpg"):
        ImageFolder(image_folder).splits()


def test_a_split_without_images_is_refused(image_folder: Path) -> None:
    for label in CLASSES[4:]:
        for image in (image_folder / label).iterdir():
            image.rename(image.with_suffix(".txt"))
    for name, labels in (("train", CLASSES[:4]), ("test", CLASSES[4:])):
        (image_folder / name).mkdir()
        for label in labels:
            shutil.move(image_folder / label, image_folder / name / label)
    with pytest.raises(UsageError, match="has no pictures for test, and there are the splits train"):
        ImageFolder(image_folder).splits()


def test_a_name_that_is_no_text_is_refused(image_folder: Path) -> None:
    source = image_folder / CLASSES[0] / "0.jpg"
    shutil.copy(os.fsencode(source), os.fsencode(source.parent) + b"/caf\xe9.jpg")
    with pytest.raises(UsageError, match=r"not UTF-8.*caf"):
        ImageFolder(image_folder).splits()


def test_data_sets_are_opened_by_name(image_folder: Path) -> None:
    assert open_data_set("folder", str(image_folder)).splits()["train"].name == "train"
    with pytest.raises(UsageError, match="--data-root"):
        open_data_set("folder", None)
    with pytest.raises(UsageError, match=r"no data set 'cub-2010'.*glyphs"):
        open_data_set("cub-2010", None)
