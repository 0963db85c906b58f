"""Building a pack: decode every image once, check it, resize it, and commit the whole.

An unreadable image is named with its cause and stops the build, unless the caller skips bad images; then
they are listed in the pack's record. A pack appears in the store whole or not at all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from muster.workers.datasets.base import DataSet, Item, Split
from muster.workers.datasets.own.pictures import bad_images_error
from muster.workers.datasets.pictures import MOST_PIXELS
from muster.workers.errors import CorruptFileError, MusterError, UsageError
from muster.workers.names import SHOWN
from muster.workers.packs.journal import BadImage, GoodImage, HalfPack, Twin, half_pack
from muster.workers.packs.pack import (
    INDEX_SCHEMA,
    PICTURES_SCHEMA,
    Named,
    PackIndex,
    Progress,
    ResizeRule,
    Uint8,
    image_digest,
    read_index,
    read_pictures,
)
from muster.workers.packs.scratch import workshop
from muster.workers.parallel import in_order
from muster.workers.quantities import bytes_text
from muster.workers.store.documents import PACK_SOURCE
from muster.workers.store.files import FileRecord
from muster.workers.store.layout import Store
from muster.workers.store.parquet import table_bytes
from muster.workers.store.records import Done, parse_json, to_json


@dataclass(frozen=True)
class Twins:
    """Images that are not taken since others have the same pixels, before any resizing."""

    of: tuple[PackIndex, ...] = ()
    "The packs of the others."
    within: bool = False
    "Also of those that are packed together all but the first?"

    @property
    def name(self) -> str:
        return f"twins of {'/'.join(index.digest for index in self.of)}{' and itself' * self.within}"


def source_name(
    data: DataSet, split: Split, resize: str, skip_bad: bool, without: Twins | None = None
) -> str:
    """The name under which the store remembers which pack a split's files gave."""
    parts = [data.name, split.name, data.source_digest(split), resize, "skip" if skip_bad else "all"]
    most = data.reading.most_pixels
    parts += [f"at most {most} pixels"] if most != MOST_PIXELS else []  # by another limit others are left out
    parts += [without.name] if without else []
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:32]


def find_pack(
    store: Store, data: DataSet, split: Split, resize: str, skip_bad: bool, without: Twins | None = None
) -> PackIndex | None:
    """The pack that these very files gave before, if the store has it whole. No image is decoded."""
    found = store.files.find(store.pack_source(source_name(data, split, resize, skip_bad, without)))
    if found is None:
        return None
    try:
        source = parse_json(found, PACK_SOURCE)
        digest, of = source["pack"], (source.get("data_set", data.name), source.get("split", split.name))
        if of != (data.name, split.name):
            return None
        index = read_index(store.pack(digest), digest)
        return None if index is None else _told_of(store, index, source)
    except (ValueError, CorruptFileError):
        return None  # building it again mends it


def has_pack_by(store: Store, data_set: str, reading: int) -> bool:
    """Whether the store may have a pack of a data set that was read by this rule; sources of old say neither."""
    for name in store.pack_sources():
        try:
            source = parse_json(store.files.find(name) or b"{}", PACK_SOURCE)
        except ValueError:
            continue
        if (source.get("data_set", data_set), source.get("reading", 1)) == (data_set, reading):
            return True
    return False


def _told_of(store: Store, index: PackIndex, source: Mapping[str, Any]) -> PackIndex:
    """A pack with what its source says of the pictures that it was made from."""
    remarks = {
        text: Named(one["number"], tuple(one["first"])) for text, one in source.get("remarks", {}).items()
    }
    twins = tuple((one["image_id"], one["twin_of"]) for one in source.get("twins", ()))
    pictures = read_pictures(store.pack(index.digest))
    return dataclasses.replace(index, pictures=pictures, remarks=remarks, twins=twins)


