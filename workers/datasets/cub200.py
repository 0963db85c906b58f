"""`cub200`: Caltech-UCSD Birds-200-2011, 200 kinds of birds; the first 100 train, the others test.

Not Caltech-UCSD Birds 200 of 2010. `train_test_split.txt` divides the images of every class and is not used.
"""

from __future__ import annotations

from muster.workers.datasets import image_tables
from muster.workers.datasets.base import Traits
from muster.workers.datasets.lists import Entry, Lists
from muster.workers.datasets.published import TABLES, About, Count, Published, by_class

#: Classes 1 to 100 train: DREML section 4, as in Song et al., CVPR 2016.
LAST_TRAINED, CLASSES = 100, 200


class Cub200(Published):
    """CUB-200-2011. 8 of its images are greyscale; no bounding box is used."""

    name = "cub200"
    traits = Traits(
        title="CUB-200-2011",
        flip=True,
        # DREML's code (color_lib), like all the papers' statistics.
        mean=(0.4707, 0.4601, 0.4549),
        std=(0.2767, 0.2760, 0.2850),
        class_cap=500,
    )
    about = About(
        title="CUB-200-2011",
        what="birds of 200 kinds, photographs",
        licence="no registration; non-commercial research",
        obtained="CUB_200_2011.tgz, https://data.caltech.edu/records/65de6-vp158",
        folder="CUB_200_2011",
        trees={
            "": {
                "images.txt": "image_id path",
                "image_class_labels.txt": "image_id class_id",
                "classes.txt": "class_id name",
                "images/*/*.jpg": "11,788 images in 200 folders",
            },
            "parquet": TABLES,
        },
        # 11,788 images of 200 classes in all.
        counts={"train": Count(5864, 100), "test": Count(5924, 100)},
        counts_source="DREML section 4 and the Proxy-Anchor code",
    )

    def entries(self, lists: Lists) -> dict[str, list[Entry]]:
        if self.in_tables:
            self._names = {}
            return by_class(image_tables.entries(lists, CLASSES), LAST_TRAINED)
        lists.require("images.txt", "image_class_labels.txt", "classes.txt")
        self._names = {
            number: row.cells[1]
            for row in lists.rows("classes.txt", ("class_id", "name"))
            if (number := lists.number(row.where, "class_id", row.cells[0]))
        }
        classes = self._classes(lists)
        parts: dict[str, list[Entry]] = {"train": [], "test": []}
        seen: dict[str, str] = {}
        for row in lists.rows("images.txt", ("image_id", "path"), path="path"):
            image_id, path = row.cells
            if image_id in seen:
                lists.wrong(
                    "image id(s) given twice", f"{row.where}: image_id {image_id}, as in {seen[image_id]}"
                )
            seen.setdefault(image_id, row.where)
            if not lists.inside(row.where, path) or path.rpartition("/")[2].startswith("._"):
                continue  # "._" files are left by archives made on a Mac
            if image_id not in classes:
                lists.wrong("image(s) without a label", f"{row.where}: image_id {image_id}")
            elif (label := classes[image_id]) is not None:
                part = "train" if label <= LAST_TRAINED else "test"
                parts[part].append(Entry(f"images/{path}", label, row.where))
        return parts

    def _classes(self, lists: Lists) -> dict[str, int | None]:
        """The class of each image id; None where the label is wrong, which is noted."""
        classes: dict[str, int | None] = {}
        for row in lists.rows("image_class_labels.txt", ("image_id", "class_id")):
            image_id, text = row.cells
            if image_id in classes:
                lists.wrong("image id(s) labelled twice", f"{row.where}: image_id {image_id}")
            label = lists.number(row.where, "class_id", text)
            if label is not None and label not in self._names:
                lists.wrong(
                    "label(s) without a class", f"{row.where}: class_id {label} is not in classes.txt"
                )
            classes[image_id] = label
        return classes

    def class_name(self, class_id: int) -> str:
        return self._names.get(class_id, f"{class_id:03d}")
