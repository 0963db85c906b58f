"""The published counts, against a table typed separately, and what is said when a copy differs from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.workers.datasets import PUBLISHED, Published, open_data_set
from muster.workers.datasets.lists import Entry
from muster.workers.datasets.vehicleid import VehicleId
from muster.workers.errors import UsageError
from tests.workers.datasets import copies

#: (data set, part, images, classes, where it is published)
PUBLISHED_COUNTS = [
    ("cub200", "train", 5864, 100, "Proxy-Anchor, section 4.1"),
    ("cub200", "test", 5924, 100, "Proxy-Anchor, section 4.1"),
    ("cars196", "train", 8054, 98, "Proxy-Anchor, section 4.1"),
    ("cars196", "test", 8131, 98, "Proxy-Anchor, section 4.1"),
    ("sop", "train", 59551, 11318, "Song et al., CVPR 2016; TensorFlow Datasets"),
    ("sop", "test", 60502, 11316, "Song et al., CVPR 2016; TensorFlow Datasets"),
    ("inshop", "train", 25882, 3997, "Divide and Conquer, data set code"),
    ("inshop", "query", 14218, 3985, "Divide and Conquer, data set code"),
    ("inshop", "gallery", 12612, 3985, "Divide and Conquer, data set code"),
    ("vehicleid", "train", 113346, 13164, "README of VehicleID V1.0"),
    ("vehicleid", "test small", 6493, 800, "README of VehicleID V1.0"),
    ("vehicleid", "test medium", 13377, 1600, "README of VehicleID V1.0"),
    ("vehicleid", "test large", 19777, 2400, "README of VehicleID V1.0"),
]
#: (data set, images, classes of all parts together, where it is published)
TOTALS = [
    ("cub200", 11788, 200, "Wah et al., CNS-TR-2011-001"),
    ("cars196", 16185, 196, "Krause et al., 3dRR 2013"),
    ("sop", 120053, 22634, "Song et al., CVPR 2016"),
]


def test_the_published_counts_are_those_typed_here() -> None:
    found = {
        (name, part, *count) for name, kind in PUBLISHED.items() for part, count in kind.about.counts.items()
    }
    assert found == {row[:4] for row in PUBLISHED_COUNTS}


@pytest.mark.parametrize(("name", "images", "classes", "source"), TOTALS)
def test_the_parts_add_up_to_what_is_published_of_the_whole(
    name: str, images: int, classes: int, source: str
) -> None:
    counts = PUBLISHED[name].about.counts.values()
    assert (sum(c.images for c in counts), sum(c.classes for c in counts)) == (images, classes), source


def test_inshop_has_52712_images_of_7982_items() -> None:  # Liu et al., CVPR 2016 (DeepFashion)
    counts = PUBLISHED["inshop"].about.counts
    assert sum(count.images for count in counts.values()) == 52712
    assert counts["train"].classes + counts["query"].classes == 7982


LISTED_IN = {
    "cub200": "images.txt",
    "cars196": "cars_annos.mat",
    "sop": "Ebay_train.txt, Ebay_test.txt",
    "inshop": "Eval/list_eval_partition.txt",
    "vehicleid": "train_test_split/train_list.txt, train_test_split/test_list_800.txt",
}


@pytest.mark.parametrize("name", copies.COPIES)
def test_a_copy_that_is_not_as_published_is_refused_with_both_counts(name: str, tmp_path: Path) -> None:
    root = copies.COPIES[name](tmp_path)
    with pytest.raises(UsageError) as refused:
        open_data_set(name, str(root)).splits()
    said = str(refused.value)
    assert refused.value.exit_code == 2
    assert "--allow-counts" in said
    assert str(root) in said
    parts = [
        row for row in PUBLISHED_COUNTS if row[0] == name and row[1] not in {"test medium", "test large"}
    ]
    for _, part, images, classes, _ in parts:
        assert f"{part.removesuffix(' small')} has " in said
        assert f"instead of {images:,} of {classes:,}" in said
    assert f"listed in {LISTED_IN[name]}" in said


@pytest.mark.parametrize("name", copies.COPIES)
def test_allowed_differences_are_kept_for_the_report(name: str, tmp_path: Path) -> None:
    data = open_data_set(name, str(copies.COPIES[name](tmp_path)), allow_counts=True)
    data.splits()
    assert len(data.differences) == 1
    assert "is not " in data.differences[0]
    assert "as published" in data.differences[0]


class Whole(VehicleId):
    """Has as many rows as are published, without their files."""

    def entries(self, lists: object) -> dict[str, list[Entry]]:
        counts = {"train": (113346, 13164, 0), "test": (6493, 800, 13164)}
        return {
            name: [
                Entry(f"image/{name}{n}.jpg", n % classes + 1 + first, f"{name}:{n}") for n in range(images)
            ]
            for name, (images, classes, first) in counts.items()
        }

    def present(self, lists: object, entries: list[Entry]) -> tuple[list[Entry], list[Entry]]:
        return entries, []


def test_a_copy_as_published_has_nothing_to_tell(tmp_path: Path) -> None:
    copies.vehicleid(tmp_path)
    data = Whole(tmp_path)
    splits = data.splits()
    assert data.differences == ()
    assert len(splits["train"].items) == 113346


def test_the_papers_counts_of_vehicleid_are_told_beside_the_distributed_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"older lists: train 110,178 images of 13,134 vehicles"):
        open_data_set("vehicleid", str(copies.vehicleid(tmp_path))).splits()


#: Channel means and deviations of DREML's code (color_lib), typed separately.
STATISTICS = {
    "cub200": (".4707 .4601 .4549", ".2767 .2760 .2850"),
    "cars196": (".4853 .4965 .4295", ".2237 .2193 .2568"),
    "inshop": (".8324 .8109 .8041", ".2206 .2378 .2444"),
    "sop": (".5807 .5396 .5044", ".2901 .2974 .3095"),
    "vehicleid": (".3912 .4110 .4118", ".2357 .2332 .2338"),
}
#: The K of DREML's tables 1 to 3 and, for sop, of Song et al.
RECALL_AT = {
    "cub200": (1, 2, 4, 8),
    "cars196": (1, 2, 4, 8),
    "inshop": (1, 10, 20, 30, 40, 50),
    "sop": (1, 10, 100, 1000),
    "vehicleid": (1, 5),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_statistics_caps_and_the_k_of_recall_are_the_papers(name: str) -> None:
    data = open_data_set(name, "/nowhere")
    assert isinstance(data, Published)
    means, deviations = STATISTICS[name]
    assert data.traits.mean == tuple(float(value) for value in means.split())
    assert data.traits.std == tuple(float(value) for value in deviations.split())
    assert data.traits.recall_at == RECALL_AT[name]
    assert data.traits.class_cap == 500  # TH in DREML's code
    assert data.traits.flip


def test_files_that_no_list_names_are_counted_against_the_archive(tmp_path: Path) -> None:
    data = open_data_set("cub200", str(copies.cub200(tmp_path)), allow_counts=True)
    assert isinstance(data, Published)
    assert data.other_counts() == [f"{data.home}/images/*/*.jpg: 24 files, and 11,788 are published."]