def build_pack(
    store: Store,
    data: DataSet,
    split: Split,
    resize: str,
    *,
    skip_bad: bool = False,
    without: Twins | None = None,
    progress: Progress | None = None,
    decode: Decode | None = None,
) -> PackIndex:
    """Checks and stores a split's images, decoded and resized by `decode`, or with one thread a core; goes on where a
    builder of the same pack was killed on this disk, or its data could not be read.

    Raises BadImagesError, naming the images, if some can't be read and `skip_bad` is off (nothing is stored
    then), and UsageError if the disk is too small.
    """
    # Named before a file is read: one that changes meanwhile is then another source, and packed again.
    place = store.pack_source(source_name(data, split, resize, skip_bad, without))
    rule = ResizeRule.parse(resize)
    with workshop(store, Path(place).stem) as folder:
        with half_pack(folder, split.items) as half:
            _check_space(folder, split, rule)
            left = split.items[len(half.done) :]
            _fill(half, (decode or decoded)(data, left, rule), len(split.items), without, progress)
        made = _sorted_out(half.done, split)
        if made.bad and (not skip_bad or not made.rows):
            which = f"{len(made.bad)} of {len(split.items)} images of {data.traits.title}, {split.name},"
            raise bad_images_error(which, [(image.image_id, image.cause) for image in made.bad], data)
        if not made.rows:
            raise UsageError(
                f"Of the {split.name} split of {data.traits.title} no image is left: each has a twin elsewhere. "
                "Leave out --drop-duplicates, and look at your splits."
            )
        table = pa.Table.from_pylist(made.rows, schema=INDEX_SCHEMA)
        digest = _pack_digest(table, split, made.bad)
        _commit(store, digest, split, resize, table, (folder / "pixels.bin", half.record), made)
    source = {
        "pack": digest,
        "data_set": data.name,
        "split": split.name,
        "reading": data.reading.version,
        "remarks": {text: one._asdict() for text, one in made.remarks.items()},
        "twins": [vars(twin) for twin in made.twins],
    }
    store.files.put(place, to_json(source))
    index = read_index(store.pack(digest), digest)
    assert index is not None  # committed above
    return _told_of(store, index, source)


def bad_images(store: Store, digest: str) -> list[BadImage]:
    """The images that were left out of a pack."""
    done = store.pack(digest).done()
    bad = [] if done is None else done.facts["bad_images"]
    return [BadImage(image["image_id"], image["cause"]) for image in bad]


def _fill(
    half: HalfPack, images: Iterable[Decoded], total: int, without: Twins | None, progress: Progress | None
) -> None:
    """Adds the images that are not done yet."""
    if progress is not None and half.done:
        progress(len(half.done), total)
    known = _known(without, half.done)
    for item, result in images:
        if isinstance(result, BadImage):
            half.add(result)
        elif twin := known.get(result.picture):
            half.add(Twin(item.image_id, twin))
        else:
            height, width = result.pixels.shape[:2]
            digests = (result.digest.hex(), result.picture.hex())
            half.add(GoodImage(item.image_id, height, width, *digests, result.remarks), result.pixels)
            if without is not None and without.within:
                known[result.picture] = item.image_id
        if progress is not None:
            progress(len(half.done), total)


def _known(without: Twins | None, done: Sequence[GoodImage | BadImage | Twin]) -> dict[bytes, str]:
    """The pictures whose twins are not taken, with the names of their images."""
    if without is None:
        return {}
    found = {
        picture: name
        for index in reversed(without.of)
        for picture, name in zip(index.pictures or (), index.table["image_id"].to_pylist(), strict=True)
    }
    if without.within:
        found.update({bytes.fromhex(one.picture): one.image_id for one in done if isinstance(one, GoodImage)})
    return found


class SortedOut(NamedTuple):
    """What became of a split's images."""

    rows: list[dict[str, object]]
    "Of the pack's index."
    pictures: list[bytes]
    bad: list[BadImage]
    twins: list[Twin]
    remarks: dict[str, Named]


def _sorted_out(done: Sequence[GoodImage | BadImage | Twin], split: Split) -> SortedOut:
    found = SortedOut([], [], [], [], {})
    offset = 0
    for item, image in zip(split.items, done, strict=True):
        if isinstance(image, BadImage):
            found.bad.append(image)
        elif isinstance(image, Twin):
            found.twins.append(image)
        else:
            names = {"image_id": item.image_id, "class_name": item.class_name, "role": item.role}
            place = {"offset": offset, "height": image.height, "width": image.width}
            label = split.labels[item.class_name]
            found.rows.append({**names, "label": label, **place, "sha256": bytes.fromhex(image.sha256)})
            found.pictures.append(bytes.fromhex(image.picture))
            offset += image.bytes
            for remark in image.remarks:
                before = found.remarks.get(remark, Named(0, ()))
                first = before.first if len(before.first) >= SHOWN else (*before.first, item.image_id)
                found.remarks[remark] = Named(before.number + 1, first)
    return found


