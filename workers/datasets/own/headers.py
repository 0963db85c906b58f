"""The headers of pictures, read without decoding: what will have to be said of them, and which can't be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from muster.workers.datasets.base import Item, Split
from muster.workers.datasets.own.account import remark_text
from muster.workers.datasets.own.pictures import OwnPictures, bad_images_error
from muster.workers.datasets.pictures import ALPHA, BadPictureError
from muster.workers.parallel import in_order
from muster.workers.watch import watched

#: Opened at once: most of the time is spent waiting for disks, often for those of others.
AT_ONCE = 16


@dataclass
class Headers:
    """What the headers of pictures say."""

    remarks: dict[str, list[str]] = field(default_factory=dict)
    "The names of the pictures of which each must be said."
    bad: list[tuple[str, str]] = field(default_factory=list)
    "Those that can't be read, with the cause."

    def texts(self) -> list[str]:
        """A sentence for each remark."""
        alpha = "an alpha channel, which may make pixels transparent"
        return [
            remark_text(alpha if remark == ALPHA else remark, names, len(names))
            for remark, names in self.remarks.items()
        ]

    def problems(self, data: OwnPictures) -> list[str]:
        """One message for all that can't be read."""
        which = f"{len(self.bad):,} picture(s) of {data.traits.title}"
        return bad_images_error(which, self.bad, data).problems if self.bad else []


def read_headers(data: OwnPictures, splits: Mapping[str, Split]) -> Headers:
    """Opens every picture."""

    def one(item: Item) -> set[str] | str:
        try:
            return data.header(item)
        except BadPictureError as error:
            return str(error)

    found = Headers()
    items = (item for split in splits.values() for item in split.items)
    with watched("pictures opened") as tell:
        for number, (item, said) in enumerate(in_order(one, items, AT_ONCE), 1):
            tell(number)
            if isinstance(said, str):
                found.bad.append((item.image_id, said))
            else:
                for remark in sorted(said):
                    found.remarks.setdefault(remark, []).append(item.image_id)
    return found
