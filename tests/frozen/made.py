"""What the frozen store was made of: PNG files from whole numbers alone, at a fixed place with fixed times, and the
commands that were run on them. A pack's source is known by its root, its files' sizes and times."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

#: Part of a pack source's digest, as the root of a data set is: it can't be another for each test.
ROOT = Path("/tmp/muster-frozen")
IMAGES, PAPERS, STORE = ROOT / "images", ROOT / "papers", ROOT / "store"
TIME = 1_700_000_000
DOT = ["--dataset", "folder", "--data-root", str(IMAGES), "--image-size", "24", "--backbone", "conv4"]
WHERE = ["--storage", str(STORE)]
#: Each as it was run, in this order; `--name` is the first word.
RUNS: dict[str, list[str]] = {
    "members": ["launch", "dreml", *DOT, "--D", "3", "--L", "2", "--epochs", "1"],
    "held-out": ["launch", "dreml", *DOT, "--D", "3", "--L", "1", "--epochs", "2", "--val-classes", "2", "--seed", "5"],
    "boosted": ["launch", "bier", *DOT, "--ranks", "2", "--learners", "4,6", "--P", "4", "--K", "2", "--steps", "6"],
    "triplet": ["launch", "baseline", *DOT, "--loss", "triplet", "--P", "4", "--K", "2", "--epochs", "1"],
    "found": ["search", *DOT, "--D", "2,3", "--max-L", "2", "--val-classes", "2", "--epochs", "1"],
    "printed": [
        "reproduce", "dreml-table1", "--data-root", str(PAPERS), "--datasets", "cub200", "--rows", "dreml-r",
        "--scale", "0.04",
    ],
}  # fmt: skip
#: Requests whose names, and no more, are frozen: each differs from another in one setting.
NAMED: list[list[str]] = [
    ["launch", "dreml", *DOT, "--D", "3"],
    ["launch", "dreml", *DOT, "--D", "4"],
    ["launch", "dreml", *DOT, "--D", "3", "--normalize-logits"],
    ["launch", "dreml", *DOT, "--D", "3", "--preset", "code"],
    ["launch", "dreml", *DOT, "--D", "3", "--precision", "bf16"],
    ["launch", "dreml", *DOT, "--D", "3", "--set", "view.crop=20"],
    ["launch", "dreml", *DOT, "--D", "3", "--set", "class_cap=3", "--deterministic"],
    ["launch", "bier", *DOT, "--P", "4", "--K", "2"],
    ["launch", "bier", *DOT, "--P", "4", "--K", "2", "--combine", "concat"],
    ["launch", "bier", *DOT, "--P", "4", "--K", "2", "--auxiliary", "adversarial", "--lambda-div", "0.1"],
    ["launch", "baseline", *DOT, "--loss", "proxynca", "--P", "4", "--K", "2"],
    ["launch", "baseline", *DOT, "--loss", "npairs", "--P", "4", "--K", "2"],
    ["search", *DOT, "--D", "2,3", "--max-L", "2", "--val-classes", "2"],
    ["search", *DOT, "--D", "2,3", "--max-L", "3", "--val-classes", "2", "--search", "lr=0.01,0.02"],
    ["reproduce", "dreml-table1", "--data-root", str(PAPERS), "--datasets", "cub200", "--rows", "dreml-r"],
]


def _as_then(words: list[str]) -> list[str]:
    """A command on a folder by the rule and the preset that there were then. By a newer rule its pictures are packed
    again, and nothing is trained (`test_an_older_ensemble_can_be_made_longer`)."""
    return [*words, "--reading", "1", *preset_then(words)] if "folder" in words else words


def preset_then(words: list[str]) -> list[str]:
    """What a folder took by itself; now it takes another preset where networks start from random weights."""
    if "folder" not in words or "--preset" in words:
        return []
    return ["--preset", "authors" if "bier" in words else "paper"]


#: What is read of the finished store.
READ: dict[str, list[str]] = {
    "runs": ["runs"],
    **{f"status {name}": ["status", name] for name in RUNS},
    **{f"evaluate {name}": ["evaluate", name] for name in ("members", "held-out", "boosted", "triplet")},
    "evaluate held-out val": ["evaluate", "held-out", "--split", "val"],
    "correlation boosted": ["correlation", "boosted"],
    **{
        f"again {name}": [*_as_then(words), "--name", name]
        for name, words in RUNS.items()
        if words[0] != "search"
    },
    **{f"plan {name}": [*_as_then(words), "--name", name, "--dry-run"] for name, words in RUNS.items()},
}
#: Fields that differ from one run to the next, or from one machine to another.
VOLATILE = {
    "t", "heard", "seconds", "device_seconds", "device_hours", "images_per_s", "seconds_left", "basis", "node",
    "node_id", "attempt", "free", "cost", "device_seconds_each", "started", "ended",
}  # fmt: skip


def make_images() -> None:
    """The images of `RUNS`, the same bytes of pixels each time; files and folders of old times."""
    for label in range(12):
        for copy in range(5):
            _png(IMAGES / f"class {label:02d}" / f"{copy}.png", label, copy, 24)
    _cub(PAPERS / "CUB_200_2011")
    for path in sorted(ROOT.rglob("*")):
        if not path.is_relative_to(STORE):
            os.utime(path, (TIME, TIME))


def _png(path: Path, label: int, copy: int, side: int) -> None:
    """A class is a colour and a direction of stripes; each image has its own phase and its own noise of a hash."""
    rows, columns = np.indices((side, side), dtype=np.int64)
    stripes = (((rows, columns)[label % 2] * (label + 2) + 7 * copy) % 32) * 3
    noise = (rows * 7919 + columns * 104729 + copy * 1299709 + label * 15485863) % 61
    colour = np.array([label % 3, label // 3 % 3, label // 9 % 3]) * 50 + 20
    pixels = (colour + (stripes + noise)[..., None]).clip(0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _cub(home: Path) -> None:
    """A small copy in the layout of CUB-200-2011, whose classes 1 to 100 train."""
    images, labels = [], []
    for label in (1, 2, 100, 101, 150, 200):
        for copy in range(4):
            path = f"{label:03d}.Bird_{label}/Bird_{copy:04d}.png"
            _png(home / "images" / path, label, copy, 40)
            images.append(f"{len(images) + 1} {path}")
            labels.append(f"{len(images)} {label}")
    lists = {
        "images.txt": images,
        "image_class_labels.txt": labels,
        "classes.txt": [f"{label} {label:03d}.Bird_{label}" for label in range(1, 201)],
        "train_test_split.txt": [f"{n} {n % 2}" for n in range(1, len(images) + 1)],
        "bounding_boxes.txt": [f"{n} 1.0 1.0 9.0 9.0" for n in range(1, len(images) + 1)],
    }
    for name, lines in lists.items():
        (home / name).write_text("".join(f"{line}\n" for line in lines))


def steady(value: Any) -> Any:
    """A document less what no two runs share; text loses its times and speeds with it."""
    if isinstance(value, dict):
        return {key: steady(item) for key, item in sorted(value.items()) if key not in VOLATILE}
    return [steady(item) for item in value] if isinstance(value, list) else value


def read_all(muster: Callable[..., Any]) -> dict[str, Any]:
    """The document of each command of `READ`, without what differs from run to run."""
    return {name: steady(muster(*words, *WHERE, "--json").document) for name, words in READ.items()}


def names(muster: Callable[..., Any]) -> dict[str, str]:
    """The name that each request of `NAMED` gets."""
    found = {}
    for words in NAMED:
        key = " ".join(word for word in words if not word.startswith("/"))
        asked = [*words, *preset_then(words)]
        found[key] = muster(*asked, *WHERE, "--dry-run", "--json").document["run"]
    return found


def digests() -> dict[str, Any]:
    """The names of all that is stored by content, and the hashes of the weights, as the commit records give them."""
    import json

    found: dict[str, Any] = {}
    for path in sorted(path for part in ("models", "packs") for path in (STORE / part).rglob("DONE.json")):
        done = json.loads(path.read_text())
        files = {Path(name).name: record["sha256"] for name, record in done["files"].items()}
        kept = {
            name: digest for name, digest in files.items() if name in {"weights.safetensors", "pixels.bin"}
        }
        found[path.parent.relative_to(STORE).as_posix()] = kept
    found["packs/sources"] = sorted(path.name for path in (STORE / "packs/sources").iterdir())
    for path in sorted(STORE.glob("runs/*/gathered/*.json")):
        was = path.relative_to(STORE).with_suffix("") / "manifest.json"  # where it lay when this was recorded
        found[was.as_posix()] = json.loads(path.read_text())["digest"]
    for path in sorted(STORE.glob("runs/*/metrics.json")):
        found[path.relative_to(STORE).as_posix()] = json.loads(path.read_text()).get("identity")
    return found


def tree() -> list[str]:
    """Every path of the store, with the parts that are new each time written as what they are."""
    import re

    attempt = r"\d{8}T\d{6}-[0-9a-f]{6}"
    paths = {path.relative_to(STORE).as_posix() for path in STORE.rglob("*") if path.is_file()}
    # A run's record came later, and its manifests lay in the folders of the shards.
    paths = {re.sub(r"(gathered/\w+)\.json$", r"\1/manifest.json", path) for path in paths}
    paths = {path for path in paths if not re.fullmatch(r"runs/[^/]+/DONE\.json", path)}
    shown = {re.sub(attempt, "ATTEMPT", path) for path in paths}
    return sorted({re.sub(r"-\d{6}\.jsonl$", "-NNNNNN.jsonl", path) for path in shown})
