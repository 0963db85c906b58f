"""Small copies of the published data sets, in their true layouts, with real JPEG files of every awkward kind."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy.io import savemat

SIDE = 40
KINDS = ("plain", "grey", "cmyk", "turned")
CAR_NAMES = {1: "AM General Hummer SUV 2000", 2: "Ram C/V Cargo Van Minivan 2012"}


def jpeg(number: int, label: int) -> bytes:
    """A small JPEG file: a class is a colour and stripes; every fourth is greyscale, CMYK or turned by EXIF."""
    rng = np.random.default_rng([number, label])
    wave = 50 * np.sin(np.indices((SIDE, SIDE + 8))[label % 2] * (0.2 + 0.07 * (label % 7)))
    colour = np.array([label % 3, label // 3 % 3, label // 9 % 3]) * 80 + 40
    pixels = (colour + wave[..., None] + rng.normal(0, 12, (SIDE, SIDE + 8, 3))).clip(0, 255)
    image = Image.fromarray(pixels.astype(np.uint8))
    kind = KINDS[number % len(KINDS)]
    exif = Image.Exif()
    if kind == "turned":
        exif[0x0112] = 6
    mode = {"grey": "L", "cmyk": "CMYK"}.get(kind, "RGB")
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, "JPEG", quality=90, exif=exif)
    return buffer.getvalue()


def put(path: Path, number: int, label: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(number, label))


def put_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def cub200(root: Path, classes: tuple[int, ...] = (2, 1, 100, 101, 200, 150), each: int = 4) -> Path:
    """Class folders in whose order of names the last class comes first; a space in one file's name."""
    home = root / "CUB_200_2011"
    images, labels = [], []
    for number, (label, copy) in enumerate((c, i) for c in classes for i in range(each)):
        space = " " if copy == 1 else "_"
        path = f"{label:03d}.Bird_{label}/Bird{space}{copy:04d}_{number}.jpg"
        put(home / "images" / path, number, label)
        images.append(f"{number + 1} {path}")
        labels.append(f"{number + 1} {label}")
    put_lines(home / "images.txt", images)
    put_lines(home / "image_class_labels.txt", labels)
    put_lines(home / "classes.txt", [f"{label} {label:03d}.Bird_{label}" for label in range(1, 201)])
    put_lines(home / "train_test_split.txt", [f"{row.split()[0]} {i % 2}" for i, row in enumerate(images)])
    put_lines(home / "bounding_boxes.txt", [f"{row.split()[0]} 1.0 1.0 9.0 9.0" for row in images])
    return root


def sop(root: Path) -> Path:
    home = root / "Stanford_Online_Products"
    for name, classes in (("train", (1, 2, 11318)), ("test", (11319, 22634))):
        rows = ["image_id class_id super_class_id path"]
        for label in classes:
            for copy in range(3):
                path = f"{('bicycle', 'coffee_maker')[label % 2]}_final/{label}10{copy}_{copy}.JPG"
                put(home / path, copy, label)
                rows.append(f"{len(rows)} {label} {label % 12 + 1} {path}")
        put_lines(home / f"Ebay_{name}.txt", rows)
    put_lines(home / "Ebay_info.txt", ["image_id class_id super_class_id path"])
    return root


def inshop(root: Path, *, flattened: bool = False) -> Path:
    """Ids of train and test interleaved; every query id is in the gallery."""
    home = root if flattened else root / "In-shop Clothes Retrieval Benchmark"
    rows = []
    for label in (7982, 1, 2, 3, 4, 5):
        for copy in range(4):
            image = f"img/WOMEN/Blouses Shirts/id_{label:08d}/0{copy}_1_front.jpg"
            status = "train" if label % 2 else ("query", "gallery")[copy % 2]
            put(home / ("" if flattened else "Img") / image, copy, label)
            rows.append(f"{image}    id_{label:08d}       {status}")
    head = [str(len(rows)), "image_name item_id evaluation_status"]
    put_lines(home / ("" if flattened else "Eval") / "list_eval_partition.txt", [*head, *rows])
    return root


def vehicleid(root: Path) -> Path:
    home = root / "VehicleID_V1.0"
    number = 0
    lists = {"train_list": (9, 4, 26327), "test_list_800": (1, 3), "test_list_1600": (1, 3, 5)}
    written: dict[int, list[str]] = {}
    for name, vehicles in {**lists, "test_list_2400": (1, 3, 5, 7)}.items():
        for vehicle in vehicles:
            if vehicle not in written:
                written[vehicle] = []
                for copy in range(3):
                    number += 1
                    put(home / "image" / f"{number:07d}.jpg", copy, vehicle)
                    written[vehicle].append(f"{number:07d} {vehicle}")
        put_lines(home / "train_test_split" / f"{name}.txt", [row for v in vehicles for row in written[v]])
    return root


#: Class of each image, in the order of the joint numbering; official test images are those at odd places.
CARS = (1, 1, 2, 2, 98, 98, 99, 99, 196, 196)


def car_number(place: int) -> int:
    """The number of an image within its half, from 1."""
    return place // 2 + 1


