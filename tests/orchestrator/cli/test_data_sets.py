"""The published data sets from the command line: listed, checked, packed ahead, and trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from muster.workers.datasets import NAMES
from tests.cli import Muster
from tests.workers.datasets import copies


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of CUB of 6 + 4 classes."""
    root = tmp_path_factory.mktemp("birds")
    return copies.cub200(root, classes=(1, 2, 3, 4, 5, 100, 101, 102, 103, 200), each=5)


def test_every_data_set_is_listed_with_all_that_is_needed_to_get_it(muster_without_cluster: Muster) -> None:
    found = muster_without_cluster("data", "list", "--json").document
    assert [one["name"] for one in found] == list(NAMES)
    assert all(one["licence"] and one["obtained"] and one["what"] for one in found)
    text = muster_without_cluster("data", "list").out
    for part in ("CUB_200_2011.tgz", "5,864 images of 100 classes", "list_eval_partition.txt", "by e-mail"):
        assert part in text


def test_a_check_shows_the_tree_and_ends_with_2_where_the_copy_differs(
    muster_without_cluster: Muster, birds: Path
) -> None:
    ran = muster_without_cluster("data", "check", "cub200", "--root", birds, code=2)
    assert "images/*/*.jpg" in ran.out
    assert "50 files" in ran.out
    assert "train has 30 images of 6 classes instead of 5,864 of 100" in ran.err
    document = muster_without_cluster("data", "check", "cub200", "--root", birds, "--json", code=2).document
    assert document["as_published"] is False
    assert document["tree"][0] == {"expected": "images.txt", "holds": "image_id path", "found": "yes"}
    assert {"expected": "", "holds": "", "found": "bounding_boxes.txt"} in document["tree"]
    assert len(document["problems"]) == 2


def test_a_check_that_allows_other_counts_shows_the_splits(
    muster_without_cluster: Muster, birds: Path
) -> None:
    ran = muster_without_cluster("data", "check", "cub200", "--root", birds, "--allow-counts")
    assert "It can be used." in ran.out
    assert "as published: train has 30" in ran.err
    document = muster_without_cluster(
        "data", "check", "CUB200", "--root", birds, "--allow-counts", "--json"
    ).document
    assert [(row["split"], row["images"], row["classes"]) for row in document["splits"]] == [
        ("train", 30, 6),
        ("test", 20, 4),
    ]


def test_a_check_names_what_is_missing(muster_without_cluster: Muster, tmp_path: Path) -> None:
    copies.inshop(tmp_path)
    (tmp_path / "In-shop Clothes Retrieval Benchmark" / "Eval" / "list_eval_partition.txt").rename(
        tmp_path / "elsewhere.txt"
    )
    ran = muster_without_cluster("data", "check", "inshop", "--root", tmp_path, code=2)
    assert "list_eval_partition.txt" in ran.err
    muster_without_cluster("data", "check", "inshop", "--root", tmp_path / "nowhere", code=2)
    assert "--data-root" in muster_without_cluster("data", "check", "inshop", code=2).err


def test_what_is_packed_ahead_is_found_by_a_launch(muster: Muster, birds: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    where = ("--root", birds, "--storage", store, "--image-size", 32, "--allow-counts")
    first = muster("data", "pack", "cub200", *where, "--json")
    rows = first.document["packs"]
    assert [(row["split"], row["state"], row["images"]) for row in rows] == [
        ("train", "packed", 30),
        ("test", "packed", 20),
    ]
    assert all(row["images_per_s"] > 0 for row in rows)
    again = muster("data", "pack", "cub200", *where)
    assert again.out.count("found") == 2

    ran = muster(
        "launch", "dreml", "--dataset", "cub200", "--data-root", birds, "--allow-counts", "--weights", "none",
        "--backbone", "conv4", "--image-size", 32, "--D", 3, "--L", 2, "--epochs", 1, "--storage", store, "--json",
    )  # fmt: skip
    assert "packing" not in ran.err
    answer = ran.document
    assert answer["models"]["trained"] == 2
    assert set(answer["metrics"]) >= {"recall_at_1", "recall_at_2", "recall_at_4", "recall_at_8"}
    report = Path(answer["paths"]["report"]).read_text()
    warning = report.index("is not CUB-200-2011 as published")
    assert warning < report.index("recall@1")
    assert len(list((store / "packs").glob("*/DONE.json"))) == 2


def test_a_launch_on_a_copy_that_differs_is_refused_before_anything_starts(
    muster_without_cluster: Muster, birds: Path, tmp_path: Path
) -> None:
    ran = muster_without_cluster(
        "launch", "dreml", "--dataset", "cub200", "--data-root", birds, "--storage", tmp_path / "s", code=2
    )
    assert "--allow-counts" in ran.err
    assert not list(tmp_path.glob("s/*"))


def test_queries_look_in_the_gallery_alone(muster: Muster, tmp_path: Path) -> None:
    copies.inshop(tmp_path / "data")
    answer = muster(
        "launch", "dreml", "--dataset", "icr", "--data-root", tmp_path / "data", "--allow-counts",
        "--backbone", "conv4", "--image-size", 32, "--D", 2, "--L", 1, "--epochs", 1,
        "--storage", tmp_path / "store", "--json",
    ).document  # fmt: skip
    assert {"recall_at_1", "recall_at_10", "recall_at_50"} <= set(answer["metrics"])
    report = Path(answer["paths"]["report"]).read_text()
    assert "6 queries: query images are looked for in the gallery" in report


def test_bad_images_are_listed_by_packing(muster_without_cluster: Muster, tmp_path: Path) -> None:
    copies.sop(tmp_path / "data")
    bad = sorted((tmp_path / "data" / "Stanford_Online_Products").glob("*/*.JPG"))[:2]
    for path in bad:
        path.write_bytes(path.read_bytes()[:300])
    where = (
        "--root",
        tmp_path / "data",
        "--storage",
        tmp_path / "store",
        "--image-size",
        32,
        "--allow-counts",
    )
    refused = muster_without_cluster("data", "pack", "sop", *where, code=2)
    assert all(path.name in refused.err for path in bad)
    ran = muster_without_cluster("data", "pack", "sop", *where, "--skip-bad-images")
    assert all(f"{path.name}: " in ran.err for path in bad)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--preset", "papre"], "papre"),
        (["--image-size", 4], "image_size = 4"),
        (["--test-list", "huge"], "must be 'small', 'medium' or 'large'"),
    ],
)
def test_a_wrong_flag_of_packing_is_named(
    muster_without_cluster: Muster, tmp_path: Path, flags: list[object], said: str
) -> None:
    copies.vehicleid(tmp_path)
    ran = muster_without_cluster(
        "data", "pack", "vehicleid", "--root", tmp_path, "--storage", tmp_path / "s", *flags, code=2
    )
    assert said in ran.err
    assert not list(tmp_path.glob("s/*"))


