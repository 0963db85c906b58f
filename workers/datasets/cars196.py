"""`cars196`: Stanford Cars, 196 models; the first 98 train, the others test. It circulates in five layouts.

In each, both halves of the official split, which divides the images of every class, are joined and then split by
class. Classes come from the annotations, never from the order of folder names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

from muster.workers.datasets import image_tables
from muster.workers.datasets.base import Traits
from muster.workers.datasets.lists import Entry, Lists
from muster.workers.datasets.matlab import struct_rows
from muster.workers.datasets.published import TABLE_MARKS, TABLES, About, Count, Published, by_class
from muster.workers.errors import UsageError

#: Classes 1 to 98 train: DREML section 4, as in Song et al., CVPR 2016.
LAST_TRAINED, CLASSES = 98, 196
JOINT, TRAIN, TEST = "cars_annos.mat", "cars_train_annos.mat", "cars_test_annos_withlabels.mat"
CSV_COLUMNS = ("file", "x1", "y1", "x2", "y2", "class")

TREES = {
    "joint": {
        JOINT: "annotations: relative_im_path, class, ...",
        "car_ims/*.jpg": "16,185 images",
    },
    "devkit": {
        f"devkit/{TRAIN}": "annotations: fname, class, ... (or beside devkit/)",
        f"devkit/{TEST}": "the same with the test labels (or beside devkit/)",
        "cars_train/*.jpg": "8,144 images",
        "cars_test/*.jpg": "8,041 images",
    },
    "nested": {
        f"devkit/{TRAIN}": "as in devkit; the cars_annos.mat of this copy belongs to another one",
        f"devkit/{TEST}": "the same with the test labels",
        "cars_train/cars_train/*.jpg": "8,144 images",
        "cars_test/cars_test/*.jpg": "8,041 images",
    },
    "by class": {
        "names.csv": "a class name a line",
        "anno_train.csv": "file, box, class",
        "anno_test.csv": "the same",
        "car_data/car_data/train/*/*.jpg": "8,144 images in folders of class names",
        "car_data/car_data/test/*/*.jpg": "8,041 images",
    },
    "parquet": TABLES,
}


class Cars196(Published):
    """Cars-196, from whichever of its five layouts is there."""

    name = "cars196"
    traits = Traits(
        title="Cars-196",
        flip=True,
        mean=(0.4853, 0.4965, 0.4295),
        std=(0.2237, 0.2193, 0.2568),
        class_cap=500,
    )
    about = About(
        title="Cars-196",
        what="cars of 196 models, photographs",
        licence="no registration; non-commercial research",
        obtained="the original host is gone; copies on Kaggle (jessicali9530, jutrera) and Hugging Face (tanganke)",
        folder="stanford_cars",
        trees=TREES,
        # 16,185 images of 196 classes in all.
        counts={"train": Count(8054, 98), "test": Count(8131, 98)},
        counts_source="DREML section 4 and the Proxy-Anchor code",
    )

    def marks(self) -> list[str]:
        return ["car_ims", "cars_train", "anno_train.csv", JOINT, *TABLE_MARKS]

    @cached_property
    def variant(self) -> str:
        """Which layout this copy has."""
        if (self.home / "car_ims").is_dir():
            return "joint"
        if (self.home / "cars_train").is_dir():
            return "nested" if (self.home / "cars_train" / "cars_train").is_dir() else "devkit"
        if (self.home / "anno_train.csv").is_file():
            return "by class"
        return "parquet" if image_tables.files(self.home) else "joint"

    @cached_property
    def in_tables(self) -> bool:
        return self.variant == "parquet"

    def entries(self, lists: Lists) -> dict[str, list[Entry]]:
        readers: dict[str, Callable[[Lists], Iterator[Entry]]] = {
            "joint": _joint,
            "devkit": lambda lists: _devkit(lists, ""),
            "nested": lambda lists: _devkit(lists, "nested"),
            "by class": _by_class,
            "parquet": lambda lists: image_tables.entries(lists, CLASSES),
        }
        return by_class(readers[self.variant](lists), LAST_TRAINED)

    def class_name(self, class_id: int) -> str:
        return f"{class_id:03d}"


def _joint(lists: Lists) -> Iterator[Entry]:
    """car_ims/ and cars_annos.mat: fields relative_im_path, class."""
    lists.require(JOINT)
    for where, (path, label) in struct_rows(lists, JOINT, ("relative_im_path", "class")):
        number = lists.number(where, "class", label)
        if number is not None and lists.inside(where, path):
            yield Entry(path, number, where)


def _devkit(lists: Lists, nested: str) -> Iterator[Entry]:
    """cars_train/ and cars_test/, whose numbering both begin at 00001, with an annotation file each."""
    files = {}
    for half, name in (("cars_train", TRAIN), ("cars_test", TEST)):
        files[half] = _annotations(lists, name)
    absent = [str(lists.home / file) for file in files.values() if not (lists.home / file).is_file()]
    if absent:
        hint = ""
        if (lists.home / JOINT).is_file():
            hint = f" {JOINT} names the images of another copy (car_ims/) and can't label these."
        raise UsageError(
            f"{' and '.join(absent)}: missing.{hint} Both are needed: the devkit's {TRAIN}, and {TEST}, "
            "which was distributed by itself."
        )
    for half, file in files.items():
        folder = f"{half}/{half}" if nested else half
        for where, (name, label) in struct_rows(lists, file, ("fname", "class")):
            number = lists.number(where, "class", label)
            if number is not None and lists.inside(where, name):
                yield Entry(f"{folder}/{name}", number, where)


def _annotations(lists: Lists, name: str) -> str:
    """Where an annotation file of the devkit is: beside it, in it, or a folder deeper; browsers add a number to a name
    that is there. Raises UsageError if there are several."""
    stem = name.removesuffix(".mat")
    for place in ("devkit/", "", "*/", "*/*/"):
        for spelled in (name, f"{stem} (?).mat"):
            found = sorted(
                path.relative_to(lists.home).as_posix() for path in lists.home.glob(place + spelled)
            )
            if len(found) > 1:
                raise UsageError(
                    f"{lists.home} has {name} at {' and '.join(found)}: keep the one that belongs to it."
                )
            if found:
                return found[0]
    return f"devkit/{name}"


def _by_class(lists: Lists) -> Iterator[Entry]:
    """Folders of class names, in which '/' became '-'; the CSV files say which class a file has."""
    lists.require("names.csv", "anno_train.csv", "anno_test.csv")
    names = [row.cells[0] for row in lists.table("names.csv", ("name",))]
    for half in ("train", "test"):
        for row in lists.table(f"anno_{half}.csv", CSV_COLUMNS):
            number = lists.number(row.where, "class", row.cells[-1])
            if number is None:
                continue
            if number > len(names):
                lists.wrong(
                    "label(s) without a class",
                    f"{row.where}: class {number} and names.csv has {len(names)} lines",
                )
                continue
            path = f"{names[number - 1].replace('/', '-')}/{row.cells[0]}"
            if lists.inside(row.where, row.cells[0]) and lists.inside(row.where, path):
                yield Entry(f"car_data/car_data/{half}/{path}", number, row.where)