def structs(path: Path, rows: list[dict[str, Any]]) -> None:
    """A struct array `annotations` as MATLAB writes it."""
    dtype = [(name, object) for name in rows[0]]
    array = np.array([tuple(row.values()) for row in rows], dtype=dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"annotations": array[None, :]})


BOX = {"bbox_x1": 1, "bbox_y1": 2, "bbox_x2": 30, "bbox_y2": 31}


def cars_joint(root: Path) -> Path:
    rows = []
    for place, label in enumerate(CARS):
        path = f"car_ims/{place + 1:06d}.jpg"
        put(root / path, place, label)
        rows.append({"relative_im_path": path, **BOX, "class": label, "test": place % 2})
    structs(root / "cars_annos.mat", rows)
    return root


def cars_devkit(root: Path, *, nested: bool = False, beside: bool = False) -> Path:
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for place, label in enumerate(CARS):
        half = ("train", "test")[place % 2]
        name = f"{car_number(place):05d}.jpg"
        put(root / f"cars_{half}" / (f"cars_{half}" if nested else "") / name, place, label)
        rows[half].append({**BOX, "class": label, "fname": name})
    structs(root / "devkit" / "cars_train_annos.mat", rows["train"])
    unlabelled = [{k: v for k, v in row.items() if k != "class"} for row in rows["test"]]
    structs(root / "devkit" / "cars_test_annos.mat", unlabelled)
    structs(root / ("" if beside else "devkit") / "cars_test_annos_withlabels.mat", rows["test"])
    if nested:  # as that copy ships it: it belongs to the joint layout
        joint = [{"relative_im_path": f"car_ims/{p + 1:06d}.jpg", "class": c} for p, c in enumerate(CARS)]
        structs(root / "cars_annos.mat", joint)
    return root


def cars_by_class(root: Path) -> Path:
    """Class names in whose alphabetical order the ids would come out wrong."""
    names = [CAR_NAMES.get(label, f"{'ZYX'[label % 3]}, Car {label}") for label in range(1, 197)]
    with (root / "names.csv").open("w", newline="") as file:
        csv.writer(file).writerows([name] for name in names)
    tables: dict[str, list[list[object]]] = {"train": [], "test": []}
    for place, label in enumerate(CARS):
        half, name = ("train", "test")[place % 2], f"{car_number(place):05d}.jpg"
        put(root / "car_data" / "car_data" / half / names[label - 1].replace("/", "-") / name, place, label)
        tables[half].append([name, *BOX.values(), label])
    for half, rows in tables.items():
        with (root / f"anno_{half}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return root


def cars_parquet(root: Path, *, base: int = 0, class_label: bool = True) -> Path:
    (root / "data").mkdir(parents=True)
    names = [f"Car {number}" for number in range(196)]
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if class_label else {}
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for half in (0, 1):
        places = range(half, len(CARS), 2)
        images = [{"bytes": jpeg(p, CARS[p]), "path": f"{car_number(p):05d}.jpg"} for p in places]
        labels = [CARS[p] - 1 + base for p in places]
        table = pa.table({"image": pa.array(images, kind), "label": pa.array(labels, pa.int64())})
        name = f"{('train', 'test')[half]}-00000-of-00001.parquet"
        pq.write_table(table.replace_schema_metadata(metadata), root / "data" / name, row_group_size=2)
    return root


def tables(
    root: Path,
    split: Callable[[Path], Path],
    name: str,
    *,
    base: int = 0,
    structs: bool = True,
    own: bool = False,
) -> Path:
    """The images of a copy in folders as Parquet, with the class numbers of `name`'s lists. `own`: each split has
    numbers of its own."""
    from muster.workers.datasets import open_data_set

    data = open_data_set(name, str(split(root / "folders")), allow_counts=True)
    (root / "tables" / "data").mkdir(parents=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if structs else pa.binary()
    for half, found in data.splits().items():
        labels, images = [], []
        for item in found.items:
            content = (Path(str(data.image_root)) / item.image_id).read_bytes()
            images.append({"bytes": content, "path": item.image_id} if structs else content)
            number = int(item.class_name.partition(".")[0])
            labels.append(number - 1 + base - (11318 if own and half == "test" else 0))
        table = pa.table({"image": pa.array(images, kind), "label": pa.array(labels, pa.int64())})
        pq.write_table(table, root / "tables" / "data" / f"{half}-00000-of-00001.parquet", row_group_size=3)
    return root / "tables"


CAR_LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "joint": cars_joint,
    "devkit": cars_devkit,
    "devkit, labels beside it": lambda root: cars_devkit(root, beside=True),
    "nested": lambda root: cars_devkit(root, nested=True),
    "by class": cars_by_class,
    "parquet from 0": cars_parquet,
    "parquet from 1": lambda root: cars_parquet(root, base=1, class_label=False),
}
COPIES: dict[str, Callable[[Path], Path]] = {
    "cub200": cub200,
    "cars196": cars_joint,
    "sop": sop,
    "inshop": inshop,
    "vehicleid": vehicleid,
}