def test_only_vehicleid_has_test_lists(muster_without_cluster: Muster, birds: Path) -> None:
    ran = muster_without_cluster(
        "launch", "dreml", "--dataset", "cub200", "--data-root", birds, "--set", "test_list=large", code=2
    )
    assert "only vehicleid has test lists" in ran.err


@pytest.fixture(scope="module")
def vehicles(muster: Muster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A store with a run on VehicleID's large list, scored by re-identification, and the run's answer."""
    home = tmp_path_factory.mktemp("vehicles")
    copies.vehicleid(home / "data")
    answer = muster(
        "launch", "dreml", "--dataset", "vehicleid", "--data-root", home / "data", "--allow-counts",
        "--backbone", "conv4", "--image-size", 32, "--D", 3, "--L", 2, "--epochs", 1, "--name", "cars",
        "--set", "test_list=large", "--set", "vehicleid_protocol=reid", "--set", "repeats=4",
        "--storage", home / "store", "--json",
    ).document  # fmt: skip
    return home / "store", answer


def test_vehicles_are_identified_again_on_request_with_mean_and_spread(vehicles: tuple[Path, Any]) -> None:
    _, answer = vehicles
    assert answer["protocol"].startswith("re-identification: one random image of each vehicle is the gallery")
    assert answer["protocol"].endswith("means of 4 draws")
    assert set(answer["metrics"]) >= {"recall_at_1_spread", "recall_at_5_spread"}
    # 4 vehicles of 3 images: 8 ask in each of 4 draws, so a mean is a multiple of 1/32.
    shares = [row["recall_at_1"] * 32 for row in answer["curve"]]
    assert shares == pytest.approx([round(share) for share in shares])
    assert answer["metrics"]["recall_at_5"] == 1  # the gallery has 4 images
    report = Path(answer["paths"]["report"]).read_text()
    assert "8 queries: re-identification" in report
    assert "the spread is the draws&#39; standard deviation" in report


def test_the_other_protocol_scores_the_same_vectors(muster: Muster, vehicles: tuple[Path, Any]) -> None:
    store, answer = vehicles

    def scored(*flags: object) -> Any:
        return muster("evaluate", "cars", "--storage", store, *flags, "--json").document

    mine, other = scored(), scored("--vehicleid-protocol", "self")
    assert [row["recall_at_1"] for row in mine["curve"]] == [row["recall_at_1"] for row in answer["curve"]]
    assert mine["protocol"] == answer["protocol"]
    assert other["protocol"] == "test images ask all the others (leave-one-out)"
    assert other["queries"] == 12
    assert "recall_at_1_spread" not in other["metrics"]
    assert other["members"] == mine["members"]
    assert scored("--repeats", 2)["protocol"].endswith("means of 2 draws")
    said = muster("evaluate", "cars", "--storage", store).out
    assert "Re-identification: one random image" in said
    assert "(spread " in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--vehicleid-protocol", "both"], "there are self, reid"),
        (["--repeats", 1], "--repeats = 1: a spread needs at least 2"),
        (["--vehicleid-protocol", "self", "--repeats", 3], "no effect without vehicleid_protocol = reid"),
    ],
)
def test_a_wrong_protocol_is_named(
    muster: Muster, vehicles: tuple[Path, Any], flags: list[object], said: str
) -> None:
    assert said in muster("evaluate", "cars", "--storage", vehicles[0], *flags, code=2).err


def test_only_vehicleid_has_two_protocols(muster_without_cluster: Muster, birds: Path) -> None:
    ran = muster_without_cluster(
        "launch", "dreml", "--dataset", "cub200", "--data-root", birds, "--set", "vehicleid_protocol=reid",
        code=2,
    )  # fmt: skip
    assert "vehicleid_protocol: it is vehicleid's" in ran.err