class Packed(NamedTuple):
    """An image on its way into a pack."""

    pixels: Uint8
    digest: bytes
    "Of the pixels."
    picture: bytes
    "Of the picture before it was resized."
    remarks: tuple[str, ...]


#: An image that is in a pack soon, or that can't be read.
Decoded = tuple[Item, Packed | BadImage]
#: Gives images in order, resized.
Decode = Callable[[DataSet, Sequence[Item], ResizeRule], Iterator[Decoded]]


def decoded(
    data: DataSet, items: Sequence[Item], rule: ResizeRule, threads: int | None = None
) -> Iterator[Decoded]:
    """The images in order, decoded by all cores, or so many threads; a window of them is in memory at a time.

    Threads are enough: Pillow decodes and resizes, and hashlib hashes, without the interpreter's lock.
    """

    def work(item: Item) -> Packed | BadImage:
        try:
            found = data.read(item)
            picture = image_digest(np.asarray(found.image))
            resized = rule.apply(found.image)
            pixels = np.asarray(resized, dtype=np.uint8)
            digest = picture if resized is found.image else image_digest(pixels)
            return Packed(pixels, digest, picture, found.remarks)
        except (MusterError, MemoryError):
            raise
        except Exception as error:
            return BadImage(item.image_id, str(error) or type(error).__name__)

    return in_order(work, items, threads or len(os.sched_getaffinity(0)))


def _pack_digest(table: pa.Table, split: Split, bad: list[BadImage]) -> str:
    """Pixels, labels and order, and the names that shards and reports will show: with those left out."""
    found = hashlib.sha256(json.dumps(list(split.class_names)).encode())
    for row in table.select(["image_id", "role", "label", "sha256"]).to_pylist():
        found.update(f"{row['image_id']}\0{row['role']}\0{row['label']}\0".encode() + row["sha256"])
    for image in bad:
        found.update(f"{image.image_id}\0".encode())
    return found.hexdigest()[:32]


def _commit(
    store: Store,
    digest: str,
    split: Split,
    resize: str,
    table: pa.Table,
    pixels: tuple[Path, FileRecord],
    made: SortedOut,
) -> None:
    """Moves the pixels into the store, and commits the pack unless it is there."""
    folder = store.pack(digest)
    pictures = table_bytes(pa.Table.from_pydict({"picture": made.pictures}, schema=PICTURES_SCHEMA))
    there = None
    try:
        if read_index(folder, digest) is not None:
            there = folder.done()
            if read_pictures(folder) is not None:
                return
    except CorruptFileError:
        folder.distrust()
        there = None
    folder.files.put(folder / "pictures.parquet", pictures)
    record = {"pictures.parquet": FileRecord.of(pictures)}
    if there is not None:  # of a release that kept none
        folder.files.put(folder / "DONE.json", Done({**there.files, **record}, there.facts).to_json())
        return
    data = table_bytes(table, compression="zstd")
    folder.files.put(folder / "index.parquet", data)
    path, pixel_record = pixels
    folder.files.move_in(folder / "pixels.bin", path)
    files = {"index.parquet": FileRecord.of(data), "pixels.bin": pixel_record, **record}
    facts = {
        "pack": digest,
        "split": split.name,
        "resize": resize,
        "images": table.num_rows,
        "class_names": list(split.class_names),
        "bad_images": [vars(image) for image in made.bad],
    }
    folder.commit(Done(files, facts))


def estimated_bytes(split: Split, rule: ResizeRule) -> int:
    """About how large a pack will be; a kept shape is taken as 3:2."""
    return int(len(split.items) * rule.side * rule.side * 3 * (1.5 if rule.mode == "short" else 1.0))


def _check_space(folder: Path, split: Split, rule: ResizeRule) -> None:
    there = (folder / "pixels.bin").stat().st_size  # of a builder that was killed
    needed, free = 2 * estimated_bytes(split, rule) - there, shutil.disk_usage(folder).free
    if needed > free:
        raise UsageError(
            f"Packing the {split.name} split needs about {bytes_text(needed)} of disk and {folder} has "
            f"{bytes_text(free)} free. Free some, or give --storage another place."
        )
