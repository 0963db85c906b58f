"""The packed pixel store: each image is decoded once, and every epoch of every member reads it from there.

A pack is one split's images under one resize rule: raw RGB bytes behind one another in `pixels.bin`, mapped
into memory and so shared by all processes of a node, and `index.parquet` with an image a row. Building a
pack checks every image. This module never augments; it hands out uint8 crops; `augment` does the rest.
"""

from __future__ import annotations

import fcntl
import hashlib
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from muster.workers.errors import CorruptFileError, StoreError, UsageError
from muster.workers.packs.cache import network_disk
from muster.workers.spec import MOST_SIDE
from muster.workers.store.files import FileRecord
from muster.workers.store.layout import Folder
from muster.workers.store.parquet import read_table

Uint8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]
#: No resized image may have more pixels: where Pillow, too, stops believing that an image is meant.
LARGEST = 89_478_485
#: Called with (images done, images in all).
Progress = Callable[[int, int], None]

INDEX_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("class_name", pa.string()),
        ("role", pa.string()),
        ("label", pa.int32()),
        ("offset", pa.int64()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("sha256", pa.binary(32)),
    ]
)


PICTURES_SCHEMA = pa.schema([("picture", pa.binary(32))])


@dataclass(frozen=True)
class ResizeRule:
    """squash:N makes an image N x N; short:N brings its short side to N and keeps its shape; white:N brings its
    long side to N and makes it square with white bars (the input of BIER's code)."""

    mode: str
    side: int

    @classmethod
    def parse(cls, text: str) -> ResizeRule:
        """Reads "squash:256" or "short:281". Raises ValueError with the forms that there are."""
        mode, _, side = text.partition(":")
        digits = side.isdecimal() and len(side) <= len(str(MOST_SIDE))
        if mode not in {"squash", "short", "white"} or not digits or not 1 <= int(side) <= MOST_SIDE:
            raise ValueError(
                f"resize = {text!r}: must be squash:N, short:N or white:N, N in pixels from 1 to {MOST_SIDE}"
            )
        return cls(mode, int(side))

    def apply(self, image: Image.Image) -> Image.Image:
        """The image, resized (bilinear, antialiased, as in the papers' code).

        Raises ValueError for a strip so narrow that its short side, brought to N, makes it gigantic.
        """
        if self.mode == "white":
            return self._on_white(image)
        width, height = image.size
        if self.mode == "squash":
            size = (self.side, self.side)
        elif width <= height:
            size = (self.side, max(self.side, int(self.side * height / width)))
        else:
            size = (max(self.side, int(self.side * width / height)), self.side)
        if size[0] * size[1] > LARGEST:
            raise ValueError(
                f"its {width} x {height} pixels become {size[0]} x {size[1]} with {self.mode}:{self.side}"
            )
        return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)

    def _on_white(self, image: Image.Image) -> Image.Image:
        scale = self.side / max(image.size)
        width, height = (max(1, round(length * scale)) for length in image.size)
        if (width, height) != image.size:
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        square = Image.new("RGB", (self.side, self.side), "white")
        square.paste(image, ((self.side - width) // 2, (self.side - height) // 2))
        return square


def image_digest(pixels: Uint8) -> bytes:
    """The digest of an image's decoded pixels [height, width, 3] and shape: 32 bytes."""
    height, width, _ = pixels.shape
    return digest_of_pixels(height, width, np.ascontiguousarray(pixels).data)


def digest_of_pixels(height: int, width: int, pixels: bytes | memoryview) -> bytes:
    """The same of an image's bytes."""
    found = hashlib.sha256(f"{height}x{width}:".encode())
    found.update(pixels)
    return found.digest()


def part_digest(digests: Iterable[bytes], labels: Iterable[int]) -> str:
    """The identity of labelled images in their order: 64 hex digits. Names and places don't count."""
    found = hashlib.sha256()
    for digest, label in zip(digests, labels, strict=True):
        found.update(digest + int(label).to_bytes(4, "little"))
    return found.hexdigest()


class Named(NamedTuple):
    """A number of images, and the names of the first."""

    number: int
    first: tuple[str, ...]


@dataclass(frozen=True)
class PackIndex:
    """What a pack holds, without its pixels."""

    digest: str
    split: str
    resize: str
    class_names: list[str]
    table: pa.Table
    pictures: tuple[bytes, ...] | None = None
    "32 bytes for each image: the digest of its picture before it was resized. None where nobody asked, and of packs \
that are older than these."
    remarks: Mapping[str, Named] = field(default_factory=dict)
    "What must be said of the pictures, and of which; of a pack that was found by what it was made from."
    twins: Sequence[tuple[str, str]] = ()
    "Images that were left out, each with the one that has the same pixels."

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def labels(self) -> Int64:
        """int64 [images]: the class of each, 0 .. classes-1 in the data set's order."""
        found: Int64 = self.table["label"].to_numpy().astype(np.int64)
        return found

    @cached_property
    def image_digests(self) -> list[bytes]:
        return list(self.table["sha256"].to_pylist())

    @cached_property
    def places(self) -> tuple[Int64, Int64, Int64]:
        """int64 [images] each: where an image's pixels begin, its height and its width."""
        columns = (self.table[name].to_numpy().astype(np.int64) for name in ("offset", "height", "width"))
        offsets, heights, widths = columns
        return offsets, heights, widths

    def fits(self, pixels: FileRecord | None) -> bool:
        """Whether every label has a class and every image lies in these pixels, one behind the other."""
        offsets, heights, widths = self.places
        if pixels is None or (
            len(self) and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names)
        ):
            return False
        whole = ((heights > 0) & (widths > 0) & (heights <= LARGEST) & (widths <= LARGEST)).all()
        ends = np.cumsum(heights * widths * 3) if whole else offsets - 1
        return bool((offsets == np.concatenate([[0], ends[:-1]])).all()) and (
            (int(ends[-1]) if len(ends) else 0) == pixels.size
        )

    @property
    def bytes(self) -> int:
        return self.bytes_of(slice(None))

    def bytes_of(self, rows: Int64 | slice) -> int:
        """Of the pixels of some images."""
        _, heights, widths = self.places
        return int((heights[rows] * widths[rows] * 3).sum())

    def part(self, class_ids: Sequence[int] | None = None) -> Part:
        """The images of some classes (all of them without an argument), in the pack's order, labelled
        0 .. n-1 in the order of `class_ids`."""
        chosen = (
            np.arange(len(self.class_names)) if class_ids is None else np.asarray(class_ids, dtype=np.int64)
        )
        relabel = np.full(len(self.class_names), -1, dtype=np.int64)
        relabel[chosen] = np.arange(len(chosen))
        rows = np.flatnonzero(relabel[self.labels] >= 0)
        labels = relabel[self.labels[rows]]
        digest = part_digest((self.image_digests[row] for row in rows), labels)
        return Part(rows=rows, labels=labels, classes=len(chosen), digest=digest)


@dataclass(frozen=True, eq=False)
class Part:
    """Some images of a pack: those of the classes trained on, or embedded."""

    rows: Int64
    "int64 [n]: rows of the pack."
    labels: Int64
    "int64 [n]: 0 .. classes-1."
    classes: int
    digest: str


class Windows(NamedTuple):
    """Where squares are cut from images; (top, left) may lie outside."""

    rows: Int64
    "Rows of the pack, int64 [n]."
    tops: Int64
    lefts: Int64


@dataclass(frozen=True, eq=False)
class Pack:
    """A pack with its pixels mapped into memory."""

    index: PackIndex
    pixels: Uint8
    "uint8 [bytes], read-only."

    def sizes(self, rows: Int64) -> Int64:
        """int64 [n, 2]: height and width of each image, in pixels."""
        _, heights, widths = self.index.places
        return np.stack([heights[rows], widths[rows]], axis=1)

    def spans(self, rows: Int64) -> Int64:
        """int64 [n, 2]: the first byte of each image's pixels, and the one behind its last."""
        offsets, heights, widths = self.index.places
        return np.stack([offsets[rows], offsets[rows] + heights[rows] * widths[rows] * 3], axis=1)

    def image(self, row: int) -> Uint8:
        """One image, uint8 [height, width, 3]: a view, not a copy."""
        offsets, heights, widths = self.index.places
        start, height, width = int(offsets[row]), int(heights[row]), int(widths[row])
        return self.pixels[start : start + height * width * 3].reshape(height, width, 3)

    def crops(self, rows: Int64, tops: Int64, lefts: Int64, size: int, out: Uint8 | None = None) -> Uint8:
        """Square crops, uint8 [n, size, size, 3], written into `out` where it is given; (top, left) may lie outside,
        where pixels are black."""
        out = np.empty((len(rows), size, size, 3), dtype=np.uint8) if out is None else out
        for target, row, top, left in zip(out, rows.tolist(), tops.tolist(), lefts.tolist(), strict=True):
            image = self.image(row)
            height, width = image.shape[:2]
            y0, y1, x0, x1 = max(top, 0), min(top + size, height), max(left, 0), min(left + size, width)
            if y0 >= y1 or x0 >= x1:
                target.fill(0)
                continue
            inside = target[y0 - top : y1 - top]
            inside[:, x0 - left : x1 - left] = image[y0:y1, x0:x1]
            if y1 - y0 < size:
                target[: y0 - top], target[y1 - top :] = 0, 0
            if x1 - x0 < size:
                inside[:, : x0 - left], inside[:, x1 - left :] = 0, 0
        return out


def read_index(folder: Folder, digest: str) -> PackIndex | None:
    """The index of a committed pack, checked; None if there is no such pack. Raises CorruptFileError."""
    done = folder.done()
    if done is None:
        return None
    where, facts = folder.files.path(folder / "index.parquet"), done.facts
    table = read_table(folder.get("index.parquet", done), where, INDEX_SCHEMA)
    index = PackIndex(digest, facts["split"], facts["resize"], facts["class_names"], table)
    if not index.fits(done.files.get("pixels.bin")):
        raise CorruptFileError(f"{where} is damaged: it names classes or pixels that the pack does not have.")
    return index


def read_pictures(folder: Folder) -> tuple[bytes, ...] | None:
    """The digests of a committed pack's pictures, in its order; None if it has none. Raises CorruptFileError."""
    done = folder.done()
    if done is None or "pictures.parquet" not in done.files:
        return None
    data, where = folder.get("pictures.parquet", done), folder.files.path(folder / "pictures.parquet")
    return tuple(read_table(data, where, PICTURES_SCHEMA)["picture"].to_pylist())


def open_pack(folder: Folder, digest: str, cache: Path) -> Pack:
    """Maps a pack's pixels. A pack of a store on a disk of this machine is used in place; others, also those on a disk
    that nodes share, are fetched into `cache` once.

    The content is checked once per node and file version; a damaged copy in the cache is fetched again.
    Raises UsageError if there is no such pack, CorruptFileError if it is damaged (the store has then
    forgotten it, and the next launch builds it again), and StoreError if the cache can't be written.
    """
    index, done = read_index(folder, digest), folder.done()
    if index is None or done is None:
        raise UsageError(
            f"There is no pack {digest} in {folder.files.root}: run the launch again to build it."
        )
    record = done.files["pixels.bin"]
    try:
        with _locked(cache / "packs" / f"{digest}.lock"):
            path = _checked_pixels(folder, digest, record, cache)
    except CorruptFileError as error:
        folder.distrust()
        raise CorruptFileError(f"{error} The store has forgotten it: launch again to build it.") from error
    except OSError as error:
        raise StoreError(
            f"Can't open the pack {digest} on {socket.gethostname()}: {error}. Its cache is {cache}: it must be "
            "writable and have room for the packs; MUSTER_CACHE names another one."
        ) from error
    return Pack(index, np.memmap(path, dtype=np.uint8, mode="r", shape=(record.size,)))


def _checked_pixels(folder: Folder, digest: str, record: FileRecord, cache: Path) -> Path:
    """The file of a pack's pixels on this machine, its content checked unless this very version was before."""
    name = folder / "pixels.bin"
    local = folder.files.local_root
    if local is not None and network_disk(local):
        local = None
    path = local / name if local is not None else cache / "packs" / digest / "pixels.bin"
    if _was_checked(path, record, cache):
        return path
    if local is None:
        folder.files.fetch(name, path, record)
    elif not path.exists():
        raise CorruptFileError(f"{path} is promised by DONE.json and missing.")
    elif FileRecord.of_path(path) != record:
        raise CorruptFileError(f"{path} is damaged: its content is not what its record promises.")
    mark = _mark(path, record, cache)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    return path


def _was_checked(path: Path, record: FileRecord, cache: Path) -> bool:
    return path.exists() and _mark(path, record, cache).exists()


def _mark(path: Path, record: FileRecord, cache: Path) -> Path:
    """An empty file in the cache that says: this version of that file has this content."""
    stat = path.stat()
    version = f"{path}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}:{record.sha256}"
    return cache / "checked" / hashlib.sha256(version.encode()).hexdigest()[:32]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process of the node at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
