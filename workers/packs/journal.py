"""A pack while it is made: its pixels, and a journal with a line for each image that is done: good, bad, or a twin.

Opened again after its writer was killed, it keeps the images whose pixels are whole and match their digests, and
forgets the rest. It decodes nothing and knows no store.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from muster.workers.datasets.base import Item
from muster.workers.packs.pack import Uint8, digest_of_pixels
from muster.workers.store.documents import COUNT, SHA256, TEXT, check_form
from muster.workers.store.files import FileRecord
from muster.workers.store.records import parse_json

_GOOD = {
    "image_id": TEXT, "height": COUNT, "width": COUNT, "sha256": SHA256, "picture": SHA256, "remarks": [TEXT],
}  # fmt: skip
_BAD = {"image_id": TEXT, "cause": TEXT}
_TWIN = {"image_id": TEXT, "twin_of": TEXT}


@dataclass(frozen=True)
class BadImage:
    """An image that can't be read, and why."""

    image_id: str
    cause: str


@dataclass(frozen=True)
class Twin:
    """An image that is left out because another one has the same pixels."""

    image_id: str
    twin_of: str


@dataclass(frozen=True)
class GoodImage:
    """An image in the pack: its shape, and the digests in hex (`pack.image_digest`) of its pixels and of the picture
    that it was before it was resized; what must be said of that."""

    image_id: str
    height: int
    width: int
    sha256: str
    picture: str
    remarks: Sequence[str] = ()

    @property
    def bytes(self) -> int:
        return self.height * self.width * 3


Done = GoodImage | BadImage | Twin


_KINDS: tuple[tuple[Any, dict[str, Any]], ...] = ((BadImage, _BAD), (Twin, _TWIN))


class HalfPack:
    """Images are added in the data set's order; `done` are those that are there."""

    def __init__(self, pixels: BinaryIO, journal: TextIO, items: Sequence[Item]) -> None:
        """Keeps what is whole of the two files and cuts off the rest."""
        self._pixels, self._journal = pixels, journal
        self._size, self._digest = 0, hashlib.sha256()
        self.done: list[Done] = []
        for image, found in _whole(pixels, journal.read().split("\n")[:-1], items):
            self._took(image, found)
        pixels.seek(self._size)
        pixels.truncate()
        journal.seek(0)
        journal.truncate()
        journal.writelines(json.dumps(asdict(image)) + "\n" for image in self.done)

    @property
    def record(self) -> FileRecord:
        """Of the pixels there are. They are hashed as they come, while other threads decode: a second reading of
        the whole file, by one thread at the end, would keep the other cores waiting."""
        return FileRecord(self._size, self._digest.hexdigest())

    def add(self, image: Done, pixels: Uint8 | None = None) -> None:
        """Adds the next image: its pixels first, so that the journal never promises what is not there."""
        if pixels is not None:
            self._pixels.write(pixels.data)
            self._pixels.flush()
        self._journal.write(json.dumps(asdict(image)) + "\n")
        self._journal.flush()
        self._took(image, memoryview(b"") if pixels is None else pixels.data)

    def _took(self, image: Done, pixels: memoryview) -> None:
        self._digest.update(pixels)
        self._size += pixels.nbytes
        self.done.append(image)


@contextmanager
def half_pack(folder: Path, items: Sequence[Item]) -> Iterator[HalfPack]:
    """The pack of `items` that is made in `folder`, in pixels.bin and journal.jsonl, as far as it has come."""
    paths = folder / "pixels.bin", folder / "journal.jsonl"
    for path in paths:
        path.touch()
    with (
        paths[0].open("r+b") as pixels,
        # A power cut may leave bytes in the journal that are no text.
        paths[1].open("r+", encoding="utf-8", errors="replace", newline="\n") as journal,
    ):
        yield HalfPack(pixels, journal, items)


def _whole(
    pixels: BinaryIO, lines: Sequence[str], items: Sequence[Item]
) -> Iterator[tuple[Done, memoryview]]:
    """The images of the journal and their pixels, up to the first that is not of these items or whose pixels are
    not whole."""
    left = os.fstat(pixels.fileno()).st_size
    for line, item in zip(lines, items, strict=False):
        try:
            found = parse_json(line, {"image_id": TEXT})
            kind, form = next(((k, f) for k, f in _KINDS if set(f) <= set(found)), (GoodImage, _GOOD))
            check_form(found, form)
            image: Done = kind(**{name: found[name] for name in form})
        except ValueError:
            return
        if image.image_id != item.image_id:
            return
        content = b""
        if isinstance(image, GoodImage):
            if image.bytes > left:
                return
            left -= image.bytes
            content = pixels.read(image.bytes)
            if digest_of_pixels(image.height, image.width, content).hex() != image.sha256:
                return
        yield image, memoryview(content)
