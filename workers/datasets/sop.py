"""`sop`: Stanford Online Products, 22,634 products that were offered on eBay; the lists say which train."""

from __future__ import annotations

from muster.workers.datasets import image_tables
from muster.workers.datasets.base import Traits
from muster.workers.datasets.lists import Entry, Lists
from muster.workers.datasets.published import TABLES, About, Count, Published, by_class

COLUMNS = ("image_id", "class_id", "super_class_id", "path")
#: The lists give the first 11,318 classes to train.
LAST_TRAINED, CLASSES = 11318, 22634
FILES = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}


class StanfordProducts(Published):
    """Stanford Online Products: about 5 images of each product."""

    name = "sop"
    traits = Traits(
        title="Stanford Online Products",
        flip=True,
        mean=(0.5807, 0.5396, 0.5044),
        std=(0.2901, 0.2974, 0.3095),
        recall_at=(1, 10, 100, 1000),
        class_cap=500,
    )
    about = About(
        title="Stanford Online Products",
        what="products in 12 groups, photographs of online offers",
        licence="no registration; research",
        obtained="Stanford_Online_Products.zip, https://cvgl.stanford.edu/projects/lifted_struct/",
        folder="Stanford_Online_Products",
        trees={
            "": {
                "Ebay_train.txt": "image_id class_id super_class_id path, with this header",
                "Ebay_test.txt": "the same",
                "*_final/*.JPG": "120,053 images in 12 folders",
            },
            "parquet": TABLES,
        },
        # 120,053 images of 22,634 classes in all. Some papers print 60,499 test images, which is a typo.
        counts={"train": Count(59551, 11318), "test": Count(60502, 11316)},
        counts_source="the Divide-and-Conquer code and TensorFlow Datasets",
    )

    def entries(self, lists: Lists) -> dict[str, list[Entry]]:
        if self.in_tables:
            return by_class(image_tables.entries(lists, CLASSES, LAST_TRAINED), LAST_TRAINED)
        lists.require(*FILES.values())
        return {part: self._part(lists, file) for part, file in FILES.items()}

    def _part(self, lists: Lists, file: str) -> list[Entry]:
        lists.header(file, 1, " ".join(COLUMNS))
        found = []
        for row in lists.rows(file, COLUMNS, path="path", first=2):
            label = lists.number(row.where, "class_id", row.cells[1])
            if label is not None and lists.inside(row.where, row.cells[3]):
                found.append(Entry(row.cells[3], label, row.where))
        return found
