"""`inshop`: In-Shop Clothes Retrieval of DeepFashion; queries are looked for in a gallery.

The tree is read as it is distributed (`Eval/`, `Img/img/`) and flattened (the list and `img/` at the top). The
benchmark uses the images of `img.zip`, 256 px, and not those in high resolution.
"""

from __future__ import annotations

from muster.workers.datasets.base import Traits
from muster.workers.datasets.lists import Entry, Lists
from muster.workers.datasets.published import About, Count, Published
from muster.workers.errors import UsageError

LIST = "list_eval_partition.txt"
COLUMNS = ("image_name", "item_id", "evaluation_status")
ROLES = {"train": "", "query": "query", "gallery": "gallery"}


class InShop(Published):
    """In-Shop: 7,982 items; those of query and gallery are the same, and none of them trains."""

    name = "inshop"
    traits = Traits(
        title="In-Shop Clothes Retrieval",
        flip=True,
        mean=(0.8324, 0.8109, 0.8041),
        std=(0.2206, 0.2378, 0.2444),
        recall_at=(1, 10, 20, 30, 40, 50),
        class_cap=500,
        protocol="query images are looked for in the gallery",
    )
    about = About(
        title="In-Shop Clothes Retrieval",
        what="clothes in a shop, several views of each item",
        licence="agreement asked for on the CUHK MMLab page; non-commercial research",
        obtained="https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html (Img/img.zip)",
        folder="In-shop Clothes Retrieval Benchmark",
        trees={
            "official": {
                f"Eval/{LIST}": "a count, a header, then image_name item_id evaluation_status",
                "Img/img/*/*/*/*.jpg": "52,712 images: img.zip, unpacked",
            },
            "flattened": {
                LIST: "the same file, here or in Eval/ or Anno/",
                "img/*/*/*/*.jpg": "52,712 images",
            },
        },
        # 52,712 images of 7,982 items in all. DREML prints 28,760 test images: 14,218 + 12,612 are 26,830.
        counts={"train": Count(25882, 3997), "query": Count(14218, 3985), "gallery": Count(12612, 3985)},
        counts_source="the Divide-and-Conquer and OML code",
    )

    def marks(self) -> list[str]:
        return [f"Eval/{LIST}", f"Anno/{LIST}", LIST]

    def class_name(self, class_id: int) -> str:
        return f"id_{class_id:08d}"

    def entries(self, lists: Lists) -> dict[str, list[Entry]]:
        file = next((f for f in (f"Eval/{LIST}", f"Anno/{LIST}", LIST) if (lists.home / f).is_file()), LIST)
        prefix = self._images(lists)
        lists.header(file, 2, " ".join(COLUMNS))
        parts: dict[str, list[Entry]] = {"train": [], "test": []}
        listed = 0
        for row in lists.rows(file, COLUMNS, path="image_name", first=3):
            listed += 1
            image, item, status = row.cells
            label = lists.number(row.where, "item_id", item.removeprefix("id_"))
            if status not in ROLES:
                lists.wrong("row(s) that are neither train, query nor gallery", f"{row.where}: {status!r}")
            elif label is not None and lists.inside(row.where, image):
                part = "train" if status == "train" else "test"
                parts[part].append(Entry(prefix + image, label, row.where, ROLES[status]))
        promised = lists.lines(file)[0].strip()
        if lists.number(f"{file}:1", "the number of rows", promised) not in {None, listed}:
            lists.differences.append(
                f"{lists.home / file}:1 promises {promised} rows, and there are {listed}."
            )
        return parts

    def _images(self, lists: Lists) -> str:
        """What comes before the "img/..." of the list. Raises UsageError if the images are not unpacked."""
        for prefix in ("Img/", ""):
            if (lists.home / prefix / "img").is_dir():
                return prefix
        packed = next((zip_ for zip_ in ("Img/img.zip", "img.zip") if (lists.home / zip_).is_file()), None)
        cure = f"Unpack {lists.home / packed} where it lies." if packed else "Unpack Img/img.zip there."
        raise UsageError(f"{lists.home} has no folder Img/img or img with the images. {cure}")
