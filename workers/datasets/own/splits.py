"""How one's own classes become splits: as they are given, or by class, so that what is tested was never trained on."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from muster.workers.datasets.base import Split
from muster.workers.errors import UsageError
from muster.workers.names import first_and_last

#: How people call a split, and which it is.
SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test", "val": "val", "valid": "val",
    "validation": "val", "query": "query", "gallery": "gallery",
}  # fmt: skip
#: Those that there are, for messages.
KINDS = ", ".join(dict.fromkeys(SPLITS.values()))
#: Of a test split whose queries are looked for in a gallery.
SIDES = frozenset({"query", "gallery"})
#: Fewer classes can't be kept apart, two to train and two to test.
LEAST_CLASSES = 4


def kind_of(text: object) -> str | None:
    """Which split is meant by a name or a cell; None if it is none."""
    return SPLITS.get(str(text).strip().casefold())


def halves(classes: Sequence[str], how: str, seed: int) -> dict[str, list[str]]:
    """Which classes train and which are tested, sorted: the first half trains, or a random one (`how` = "random")."""
    order = sorted(classes)
    half = (len(order) + 1) // 2
    if how == "random":
        order = [order[place] for place in np.random.default_rng(seed).permutation(len(order))]
    return {"train": sorted(order[:half]), "test": sorted(order[half:])}


def from_list(where: str, given: Mapping[str, str], classes: Sequence[str]) -> dict[str, list[str]]:
    """The classes of each split, sorted, as a list gives them. Raises UsageError if it names a class that is not there,
    or leaves a side without classes."""
    known = set(classes)
    if strange := sorted(set(given) - known):
        raise UsageError(
            f"{where} names {len(strange):,} class(es) that have no picture: {first_and_last(strange)}."
        )
    found: dict[str, list[str]] = {}
    for name in sorted(given):
        found.setdefault(given[name], []).append(name)
    if lacking := [split for split in ("train", "test") if split not in found]:
        raise UsageError(f"{where} has no class for {' and '.join(lacking)}.")
    return found


def shared_problem(where: object, splits: Mapping[str, Split], together: str) -> str:
    """Which classes are in several splits, and what to do, as to put them `together`; empty if none is."""
    names = list(splits)
    found = [
        (one, other, both)
        for place, one in enumerate(names)
        for other in names[place + 1 :]
        if (both := sorted(set(splits[one].class_names) & set(splits[other].class_names)))
    ]
    if not found:
        return ""
    said = "; ".join(
        f"{len(both):,} of {one} and {other}: {first_and_last(both)}" for one, other, both in found
    )
    return (
        f"{where}: classes of the same name are in several splits ({said}). A score is to tell how well classes are "
        f"found that were not trained on: rename them if they are others, {together}, or say that it is meant: "
        "--allow-shared-classes."
    )


def alike_texts(splits: Mapping[str, Split]) -> Iterator[str]:
    """Names of classes that look the same: they differ in case or in how their letters are put together."""
    groups: dict[str, set[str]] = {}
    for split in splits.values():
        for name in split.class_names:
            groups.setdefault(unicodedata.normalize("NFC", name).casefold(), set()).add(name)
    alike = [sorted(group) for group in groups.values() if len(group) > 1]
    if alike:
        shown = "; ".join(" and ".join(map(_told_apart, group)) for group in alike[:5])
        more = f"; and {len(alike) - 5:,} more" if len(alike) > 5 else ""
        yield (
            f"{len(alike):,} name(s) of classes are written in two ways, and are two classes: {shown}{more}. Is it "
            "one class?"
        )


def _told_apart(name: str) -> str:
    """A name as it can be told from one that looks the same: other letters than ASCII by their numbers."""
    return name if name.isascii() else f"{name} ({ascii(name)[1:-1]})"
