"""What a data set is to the rest of muster: lists of images with class names, and a way to read one image.

A data set lists its splits without touching a pixel; `read` gives one image. Packing, resizing and
checking are the pixel store's work (`muster.workers.packs.pack`), the same for all data sets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from muster.workers.datasets.own.account import Account
from muster.workers.datasets.pictures import MOST_PIXELS, Picture
from muster.workers.errors import UsageError
from muster.workers.spec import Triple
from muster.workers.store.remote import AnyPath, RemotePath

#: The rule that one's own folder is read by where nobody says otherwise. Raised by hand when it takes other files or
#: other pixels; the ones before stay.
NEWEST = 2


@dataclass(frozen=True)
class Reading:
    """How one's own pictures are read. Of the other data sets, whose layout is known, the version is 1, and
    `most_pixels` alone counts."""

    version: int = NEWEST
    layout: str = "auto"
    "What the folders at the top are: classes, splits, or auto, what they look like."
    shared: bool = False
    "May splits share classes?"
    skip_bad: bool = False
    "Go on without links that lead nowhere and pictures that can't be read here?"
    background: str = "white"
    "What transparent pixels stand on."
    transpose: bool = False
    "Turn pictures as their EXIF says?"
    most_pixels: int = MOST_PIXELS
    table: str = ""
    "The list of a table's pictures; empty: the root is a data set of Hugging Face."
    columns: tuple[str, ...] = ()
    "What a table's columns are called: label=item_id."
    split_by: str = "half"
    "Which classes train where no splits are given: half, the first by name; random, a random half; file, a list's."
    split_seed: int = 0
    split_file: str = ""
    "A table of the columns label and split."


class Item(NamedTuple):  # there may be a million of them
    """One image: its stable name in the data set, and its class."""

    image_id: str
    class_name: str
    role: str = ""
    'Which side of a search it is on: "" (both), "query" or "gallery".'


@dataclass(frozen=True)
class Split:
    """The images of one split in the data set's order, and its classes in theirs."""

    name: str
    items: Sequence[Item]
    class_names: Sequence[str]
    labels: dict[str, int] = field(init=False, compare=False, repr=False)

    @classmethod
    def of(cls, name: str, items: Sequence[Item]) -> Split:
        """With the classes that its images have, sorted."""
        return cls(name, items, sorted({item.class_name for item in items}))

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", {name: i for i, name in enumerate(self.class_names)})


@dataclass(frozen=True)
class Traits:
    """What a recipe must know of a data set."""

    title: str
    flip: bool
    "May an image be mirrored and stay in its class?"
    mean: Triple
    std: Triple
    "Channel statistics of the training images, RGB, in 0..1."
    recall_at: tuple[int, ...] = (1, 2, 4, 8)
    class_cap: int = 0
    "Images of a class that a member trains on, at most; 0: all. 500 in the authors' code, for the papers' data sets."
    picture_side: int = 256
    "Pixels of a picture's side, where none is given."
    published: bool = True
    "Is there a published recipe for it?"
    preset: str = ""
    "The preset that is made for it;  where a method's usual one is taken."
    backbone: str = ""
    "The network that suits it;  where a method's usual one is taken."
    meta_classes: int | None = None
    "Meta-classes that suit its number of classes; None: the usual ones."
    protocol: str = "test images ask all the others (leave-one-out)"
    "Who asks whom in the test split."


@runtime_checkable
class DataSet(Protocol):
    """A data set: `splits` lists, `read` decodes, `source_digest` tells cheaply whether it changed."""

    name: str
    reading: Reading
    differences: Sequence[str]
    "How these images differ from what was published, for the report; known after `splits`."
    warnings: Sequence[str]
    "What else must be said of them: what was left out, names that look the same; known after `splits`."
    account: Account | None
    "What became of every file below the root; None of data without one, and of lists, which name their files."

    @property
    def traits(self) -> Traits:
        """What a recipe must know; no image is listed for it."""
        ...

    def splits(self) -> Mapping[str, Split]:
        """The splits by name: "train" and "test", and "val" where it is given. Raises UsageError if the data are not as
        they should be."""
        ...

    def read(self, item: Item) -> Picture:
        """The image as RGB. Raises BadPictureError if it can't be decoded whole."""
        ...

    @property
    def image_root(self) -> str | None:
        """The folder in which an image's id is its file's path; None if images have no files of their own.

        Raises UsageError if it is not there.
        """
        ...

    def source_digest(self, split: Split) -> str:
        """Changes whenever the split's files, labels or order may have changed; no image is decoded."""
        ...


def files_digest(root: AnyPath, split: Split, extra: str) -> str:
    """A digest of names, classes, sizes and modification times of a split's files below `root`."""
    found = hashlib.sha256(extra.encode())
    if isinstance(root, RemotePath):
        root.look({item.image_id.rpartition("/")[0] for item in split.items})
    for item in split.items:
        try:
            stat = (root / item.image_id).stat()
        except OSError as error:
            raise UsageError(f"Can't read {root / item.image_id}: {error.strerror}.") from error
        found.update(
            f"{item.image_id}\0{item.class_name}\0{item.role}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode()
        )
    return found.hexdigest()[:32]
