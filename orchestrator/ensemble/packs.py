"""What `muster data` finds out: the data sets' facts, how a copy compares with them, and packs made ahead.

It prints nothing; a copy is opened as a launch opens it, and packs are those that a launch looks for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from muster.orchestrator.methods import presets
from muster.orchestrator.vectors.questions import Questions
from muster.workers import datasets
from muster.workers.datasets import DataSet, Published, Split
from muster.workers.errors import BadImagesError, MusterError, UsageError
from muster.workers.packs import build as packing
from muster.workers.store.layout import Store

#: Called with (split, images done, images in all).
Progress = Callable[[str, int, int], None]

Facts = dict[str, Any]
OTHERS: list[Facts] = [
    {
        "name": "glyphs", "title": "glyphs", "what": "characters in 16 typefaces, drawn on the spot",
        "licence": "none needed", "obtained": "built in", "counts_source": "", "note": "", "layouts": [],
        "counts": [{"part": part, "images": 3200, "classes": 200} for part in ("train", "test")],
    },
    {
        "name": "folder", "title": "a folder", "what": "any directory of class folders", "licence": "yours",
        "obtained": "yours", "counts": [], "counts_source": "", "note": "",
        "layouts": [
            {"layout": "", "folder": "ROOT", "files": [
                {"path": "CLASS/*.jpg", "holds": "the first half of the classes, by name, trains"},
            ]},
            {"layout": "given split", "folder": "ROOT", "files": [
                {"path": "train/CLASS/*.jpg", "holds": "classes to train on"},
                {"path": "test/CLASS/*.jpg", "holds": "classes to test on"},
            ]},
        ],
    },
]  # fmt: skip


def described() -> list[Facts]:
    """What is known of each data set, whether or not there is a copy."""
    return [*OTHERS, *(_description(kind) for kind in datasets.PUBLISHED.values())]


def _description(kind: type[Published]) -> Facts:
    about = kind.about
    return {
        "name": kind.name,
        "title": about.title,
        "what": about.what,
        "licence": about.licence,
        "obtained": about.obtained,
        "counts": [{"part": part, **count._asdict()} for part, count in about.counts.items()],
        "counts_source": about.counts_source,
        "note": about.note,
        "layouts": [
            {
                "layout": name,
                "folder": about.folder,
                "files": [{"path": path, "holds": holds} for path, holds in tree.items()],
            }
            for name, tree in about.trees.items()
        ],
    }


def examine(name: str, root: str | None, *, test_list: str, allow_counts: bool) -> Facts:
    """A copy against what was published: `tree`, `splits`, `warnings` of what would be left out of the scores, and what
    is wrong as `problems`.

    Raises UsageError if there is no such data set, or no root where it needs one.
    """
    data = datasets.open_data_set(name, root, allow_counts=allow_counts, test_list=test_list)
    found: Facts = {"name": data.name, "title": data.traits.title, "home": root, "tree": [], "splits": []}
    found["warnings"] = []
    problems: list[str] = []
    try:
        if isinstance(data, Published):
            found |= {"home": str(data.home), "tree": data.tree_found()}
        splits = data.splits()
    except MusterError as error:
        problems = error.problems if isinstance(error, UsageError) else [str(error)]
    else:
        found["splits"] = [_split_row(data, split) for split in splits.values()]
        try:
            found["warnings"] = Questions.listed(splits["test"]).check(data.traits)
        except UsageError as error:
            problems = error.problems
    differences = list(data.differences)
    whole = not problems and not differences and isinstance(data, Published)
    return {**found, "differences": differences, "problems": problems, "as_published": whole}


def _split_row(data: DataSet, split: Split) -> Facts:
    return {"split": split.name, "images": len(split.items), "classes": len(split.class_names)}


@dataclass(frozen=True)
class PackRequest:
    """Which packs to build."""

    name: str
    root: str | None
    storage: str
    preset: str | None = None
    image_size: int | None = None
    test_list: str = "small"
    skip_bad_images: bool = False
    allow_counts: bool = False


def pack(request: PackRequest, progress: Progress) -> Facts:
    """Finds or builds the packs of train and test, each under its preset's rule: a row for each.

    Raises UsageError for a wrong request or copy, and BadImagesError for images that can't be read, of both splits.
    """
    data = datasets.open_data_set(
        request.name, request.root, allow_counts=request.allow_counts, test_list=request.test_list
    )
    rules = resize_rules(data, request.preset, request.image_size)
    store = Store(request.storage)
    splits = data.splits()
    rows, unreadable = [], []
    for name, rule in rules.items():
        try:
            rows.append(_pack(store, data, splits[name], rule, request.skip_bad_images, progress))
        except BadImagesError as error:  # go on: all bad images are told at once
            unreadable += error.problems
    if unreadable:
        raise BadImagesError(unreadable)
    return {"name": data.name, "root": request.root, "differences": list(data.differences), "packs": rows}


def resize_rules(data: DataSet, preset: str | None, image_size: int | None) -> Mapping[str, str]:
    """The resize rule of each split, as a launch takes it. Raises UsageError."""
    preset = preset or presets.preset_for(data.traits)
    side = data.traits.picture_side if image_size is None else image_size
    problems = []
    if preset not in presets.PRESETS:
        problems.append(f"preset = {preset!r}: there are {', '.join(presets.PRESETS)}.")
    if problem := presets.side_problem(side):
        problems.append(problem)
    if problems:
        raise UsageError(problems)
    recipe, view = presets.settings(preset, data.traits, side, None)
    return {"train": recipe["resize"], "test": view["resize"]}


def _pack(store: Store, data: DataSet, split: Split, rule: str, skip_bad: bool, progress: Progress) -> Facts:
    started: list[tuple[float, int]] = []

    def tell(done: int, total: int) -> None:
        if not started:  # what a builder that was killed had done is no speed of this one
            started.append((time.monotonic(), done))
        progress(split.name, done, total)

    index = packing.find_pack(store, data, split, rule, skip_bad)
    found = index is not None
    if index is None:
        index = packing.build_pack(
            store, data, split, rule,
            skip_bad=skip_bad, progress=tell,
        )  # fmt: skip
    speed = None
    if started:
        (begun, before), total = started[0], len(split.items)
        if total > before:
            speed = round((total - before) / max(time.monotonic() - begun, 1e-9), 1)
    return {
        "split": split.name,
        "state": "found" if found else "packed",
        "images": len(index),
        "bytes": index.bytes,
        "resize": rule,
        "pack": index.digest,
        "images_per_s": speed,
        "bad": [vars(image) for image in packing.bad_images(store, index.digest)],
    }
