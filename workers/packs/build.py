"""Building a pack: decode every image once, check it, resize it, and commit the whole.

An unreadable image is named with its cause and stops the build, unless the caller skips bad images; then
they are listed in the pack's record. A pack appears in the store whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from muster.workers.datasets.base import DataSet, Item, Split
from muster.workers.errors import BadImagesError, CorruptFileError, MusterError, UsageError
from muster.workers.packs.journal import BadImage, GoodImage, HalfPack, half_pack
from muster.workers.packs.pack import (
    INDEX_SCHEMA,
    PackIndex,
    Progress,
    ResizeRule,
    Uint8,
    image_digest,
    read_index,
)
from muster.workers.packs.scratch import workshop
from muster.workers.quantities import bytes_text
from muster.workers.store.documents import PACK_SOURCE
from muster.workers.store.files import FileRecord
from muster.workers.store.layout import Store
from muster.workers.store.parquet import table_bytes
from muster.workers.store.records import Done, parse_json, to_json

SHOWN = 10


def source_name(data: DataSet, split: Split, resize: str, skip_bad: bool) -> str:
    """The name under which the store remembers which pack a split's files gave."""
    parts = [data.name, split.name, data.source_digest(split), resize, "skip" if skip_bad else "all"]
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:32]


def find_pack(store: Store, data: DataSet, split: Split, resize: str, skip_bad: bool) -> PackIndex | None:
    """The pack that these very files gave before, if the store has it whole. No image is decoded."""
    found = store.files.find(store.pack_source(source_name(data, split, resize, skip_bad)))
    if found is None:
        return None
    try:
        source = parse_json(found, PACK_SOURCE)
        digest, of = source["pack"], (source.get("data_set", data.name), source.get("split", split.name))
        return None if of != (data.name, split.name) else read_index(store.pack(digest), digest)
    except (ValueError, CorruptFileError):
        return None  # building it again mends it


def build_pack(
    store: Store,
    data: DataSet,
    split: Split,
    resize: str,
    *,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> PackIndex:
    """Decodes, checks, resizes and stores a split's images, with one thread a core; goes on where a builder of
    the same pack was killed on this disk.

    Raises BadImagesError, naming the images, if some can't be read and `skip_bad` is off (nothing is stored
    then), and UsageError if the disk is too small.
    """
    # Named before a file is read: one that changes meanwhile is then another source, and packed again.
    source = store.pack_source(source_name(data, split, resize, skip_bad))
    rule = ResizeRule.parse(resize)
    with workshop(store, Path(source).stem) as folder:
        with half_pack(folder, split.items) as half:
            _check_space(folder, split, rule)
            _fill(half, data, split, rule, progress)
        rows, bad = _rows(half.done, split)
        if bad and (not skip_bad or not rows):
            raise BadImagesError(_complaint(data, split, bad))
        table = pa.Table.from_pylist(rows, schema=INDEX_SCHEMA)
        digest = _pack_digest(table, split, bad)
        _commit(store, digest, split, resize, table, (folder / "pixels.bin", half.record), bad)
    store.files.put(source, to_json({"pack": digest, "data_set": data.name, "split": split.name}))
    index = read_index(store.pack(digest), digest)
    assert index is not None  # committed above
    return index


def bad_images(store: Store, digest: str) -> list[BadImage]:
    """The images that were left out of a pack."""
    done = store.pack(digest).done()
    bad = [] if done is None else done.facts["bad_images"]
    return [BadImage(image["image_id"], image["cause"]) for image in bad]


def _fill(half: HalfPack, data: DataSet, split: Split, rule: ResizeRule, progress: Progress | None) -> None:
    """Adds the images that are not done yet."""
    total = len(split.items)
    if progress is not None and half.done:
        progress(len(half.done), total)
    for item, result in _decoded(data, split.items[len(half.done) :], rule):
        if isinstance(result, BadImage):
            half.add(result)
        else:
            pixels, digest = result
            height, width = pixels.shape[:2]
            half.add(GoodImage(item.image_id, height, width, digest.hex()), pixels)
        if progress is not None:
            progress(len(half.done), total)


def _rows(
    done: Sequence[GoodImage | BadImage], split: Split
) -> tuple[list[dict[str, object]], list[BadImage]]:
    """The rows of a pack's index, and the images that are not in it."""
    rows: list[dict[str, object]] = []
    bad: list[BadImage] = []
    offset = 0
    for item, image in zip(split.items, done, strict=True):
        if isinstance(image, BadImage):
            bad.append(image)
            continue
        names = {"image_id": item.image_id, "class_name": item.class_name, "role": item.role}
        place = {"offset": offset, "height": image.height, "width": image.width}
        label = split.labels[item.class_name]
        rows.append({**names, "label": label, **place, "sha256": bytes.fromhex(image.sha256)})
        offset += image.bytes
    return rows, bad


def _decoded(
    data: DataSet, items: Sequence[Item], rule: ResizeRule
) -> Iterator[tuple[Item, tuple[Uint8, bytes] | BadImage]]:
    """The images in order, decoded by all cores; a window of them is in memory at a time.

    Threads are enough: Pillow decodes and resizes, and hashlib hashes, without the interpreter's lock.
    """

    def work(item: Item) -> tuple[Uint8, bytes] | BadImage:
        try:
            pixels = np.asarray(rule.apply(data.read(item)), dtype=np.uint8)
            return pixels, image_digest(pixels)
        except (MusterError, MemoryError):
            raise
        except Exception as error:  # a damaged file makes Pillow raise nearly anything
            return BadImage(item.image_id, str(error) or type(error).__name__)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        window: deque[tuple[Item, Future[tuple[Uint8, bytes] | BadImage]]] = deque()
        for item in items:
            window.append((item, pool.submit(work, item)))
            if len(window) >= 16 * cores:
                first, future = window.popleft()
                yield first, future.result()
        for first, future in window:
            yield first, future.result()


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
    bad: list[BadImage],
) -> None:
    """Moves the pixels into the store, and commits the pack unless it is there."""
    folder = store.pack(digest)
    try:
        if read_index(folder, digest) is not None:
            return
    except CorruptFileError:
        folder.distrust()
    data = table_bytes(table, compression="zstd")
    folder.files.put(folder / "index.parquet", data)
    path, record = pixels
    folder.files.move_in(folder / "pixels.bin", path)
    files = {"index.parquet": FileRecord.of(data), "pixels.bin": record}
    facts = {
        "pack": digest,
        "split": split.name,
        "resize": resize,
        "images": table.num_rows,
        "class_names": list(split.class_names),
        "bad_images": [vars(image) for image in bad],
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


def _complaint(data: DataSet, split: Split, bad: list[BadImage]) -> list[str]:
    lines = [f"{len(bad)} of {len(split.items)} images of {data.traits.title}, {split.name}, can't be read:"]
    lines += [f"  {image.image_id}: {image.cause}" for image in bad[:SHOWN]]
    if len(bad) > SHOWN:
        lines.append(f"  and {len(bad) - SHOWN} more")
    return ["\n".join([*lines, "Mend or remove them, or go on without them: --skip-bad-images."])]
