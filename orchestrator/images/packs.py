"""What `muster data` finds out: the data sets' facts, how a copy compares with them, and packs made ahead.

It prints nothing; a copy is opened as a launch opens it, and packs are those that a launch looks for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from muster.orchestrator.images.pictures import found_or_packed, listed, pack_splits
from muster.orchestrator.methods import presets
from muster.orchestrator.settings.checks import whole_path
from muster.orchestrator.settings.parse import parse
from muster.orchestrator.settings.request import DATA_PLACES, DataRequest, open_data
from muster.workers import datasets
from muster.workers.datasets import DataSet, Published, Split
from muster.workers.errors import MusterError, UsageError
from muster.workers.names import first_and_last
from muster.workers.packs import build as packing
from muster.workers.packs.build import Twins
from muster.workers.packs.pack import PackIndex
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
            {"layout": "classes", "folder": "ROOT", "files": [
                {"path": "CLASS/*.jpg", "holds": "the first half of the classes, by name, trains"},
            ]},
            {"layout": "splits", "folder": "ROOT", "files": [
                {"path": "train/CLASS/*.jpg", "holds": "classes to train on"},
                {"path": "test/CLASS/*.jpg", "holds": "classes to test on; or query/ and gallery/"},
                {"path": "val/CLASS/*.jpg", "holds": "classes to validate on, where given"},
            ]},
        ],
    },
    {
        "name": "table", "title": "a table", "what": "pictures that a table lists or holds",
        "licence": "yours", "obtained": "yours", "counts": [], "counts_source": "", "note": "",
        "layouts": [
            {"layout": "list", "folder": "ROOT", "files": [
                {"path": "--list items.csv", "holds": "path and label; split, role; or .tsv, .jsonl, .parquet"},
            ]},
            {"layout": "hugging face", "folder": "ROOT", "files": [
                {"path": "data/train-*.parquet", "holds": "image and label; also what save_to_disk wrote"},
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


def data_request(name: str, root: str | None, settings: Mapping[str, Any]) -> DataRequest:
    """Which images, from flags by their settings' dotted names (None: not given). Raises UsageError."""
    given = {key.removeprefix("data."): value for key, value in settings.items() if value is not None}
    given |= {"root": root} if root is not None else {}
    places = {name: whole_path(given[name]) for name in DATA_PLACES if name in given}
    given |= {name: place for name, place in places.items() if "://" in place}  # without what is secret
    dataset, problems = datasets.canonical(name), []  # type: ignore[var-annotated]
    found: DataRequest | None = parse(DataRequest, {**given, "dataset": dataset}, "data", problems)
    if found is None:
        raise UsageError(problems)
    return found


def examine(request: DataRequest) -> Facts:
    """A copy against what was published, or one's own folder: `tree`, `splits`, the `account` of all files, `warnings`
    of what would be left out or must be known, and what is wrong as `problems`.

    Raises UsageError if there is no such data set, or no root where it needs one.
    """
    data = open_data(request)
    found: Facts = {
        "name": data.name, "title": data.traits.title, "home": request.root, "tree": [], "splits": [], "account": None,
    }  # fmt: skip
    found["warnings"] = []
    problems: list[str] = []
    try:
        if isinstance(data, Published):
            found |= {"home": str(data.home), "tree": data.tree_found()}
        splits = data.splits()
    except MusterError as error:
        problems = error.problems if isinstance(error, UsageError) else [str(error)]
    else:
        sides = any(item.role for split in splits.values() for item in split.items)
        found["splits"] = [_split_row(split, sides=sides) for split in splits.values()]
        found["warnings"], problems = listed(data, splits)
        if len(splits["train"].class_names) < 2:
            problems.append(f"{data.traits.title} has one training class: at least 2 are needed to train on.")
    if data.account is not None:
        found["account"] = data.account.document()
    differences = list(data.differences)
    if isinstance(data, Published) and not problems and not differences:
        differences = data.other_counts()
    whole = not problems and not differences and isinstance(data, Published)
    return {**found, "differences": differences, "problems": problems, "as_published": whole}


def _split_row(split: Split, *, sides: bool) -> Facts:
    """A split in a line; with `sides` how many of its images ask and how many answer too, where it is searched."""
    asks, answers = (sum(item.role != other for item in split.items) for other in ("gallery", "query"))
    searched = split.name != "train"
    return {
        "split": split.name,
        "images": len(split.items),
        "classes": len(split.class_names),
        **({"ask": asks if searched else None, "answer": answers if searched else None} if sides else {}),
        "names": first_and_last(split.class_names),
    }


def pack(
    request: DataRequest, storage: str, preset: str | None, image_size: int | None, progress: Progress
) -> Facts:
    """Finds or builds the packs of train, test and a val that is given, each under its preset's rule: a row for each.

    Raises UsageError for a wrong request or copy, and BadImagesError for images that can't be read, of all splits.
    """
    data = open_data(request)
    rules = resize_rules(data, preset, image_size)
    store = Store(storage)
    splits = data.splits()
    rows: dict[str, Facts] = {}

    def make(split: Split, rule: str, without: Twins | None) -> PackIndex:
        rows[split.name], index = _pack(store, request, data, split, rule, without, progress)
        return index

    packs = pack_splits(splits, rules, make, drop=request.drop_duplicates)
    assert packs is not None  # what was missing has been built
    named = [rows[name] for name in splits]
    warnings = [*data.warnings, *packs.remark_texts()]
    facts = {"name": data.name, "root": request.root, "differences": list(data.differences)}
    return {**facts, "warnings": warnings, "packs": named}


def resize_rules(data: DataSet, preset: str | None, image_size: int | None) -> Mapping[str, str]:
    """The resize rule of each split, as a launch takes it. Raises UsageError."""
    preset = preset or presets.preset_for(data.traits, "none")
    side = data.traits.picture_side if image_size is None else image_size
    problems = []
    if preset not in presets.PRESETS:
        problems.append(f"preset = {preset!r}: there are {', '.join(presets.PRESETS)}.")
    if problem := presets.side_problem(side):
        problems.append(problem)
    if problems:
        raise UsageError(problems)
    recipe, view = presets.settings(preset, data.traits, side, None)
    return {"train": recipe["resize"], "test": view["resize"], "val": view["resize"]}


def _pack(
    store: Store,
    request: DataRequest,
    data: DataSet,
    split: Split,
    rule: str,
    without: Twins | None,
    progress: Progress,
) -> tuple[Facts, PackIndex]:
    begun, before = time.monotonic(), list[int]()

    def tell(done: int, total: int) -> None:
        if not before:  # what a builder that was killed had done is told at once, and is no speed of this one
            before.append(done if done > 1 else 0)
        progress(split.name, done, total)

    index = found_or_packed(store, data, split, rule, without, tell, skip_bad=request.skip_bad_images)
    assert index is not None
    speed = None
    if before and (packed := len(split.items) - before[0]):
        speed = round(packed / max(time.monotonic() - begun, 1e-9), 1)
    row = {
        "split": split.name,
        "state": "packed" if before else "found",
        "images": len(index),
        "bytes": index.bytes,
        "resize": rule,
        "pack": index.digest,
        "images_per_s": speed,
        "bad": [vars(image) for image in packing.bad_images(store, index.digest)],
    }
    return row, index
