"""Packing JPEG files, and reading an epoch from the pack, against decoding the files as the authors' code does.

2,000 JPEG files of about 500 x 375 px are made. (a) `muster`'s packing with all cores against Pillow decoding and
resizing the same files on one core; beside it the same on all cores, which is the most that this machine could do, as
nothing is hashed or stored. (b) An epoch's random crops from the pack against PIL, Resize(281), RandomCrop(256), flip,
ToTensor, Normalize on the files, both on one core: up to the cropped and mirrored uint8 batch that goes to a device,
and up to the normalised float batch. (a) takes wall-clock time, (b) the processor's, so that neighbours disturb it
less. All are timed in alternation, `--rounds` times, and the medians are compared.
Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from muster.orchestrator.methods import presets
from muster.workers.datasets import ImageFolder, Item
from muster.workers.methods.dreml.settings import Recipe
from muster.workers.packs.build import build_pack
from muster.workers.packs.pack import Pack, ResizeRule, open_pack
from muster.workers.rng import permutation
from muster.workers.store.layout import Store
from muster.workers.train import augment

BATCH = 128
TARGETS = {"uint8": 12.0, "float": 4.0}


def make_files(root: Path, count: int) -> ImageFolder:
    """Photograph-like JPEG files in folders of classes: smooth shapes, some texture, quality 90, about 70 kB."""
    rng = np.random.default_rng(0)
    for number in range(count):
        width, height = int(rng.integers(470, 501)), int(rng.integers(345, 376))
        shapes = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(shapes.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
        pixels = (smooth + rng.normal(0, 9, (height, width, 3))).clip(0, 255).astype(np.uint8)
        folder = root / "train" / f"class {number % 20:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number:05d}.jpg", quality=90)
    (root / "test" / "class 99").mkdir(parents=True)  # not read
    (root / "test" / "class 99" / "a.jpg").symlink_to(root / "train" / "class 00" / "00000.jpg")
    return ImageFolder(root)


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    work()
    return clock() - started


def decode_and_resize(data: ImageFolder, items: list[Item], rule: ResizeRule) -> None:
    for item in items:
        np.asarray(rule.apply(data.read(item).image))


def decode_on_all_cores(data: ImageFolder, items: list[Item], rule: ResizeRule) -> None:
    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(lambda start: decode_and_resize(data, items[start::cores], rule), range(cores)))


def pack_into(root: Path, data: ImageFolder, rule: str) -> str:
    """The digest of the pack that is then committed in the store at `root`."""
    return build_pack(Store(str(root)), data, data.splits()["train"], rule).digest


def authors_batches(
    data: ImageFolder, items: list[Item], recipe: Recipe, *, floats: bool
) -> Iterator[object]:
    """What the authors' loader does for each image, without its processes."""
    steps = [transforms.Resize(281), transforms.RandomCrop(recipe.crop), transforms.RandomHorizontalFlip()]
    steps += [transforms.ToTensor(), transforms.Normalize(recipe.mean, recipe.std)] if floats else []
    transform = transforms.Compose(steps)
    for start in range(0, len(items), BATCH):
        images = [transform(data.read(item).image) for item in items[start : start + BATCH]]
        yield torch.stack(images) if floats else np.stack([np.asarray(image) for image in images])


def pack_batches(pack: Pack, recipe: Recipe, epoch: int, *, floats: bool) -> Iterator[object]:
    """What a member in training reads. On a device the mirroring comes after the transfer; here it is counted."""
    order = permutation(("benchmark",), len(pack.index), epoch=epoch)
    draws = augment.epoch_draws(("benchmark",), epoch, len(order))
    to_float = augment.ToFloat(recipe.mean, recipe.std, torch.device("cpu"))
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        windows = augment.random_windows(pack, rows, recipe, draws[rows])
        batch = torch.from_numpy(pack.crops(*windows, recipe.crop))
        if floats:
            yield augment.distort(to_float(batch), augment.turns_of(recipe, draws[rows]))
        else:
            for image in np.flatnonzero(draws[rows, augment.FLIP] < 0.5).tolist():
                batch[image] = batch[image].flip(1)
            yield batch


def drain(batches: Iterator[object]) -> None:
    for _ in batches:
        pass


def reading(data: ImageFolder, pack: Pack, recipe: Recipe, sample: int, rounds: int) -> dict[str, object]:
    """Seconds for an image, on one core, from the pack and from the files."""
    items = list(data.splits()["train"].items)[:sample]
    found: dict[str, object] = {}
    for kind, floats in (("uint8", False), ("float", True)):
        drain(pack_batches(pack, recipe, 0, floats=floats))  # both find their files in memory
        ours, theirs = [], []
        for number in range(rounds):
            whole = pack_batches(pack, recipe, number, floats=floats)
            ours.append(seconds(lambda batches=whole: drain(batches), time.process_time) / len(pack.index))
            files = authors_batches(data, items, recipe, floats=floats)
            theirs.append(seconds(lambda batches=files: drain(batches), time.process_time) / sample)
        found[kind] = {
            "pack_images_per_s": round(1 / statistics.median(ours)),
            "files_images_per_s": round(1 / statistics.median(theirs)),
            "ratio": round(statistics.median(theirs) / statistics.median(ours), 1),
            "target": TARGETS[kind],
        }
    return found


def packing(data: ImageFolder, rule: str, scratch: Path, sample: int, rounds: int) -> dict[str, object]:
    """Images a second of packing with all cores, and of Pillow alone on one."""
    items, applied = list(data.splits()["train"].items), ResizeRule.parse(rule)
    ours, theirs, most, busy = [], [], [], []
    for number in range(rounds):
        root = scratch / f"store {number}"
        started = time.process_time()
        ours.append(seconds(lambda place=root: pack_into(place, data, rule)) / len(items))
        busy.append((time.process_time() - started) / (ours[-1] * len(items)))
        shutil.rmtree(root)
        theirs.append(seconds(lambda: decode_and_resize(data, items[:sample], applied)) / sample)
        most.append(seconds(lambda: decode_on_all_cores(data, items[:sample], applied)) / sample)
    return {
        "packing_images_per_s": round(1 / statistics.median(ours)),
        "one_core_images_per_s": round(1 / statistics.median(theirs)),
        "all_cores_images_per_s": round(1 / statistics.median(most)),
        "ratio": round(statistics.median(theirs) / statistics.median(ours), 2),
        "cores_busy": round(statistics.median(busy), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument(
        "--sample", type=int, default=512, help="files that the slower way decodes in a round"
    )
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    sample = min(chosen.sample, chosen.images // 2)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        data, scratch = make_files(Path(folder) / "images", chosen.images), Path(folder)
        settings = presets.code(data.traits, 256)[0] | {"mean": data.traits.mean, "std": data.traits.std}
        recipe = Recipe(**settings)
        row = {"packing": packing(data, recipe.resize, scratch, sample, chosen.rounds)}
        digest = pack_into(scratch / "store", data, recipe.resize)
        pack = open_pack(Store(str(scratch / "store")).pack(digest), digest, scratch / "cache")
        row |= {"per_core": reading(data, pack, recipe, sample, chosen.rounds)}
        size = sum(path.stat().st_size for path in (scratch / "images").rglob("*.jpg"))
    facts = {"images": chosen.images, "kilobytes_each": round(size / chosen.images / 1000)}
    print(json.dumps({"benchmark": "packing", "cores": len(os.sched_getaffinity(0)), **facts, **row}))


if __name__ == "__main__":
    main()
