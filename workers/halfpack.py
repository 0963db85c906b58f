"""A pack while it is made: its pixels, and a journal with a line for each image that is done, good or bad.

Opened again after its writer was killed, it keeps the images whose pixels are whole and match their digests, and
forgets the rest. It decodes nothing and knows no store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

from workers.datasets.base import Item
from workers.pixels import Uint8


@dataclass(frozen=True)
class BadImage:
    """An image that can't be read, and why."""

    image_id: str
    cause: str


@dataclass(frozen=True)
class GoodImage:
    """An image in the pack: its shape, and the digest of its pixels in hex (`pixels.image_digest`)."""

    image_id: str
    height: int
    width: int
    sha256: str

    @property
    def bytes(self) -> int:
        return self.height * self.width * 3


Done = GoodImage | BadImage


class HalfPack:
    """Images are added in the data set's order; `done` are those that are there."""

    def __init__(self, pixels: BinaryIO, journal: TextIO, done: list[Done]) -> None:
        self._pixels, self._journal, self.done = pixels, journal, done

    def add(self, image: Done, pixels: Uint8 | None = None) -> None:
        """Adds the next image: its pixels first, so that the journal never promises what is not there."""
        if pixels is not None:
            self._pixels.write(pixels.data)
            self._pixels.flush()
        self._journal.write(json.dumps(asdict(image)) + "\n")
        self._journal.flush()
        self.done.append(image)


@contextmanager
def half_pack(folder: Path, items: Sequence[Item]) -> Iterator[HalfPack]:
    """The pack of `items` that is made in `folder`, in pixels.bin and journal.jsonl, as far as it has come."""
    paths = folder / "pixels.bin", folder / "journal.jsonl"
    for path in paths:
        path.touch()
    with paths[0].open("r+b") as pixels, paths[1].open("r+", encoding="utf-8", newline="\n") as journal:
        done = list(_whole(pixels, journal.read().split("\n")[:-1], items))
        pixels.seek(sum(image.bytes for image in done if isinstance(image, GoodImage)))
        pixels.truncate()
        journal.seek(0)
        journal.truncate()
        journal.writelines(json.dumps(asdict(image)) + "\n" for image in done)
        yield HalfPack(pixels, journal, done)


def _whole(pixels: BinaryIO, lines: Sequence[str], items: Sequence[Item]) -> Iterator[Done]:
    """The images of the journal, up to the first that is not of these items or whose pixels are not whole."""
    for line, item in zip(lines, items, strict=False):
        try:
            found = json.loads(line)
            image: Done = BadImage(**found) if "cause" in found else GoodImage(**found)
        except (ValueError, TypeError):
            return
        if image.image_id != item.image_id:
            return
        if isinstance(image, GoodImage):
            digest = hashlib.sha256(f"{image.height}x{image.width}:".encode())
            digest.update(pixels.read(image.bytes))
            if digest.hexdigest() != image.sha256:
                return
        yield image
