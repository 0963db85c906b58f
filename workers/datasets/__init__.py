"""The data sets by name. This is the one place where a published layout's reader is entered."""

from __future__ import annotations

from muster.workers.datasets.base import DataSet, Item, Reading, Split, Traits
from muster.workers.datasets.cars196 import Cars196
from muster.workers.datasets.cub200 import Cub200
from muster.workers.datasets.glyphs import Glyphs
from muster.workers.datasets.inshop import InShop
from muster.workers.datasets.own.folder import ImageFolder
from muster.workers.datasets.own.pictures import OwnPictures
from muster.workers.datasets.own.table import ImageTable
from muster.workers.datasets.published import Published
from muster.workers.datasets.sop import StanfordProducts
from muster.workers.datasets.vehicleid import VehicleId
from muster.workers.errors import UsageError
from muster.workers.store.remote import RemotePath, place

__all__ = [
    "ALIASES", "NAMES", "OWN", "PUBLISHED", "DataSet", "Glyphs", "ImageFolder", "ImageTable", "Item", "OwnPictures",
    "Published", "Reading", "Split", "Traits", "canonical", "open_data_set",
]  # fmt: skip

#: The papers' data sets.
PUBLISHED: dict[str, type[Published]] = {
    reader.name: reader for reader in (Cub200, Cars196, StanfordProducts, InShop, VehicleId)
}
#: One's own pictures.
OWN = ("folder", "table")
NAMES = ("glyphs", *OWN, *PUBLISHED)
#: DREML's code calls In-Shop by both.
ALIASES = {"icr": "inshop", "isc": "inshop"}


def canonical(name: str) -> str:
    """The name of a data set that was called by an alias, or in capitals."""
    return ALIASES.get(name.lower(), name.lower())


def open_data_set(
    name: str,
    root: str | None,
    *,
    allow_counts: bool = False,
    test_list: str = "small",
    reading: Reading = Reading(),
) -> DataSet:
    """The data set `name`, at `root` where it needs one; no file is read yet. Raises UsageError if there is none.

    `allow_counts` goes on where a copy differs from the published counts; `test_list`: of the several that
    VehicleID has; `reading`: how one's own folder is read.
    """
    name = canonical(name)
    if name == "glyphs":
        return Glyphs()
    if name not in NAMES:
        raise UsageError(f"There is no data set {name!r}. There are: {', '.join(NAMES)}.")
    path = None if root is None else place(root)
    if name == "table" and (path is not None or reading.table):
        return ImageTable(path, reading)
    if path is None:
        needs = {
            "folder": "a folder of class folders",
            "table": "a data set of Hugging Face, or --list, a table of pictures",
        }
        raise UsageError(
            f"The data set {name} needs --data-root, {needs.get(name, 'the folder of your copy')}."
        )
    if name == "folder":
        return ImageFolder(path, reading)
    if isinstance(path, RemotePath):
        raise UsageError(
            f"{name} is read from a folder, and {path} is in an object store. Copy it to a disk that every node sees."
        )
    return PUBLISHED[name](path, allow_counts, test_list, reading)
