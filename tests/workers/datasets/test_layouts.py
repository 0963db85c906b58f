"""Every layout in which the published data sets circulate: which images, classes, order and pixels come out."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from muster.workers.datasets import DataSet, Split, open_data_set
from muster.workers.errors import BadImagesError, UsageError
from muster.workers.packs.build import bad_images, build_pack
from muster.workers.packs.pack import open_pack
from muster.workers.store.layout import Store
from tests.workers.datasets import copies


def opened(name: str, root: Path, **how: str) -> tuple[DataSet, dict[str, Split]]:
    data = open_data_set(name, str(root), allow_counts=True, **how)
    return data, dict(data.splits())


def classes(split: Split) -> list[str]:
    return [item.class_name for item in split.items]


def test_cub_is_split_by_class_id_in_the_lists_order(tmp_path: Path) -> None:
    data, splits = opened("cub200", copies.cub200(tmp_path))
    assert splits["train"].class_names == ["001.Bird_1", "002.Bird_2", "100.Bird_100"]
    assert splits["test"].class_names == ["101.Bird_101", "150.Bird_150", "200.Bird_200"]
    assert classes(splits["train"])[:5] == ["002.Bird_2"] * 4 + ["001.Bird_1"]  # as images.txt has them
    assert splits["train"].items[1].image_id == "images/002.Bird_2/Bird 0001_1.jpg"
    assert len(splits["train"].items) == len(splits["test"].items) == 12
    assert isinstance(data, DataSet)


def test_the_archives_own_folder_may_be_given_as_root(tmp_path: Path) -> None:
    copies.cub200(tmp_path)
    inner, outer = (opened("cub200", root)[1] for root in (tmp_path / "CUB_200_2011", tmp_path))
    assert inner["test"] == outer["test"]


def test_files_that_archives_made_on_a_mac_leave_are_skipped(tmp_path: Path) -> None:
    home = copies.cub200(tmp_path) / "CUB_200_2011"
    with (home / "images.txt").open("a") as file:
        file.write("25 200.Bird_200/._Bird_0000_0.jpg\n")
    assert len(opened("cub200", tmp_path)[1]["test"].items) == 12


@pytest.mark.parametrize("layout", copies.CAR_LAYOUTS)
def test_every_layout_of_cars_gives_the_same_classes(layout: str, tmp_path: Path) -> None:
    data, splits = opened("cars196", copies.CAR_LAYOUTS[layout](tmp_path))
    assert splits["train"].class_names == ["001", "002", "098"]
    assert splits["test"].class_names == ["099", "196"]
    assert sorted(classes(splits["train"])) == ["001"] * 2 + ["002"] * 2 + ["098"] * 2
    assert sorted(classes(splits["test"])) == ["099"] * 2 + ["196"] * 2
    for split in splits.values():
        for item in split.items:  # an image has the colours of its class, so its label is the right one
            pixels = np.asarray(data.read(item).image).astype(int)
            places = [p for p, label in enumerate(copies.CARS) if f"{label:03d}" == item.class_name]
            drawn = [np.asarray(Image.open(_file(p)).convert("RGB")).astype(int) for p in places]
            assert min(np.abs(pixels - one).max() for one in drawn) == 0


def _file(place: int):
    import io

    return io.BytesIO(copies.jpeg(place, copies.CARS[place]))


def test_parquet_rows_are_read_by_many_threads_and_out_of_order(tmp_path: Path) -> None:
    data, splits = opened("cars196", copies.cars_parquet(tmp_path))
    items = [*splits["train"].items, *splits["test"].items] * 20
    np.random.default_rng(0).shuffle(items)
    alone = {item.image_id: data.read(item).image.tobytes() for item in items}
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda item: data.read(item).image.tobytes(), items))
    assert together == [alone[item.image_id] for item in items]
    assert len(set(alone.values())) == len(copies.CARS)


def test_the_digest_of_a_parquet_copy_notices_a_new_file(tmp_path: Path) -> None:
    data, splits = opened("cars196", copies.cars_parquet(tmp_path))
    before = data.source_digest(splits["test"])
    assert data.source_digest(splits["train"]) != before
    path = tmp_path / "data" / "test-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes())
    assert data.source_digest(splits["test"]) != before


def test_sop_has_its_split_from_the_lists_and_upper_case_suffixes(tmp_path: Path) -> None:
    data, splits = opened("sop", copies.sop(tmp_path))
    assert splits["train"].class_names == ["00001", "00002", "11318"]
    assert splits["test"].class_names == ["11319", "22634"]
    assert splits["train"].items[0].image_id == "coffee_maker_final/1100_0.JPG"
    assert data.traits.recall_at == (1, 10, 100, 1000)


@pytest.mark.parametrize("flattened", [False, True])
def test_inshop_has_queries_and_a_gallery_of_the_same_items(flattened: bool, tmp_path: Path) -> None:
    _, splits = opened("inshop", copies.inshop(tmp_path, flattened=flattened))
    assert splits["train"].class_names == ["id_00000001", "id_00000003", "id_00000005"]
    assert splits["test"].class_names == ["id_00000002", "id_00000004", "id_00007982"]
    assert {item.role for item in splits["train"].items} == {""}
    for role in ("query", "gallery"):
        mine = [item for item in splits["test"].items if item.role == role]
        assert len(mine) == 6
        assert {item.class_name for item in mine} == set(splits["test"].class_names)
    assert splits["test"].items[0].image_id == (
        ("" if flattened else "Img/") + "img/WOMEN/Blouses Shirts/id_00007982/00_1_front.jpg"
    )


@pytest.mark.parametrize("alias", ["icr", "ISC", "InShop"])
def test_inshop_answers_to_the_names_of_the_authors_code(alias: str, tmp_path: Path) -> None:
    assert opened(alias, copies.inshop(tmp_path))[0].name == "inshop"


@pytest.mark.parametrize(("test_list", "vehicles"), [("small", 2), ("medium", 3), ("large", 4)])
def test_vehicleid_takes_the_test_list_that_is_named(test_list: str, vehicles: int, tmp_path: Path) -> None:
    data, splits = opened("vehicleid", copies.vehicleid(tmp_path), test_list=test_list)
    assert len(splits["test"].class_names) == vehicles
    assert splits["train"].class_names == ["00004", "00009", "26327"]
    assert splits["train"].items[0].image_id == "image/0000001.jpg"
    assert test_list in data.traits.title


@pytest.mark.parametrize("name", copies.COPIES)
def test_every_kind_of_jpeg_is_packed(name: str, tmp_path: Path, store: Store) -> None:
    data, splits = opened(name, copies.COPIES[name](tmp_path / "data"))
    index = build_pack(store, data, splits["test"], "squash:24")
    pack = open_pack(store.pack(index.digest), index.digest, tmp_path / "cache")
    assert len(index) == len(splits["test"].items)
    assert index.class_names == list(splits["test"].class_names)
    assert all(pack.image(row).std() > 5 for row in range(len(index)))


def test_a_truncated_image_is_named_and_can_be_skipped(tmp_path: Path, store: Store) -> None:
    data, splits = opened("sop", copies.sop(tmp_path / "data"))
    item = splits["test"].items[4]
    path = tmp_path / "data" / "Stanford_Online_Products" / item.image_id
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BadImagesError, match=item.image_id):
        build_pack(store, data, splits["test"], "squash:24")
    index = build_pack(store, data, splits["test"], "squash:24", skip_bad=True)
    assert [bad.image_id for bad in bad_images(store, index.digest)] == [item.image_id]


# As people have them


@pytest.mark.parametrize("name", copies.COPIES)
@pytest.mark.parametrize("around", ["downloads", "a b"])
def test_a_folder_too_many_around_a_copy_is_looked_through(name: str, around: str, tmp_path: Path) -> None:
    copies.COPIES[name](tmp_path / "plain")
    copies.COPIES[name](tmp_path / "deep" / around)
    plain, deep = (opened(name, tmp_path / place)[1] for place in ("plain", "deep"))
    assert {split: items.items for split, items in plain.items()} == {
        split: items.items for split, items in deep.items()
    }


@pytest.mark.parametrize("name", copies.COPIES)
def test_of_two_copies_neither_is_taken(name: str, tmp_path: Path) -> None:
    for around in ("one", "two"):
        copies.COPIES[name](tmp_path / around)
    with pytest.raises(UsageError, match=r"several copies of .*Give the folder of one"):
        opened(name, tmp_path)


@pytest.mark.parametrize("around", ["", "downloads"])
def test_parquet_files_of_another_data_set_hide_no_copy(around: str, tmp_path: Path) -> None:
    """Of their files nothing tells which data set they are."""
    copies.cub200(tmp_path / "plain")
    copies.cub200(tmp_path / "all" / around)
    copies.cars_parquet(tmp_path / "all")
    assert list((tmp_path / "all").glob("*/train*.parquet"))
    assert opened("cub200", tmp_path / "all")[1] == opened("cub200", tmp_path / "plain")[1]
    assert classes(opened("cars196", tmp_path / "all")[1]["train"])  # which lies nowhere else


def test_parquet_files_in_the_archives_own_folder_go_before_others(tmp_path: Path) -> None:
    root = copies.tables(tmp_path, copies.cub200, "cub200")
    (tmp_path / "all").mkdir()
    root.rename(tmp_path / "all" / "CUB_200_2011")
    copies.cars_parquet(tmp_path / "all")
    assert len(opened("cub200", tmp_path / "all")[1]["train"].class_names) == 3


@pytest.mark.parametrize("flattened", [False, True])
def test_in_shops_list_may_lie_in_anno(flattened: bool, tmp_path: Path) -> None:
    copies.inshop(tmp_path, flattened=flattened)
    (found,) = tmp_path.rglob("list_eval_partition.txt")
    home = tmp_path if flattened else found.parents[1]
    plain = opened("inshop", tmp_path)[1]
    (home / "Anno").mkdir()
    found.rename(home / "Anno" / found.name)
    moved = opened("inshop", tmp_path)[1]
    assert {name: list(split.items) for name, split in moved.items()} == {
        name: list(split.items) for name, split in plain.items()
    }


@pytest.mark.parametrize(
    "place",
    ["devkit/cars_test_annos_withlabels.mat", "car_devkit/devkit/cars_test_annos_withlabels.mat",
     "cars_test_annos_withlabels (1).mat", "devkit/cars_test_annos_withlabels (1).mat"],
)  # fmt: skip
def test_the_labels_of_cars_may_lie_in_or_beside_the_devkit(place: str, tmp_path: Path) -> None:
    copies.cars_devkit(tmp_path)
    plain = opened("cars196", tmp_path)[1]
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "devkit" / "cars_test_annos_withlabels.mat").rename(tmp_path / place)
    assert opened("cars196", tmp_path)[1]["test"].items == plain["test"].items


def test_of_two_files_of_labels_neither_is_taken(tmp_path: Path) -> None:
    copies.cars_devkit(tmp_path)
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        shutil.copy(tmp_path / "devkit" / "cars_test_annos_withlabels.mat", tmp_path / place)
    (tmp_path / "devkit" / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(UsageError, match="keep the one that belongs to it"):
        opened("cars196", tmp_path)


@pytest.mark.parametrize("structs", [False, True])
@pytest.mark.parametrize(
    ("name", "how"),
    [("cub200", {}), ("cub200", {"base": 1}), ("sop", {}), ("sop", {"base": 1}), ("sop", {"own": True})],
)
def test_birds_and_products_are_read_from_parquet_too(
    name: str, how: dict[str, Any], structs: bool, tmp_path: Path
) -> None:
    root = copies.tables(tmp_path, copies.COPIES[name], name, structs=structs, **how)
    plain, before = opened(name, tmp_path / "folders")
    data, splits = opened(name, root)
    for split, found in splits.items():
        assert [item.class_name[:3] for item in found.items] == [
            item.class_name[:3] for item in before[split].items
        ]
        for item, file in zip(found.items, before[split].items, strict=True):
            assert data.read(item).image.tobytes() == plain.read(file).image.tobytes()
    assert data.image_root is None


def test_columns_that_hold_no_images_are_named(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for half in ("train", "test"):
        pq.write_table(pa.table({"image": ["a.jpg"], "label": [1]}), tmp_path / f"{half}-0.parquet")
    with pytest.raises(UsageError, match="lacks a column image with the bytes of files; it has image, label"):
        opened("cub200", tmp_path)
