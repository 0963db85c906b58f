"""`vehicleid`: PKU VehicleID, vehicles seen by surveillance cameras; three test lists, each a test split of its own.

The authors issued the lists anew after finding cloned number plates: what is distributed is not what the papers
counted. There is no query and no gallery file; DREML lets every image of a test list ask all the others.
"""

from __future__ import annotations

from collections.abc import Mapping

from muster.workers.datasets.base import Traits
from muster.workers.datasets.lists import Entry, Lists
from muster.workers.datasets.published import About, Count, Published
from muster.workers.errors import UsageError

#: The test lists: their names in the papers, and how many vehicles they have.
TEST_LISTS = {"small": 800, "medium": 1600, "large": 2400}
TEST_COUNTS = {"small": Count(6493, 800), "medium": Count(13377, 1600), "large": Count(19777, 2400)}
LISTS = "train_test_split"


class VehicleId(Published):
    """PKU VehicleID with one of its test lists."""

    name = "vehicleid"
    about = About(
        title="PKU VehicleID",
        what="vehicles by number plate, surveillance cameras",
        licence="registration by e-mail; research only",
        obtained="https://www.pkuml.org/resources/pku-vehicleid.html",
        folder="VehicleID_V1.0",
        trees={
            "": {
                f"{LISTS}/train_list.txt": "image vehicle_id, the image without .jpg",
                f"{LISTS}/test_list_800.txt": "the same: the small list",
                f"{LISTS}/test_list_1600.txt": "medium",
                f"{LISTS}/test_list_2400.txt": "large",
                "image/*.jpg": "221,567 images",
            }
        },
        # 221,567 images of 26,328 vehicles in all.
        counts={"train": Count(113346, 13164), **{f"test {name}": c for name, c in TEST_COUNTS.items()}},
        counts_source="VehicleID's README and the fast-reid code",
        note=(
            "The papers used older lists: train 110,178 images of 13,134 vehicles; "
            "small 7,332 of 800, medium 12,995 of 1,600, large 20,038 of 2,400."
        ),
    )

    def choose(self, test_list: str) -> None:
        if test_list not in TEST_LISTS:
            raise UsageError(f"test_list = {test_list!r}: there are {', '.join(TEST_LISTS)}.")
        super().choose(test_list)
        self.traits = Traits(
            title=f"PKU VehicleID ({test_list} test list)",
            flip=True,
            mean=(0.3912, 0.4110, 0.4118),
            std=(0.2357, 0.2332, 0.2338),
            recall_at=(1, 5),
            class_cap=500,
        )

    @property
    def counts(self) -> Mapping[str, Count]:
        return {"train": self.about.counts["train"], "test": TEST_COUNTS[self.test_list]}

    def entries(self, lists: Lists) -> dict[str, list[Entry]]:
        files = {
            "train": f"{LISTS}/train_list.txt",
            "test": f"{LISTS}/test_list_{TEST_LISTS[self.test_list]}.txt",
        }
        lists.require(*files.values())
        return {part: self._part(lists, file) for part, file in files.items()}

    def _part(self, lists: Lists, file: str) -> list[Entry]:
        found = []
        for row in lists.rows(file, ("image", "vehicle_id")):
            image, vehicle = row.cells  # the image's name keeps its leading zeros
            label = lists.number(row.where, "vehicle_id", vehicle)
            if label is not None and lists.inside(row.where, image):
                found.append(Entry(f"image/{image}.jpg", label, row.where))
        return found
