"""What a data set is to the rest of muster: lists of images with class names, and a way to read one image.

A data set lists its splits without touching a pixel; `read` gives one image. Packing, resizing and
checking are the pixel store's work (`muster.workers.packs.pack`), the same for all data sets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from muster.workers.errors import UsageError
from muster.workers.spec import Triple


@dataclass(frozen=True)
class Item:
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
    traits: Traits
    differences: Sequence[str]
    "How these images differ from what was published, for the report; known after `splits`."

    def splits(self) -> Mapping[str, Split]:
        """The splits by name: "train" and "test". Raises UsageError if the data are not as they should be."""
        ...

    def read(self, item: Item) -> Image.Image:
        """The image as RGB. Raises OSError, SyntaxError or ValueError if it can't be decoded whole."""
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


def files_digest(root: Path, split: Split, extra: str = "") -> str:
    """A digest of names, classes, sizes and modification times of a split's files below `root`."""
    found = hashlib.sha256(extra.encode())
    for item in split.items:
        try:
            stat = (root / item.image_id).stat()
        except OSError as error:
            raise UsageError(f"Can't read {root / item.image_id}: {error.strerror}.") from error
        found.update(
            f"{item.image_id}\0{item.class_name}\0{item.role}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode()
        )
    return found.hexdigest()[:32]


#: What image files hold, whatever their names say. Pillow would hand others to programs (PostScript to Ghostscript).
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "GIF", "TIFF", "PPM", "JPEG2000")


def read_rgb(path: Path | IO[bytes]) -> Image.Image:
    """A whole image file as RGB; EXIF orientation is ignored, as in the papers' code.

    Of 16 bits the upper 8 are taken. Raises OSError, SyntaxError or ValueError if it can't be decoded whole.
    """
    if isinstance(path, Path) and path.exists() and not path.is_file():
        raise ValueError("it is no file")  # a pipe would never end
    with Image.open(path, formats=FORMATS) as image:
        image.load()
        if image.mode.startswith("I;16"):  # Pillow would clip it to white
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
        if image.mode in {"I", "F"}:
            raise ValueError(
                f"pixels of mode {image.mode} have no agreed range: convert it to 8 bits a channel"
            )
        return image.convert("RGB")
