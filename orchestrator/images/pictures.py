"""The packs of a request, and what must be said of the pictures in them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from muster.orchestrator.images.reading import reader_of
from muster.orchestrator.settings.request import DataRequest, LaunchRequest, open_data
from muster.orchestrator.vectors.protocols import draws_of
from muster.orchestrator.vectors.questions import SHOWN, Questions
from muster.workers.datasets import DataSet, OwnPictures, Split
from muster.workers.datasets.own.account import remark_text
from muster.workers.datasets.own.headers import read_headers
from muster.workers.errors import BadImagesError, UsageError
from muster.workers.names import shortened
from muster.workers.packs import build as packing
from muster.workers.packs.build import Twins
from muster.workers.packs.pack import PackIndex
from muster.workers.store.layout import Store

#: Called with (split, images done, images in all).
PackProgress = Callable[[str, int, int], None]


class Packs(NamedTuple):
    """The packs of a request's splits."""

    train: PackIndex
    test: PackIndex
    val: PackIndex | None
    "Of a validation split that the data set gives."
    seen: PackIndex
    "The training images as a test sees them, where somebody wants their vectors; else as they are trained on."

    @property
    def given(self) -> dict[str, PackIndex]:
        """The packs of what the data set gives, by split."""
        return {"train": self.train, "test": self.test} | ({"val": self.val} if self.val is not None else {})

    def remark_texts(self) -> list[str]:
        """What must be said of the pictures: a sentence for each kind of remark, and for twins."""
        found: dict[str, list[str]] = {}
        numbers: dict[str, int] = {}
        for index in self.given.values():
            for text, one in index.remarks.items():
                found.setdefault(text, []).extend(one.first)
                numbers[text] = numbers.get(text, 0) + one.number
        texts = [remark_text(text, names, numbers[text]) for text, names in found.items()]
        return [*texts, *self._twin_texts()]

    def _twin_texts(self) -> Iterator[str]:
        left = [(split, *pair) for split, index in self.given.items() for pair in index.twins]
        if left:
            pairs = [f"{name} of {split} (as {other})" for split, name, other in left]
            shown = shortened(pairs)
            yield f"{len(left):,} picture(s) were left out, as others have the same pixels: {shown}."
        twins = list(twins_of(self.given))
        if twins:
            pairs = [f"{one} and {other}" for one, other in twins]
            yield (
                f"{len(twins):,} picture(s) are in two splits or twice in test, pixel by pixel: "
                f"{shortened(pairs)}. For your own pictures, --drop-duplicates leaves such out."
            )

    def unread_texts(self, store: Store) -> list[str]:
        """What could not be read and was left out, a sentence for each pack."""
        found = []
        for digest in sorted({index.digest for index in self.given.values()}):
            if bad := packing.bad_images(store, digest):
                shown = "; ".join(f"{image.image_id} ({image.cause})" for image in bad[:10])
                found.append(f"{len(bad)} image(s) could not be read and were left out: {shown}.")
        return found


def twins_of(packs: Mapping[str, PackIndex]) -> Iterator[tuple[str, str]]:
    """Pairs of images with the same picture, before any resizing: in different splits, or both in test."""
    first: dict[bytes, tuple[str, str]] = {}
    for split in ("test", "val", "train"):
        index = packs.get(split)
        if index is None or index.pictures is None:
            continue
        for picture, name in zip(index.pictures, index.table["image_id"].to_pylist(), strict=True):
            before = first.setdefault(picture, (split, name))
            if before != (split, name) and (before[0] != split or split == "test"):
                yield before[1], name


#: Finds or builds the pack of a split under a resize rule, without twins of others. None: it is missing.
Make = Callable[[Split, str, Twins | None], PackIndex | None]


def packs_of(
    request: LaunchRequest,
    data: DataSet,
    splits: Mapping[str, Split],
    store: Store,
    progress: PackProgress | None,
    *,
    seen: bool,
) -> Packs | None:
    """Finds the packs, or builds them; with no `progress` nothing is built, and None says that one is missing. `seen`:
    vectors of the training images are wanted.

    Raises UsageError, and BadImagesError with the bad images of all splits.
    """
    skip = request.data.skip_bad_images

    def make(split: Split, resize: str, without: Twins | None) -> PackIndex | None:
        tell = functools.partial(progress, split.name) if progress is not None else None
        return found_or_packed(store, data, split, resize, without, tell, skip_bad=skip)

    view = request.view.resize
    rules = {"train": request.recipe.resize, "test": view, "val": view}
    as_seen = view if seen or request.data.val_classes else ""
    return pack_splits(splits, rules, make, drop=request.data.drop_duplicates, as_seen=as_seen)


def found_or_packed(
    store: Store,
    data: DataSet,
    split: Split,
    resize: str,
    without: Twins | None,
    tell: Callable[[int, int], None] | None,
    *,
    skip_bad: bool,
) -> PackIndex | None:
    """Finds a pack, or builds it; None where it is missing and there is nobody to `tell` how far it is.

    Raises UsageError and BadImagesError.
    """
    found = packing.find_pack(store, data, split, resize, skip_bad, without)
    if found is not None or tell is None:
        return found
    return packing.build_pack(
        store, data, split, resize, skip_bad=skip_bad, without=without, progress=tell, decode=reader_of(data)
    )


def pack_splits(
    splits: Mapping[str, Split], rules: Mapping[str, str], make: Make, *, drop: bool, as_seen: str = ""
) -> Packs | None:
    """The packs of all splits: test first, since of pictures that are in two splits those that train are dropped.
    `as_seen`: a rule that the training images are wanted under as well.

    None if one is missing. Raises BadImagesError with the bad images of all splits.
    """
    unreadable: list[str] = []
    others: tuple[PackIndex, ...] = ()

    def made(name: str, rule: str) -> PackIndex | None:
        nonlocal others
        try:
            found = make(splits[name], rule, Twins(others, within=name == "test") if drop else None)
        except BadImagesError as error:  # go on: all bad images are told at once
            unreadable.extend(error.problems)
            return None
        if found is not None and name != "train":
            others += (found,)
        return found

    found = {name: made(name, rules[name]) for name in ("test", "val", "train") if name in splits}
    seen = made("train", as_seen) if as_seen and as_seen != rules["train"] else found["train"]
    if unreadable:
        raise BadImagesError(list(dict.fromkeys(unreadable)))
    train, test, val = (found.get(name) for name in ("train", "test", "val"))
    if train is None or test is None or seen is None or None in found.values():
        return None
    return Packs(train, test, val, seen)


def listed(data: DataSet, splits: Mapping[str, Split], draws: int = 0) -> tuple[list[str], list[str]]:
    """What can be said of images before they are packed: what was left out, what their headers say, what a score leaves
    out. And what is wrong with them."""
    found, problems = [*data.warnings], []
    for split in (splits[name] for name in ("test", "val") if name in splits):
        try:
            found += Questions.listed(split).check(data.traits, draws)
        except UsageError as error:
            problems += error.problems
    if isinstance(data, OwnPictures):
        headers = read_headers(data, splits)
        found += headers.texts()
        problems += [] if data.reading.skip_bad else headers.problems(data)
    return found, problems


def listed_warnings(request: LaunchRequest) -> list[str]:
    """What can be said of a request's images before they are packed. Raises UsageError where it would be refused."""
    data = open_data(request.data)
    splits = data.splits()
    found, problems = listed(data, splits, draws_of(request.data))
    if problems:
        raise UsageError(problems)
    return [*data.differences, *found, *changed_reading(request, splits, None, Store(request.storage))]


def changed_reading(
    request: LaunchRequest, splits: Mapping[str, Split], packs: Packs | None, store: Store
) -> list[str]:
    """What the rule that a folder is read by takes otherwise than the one before, by which the store has packs of the
    same root. Without packs it is told of the lists alone."""
    if (
        request.data.dataset != "folder"
        or request.data.reading == 1
        or not packing.has_pack_by(store, "folder", 1)
    ):
        return []
    data = DataRequest(
        dataset="folder",
        root=request.data.root,
        reading=1,
        skip_bad_images=request.data.skip_bad_images,
        max_pixels=request.data.max_pixels,
    )
    old = open_data(data)
    try:
        before = old.splits()
    except UsageError:
        return []  # nothing was ever made of it
    skip = request.data.skip_bad_images
    rules = {"train": request.recipe.resize, "test": request.view.resize}
    found = {name: packing.find_pack(store, old, before[name], rule, skip) for name, rule in rules.items()}
    changes = []
    for name, index in found.items():
        if index is None:
            continue
        differ = _changes(name, before[name], splits[name])
        if not differ and packs is not None and packs.given[name].part().digest != index.part().digest:
            digests = dict(zip(index.table["image_id"].to_pylist(), index.image_digests, strict=True))
            new = packs.given[name]
            images = zip(new.table["image_id"].to_pylist(), new.image_digests, strict=True)
            other = [image for image, digest in images if digests.get(image) != digest]
            differ = [f"other pixels of {len(other):,} {name} picture(s): {shortened(other)}"]
        changes += differ
    if not changes:
        return []
    return [
        f"This root has packs that were read by rule 1; rule {request.data.reading} takes {'; '.join(changes)}. So "
        "members are trained anew. --reading 1 keeps the old rule."
    ]


def _changes(name: str, was: Split, now: Split) -> list[str]:
    """How a split's list differs from what it was, in words."""
    if list(was.items) == list(now.items):
        return []
    old, new = ({item.image_id for item in split.items} for split in (was, now))
    found = []
    for text, images in (("more", sorted(new - old)), ("fewer", sorted(old - new))):
        if images:
            found.append(f"{len(images):,} {text} {name} picture(s): {shortened(images)}")
    gone, come = (
        sorted(set(one.class_names) - set(other.class_names)) for one, other in ((was, now), (now, was))
    )
    for text, classes in (("no longer", gone), ("now", come)):
        if classes:
            found.append(f"{text} in {name}: {shortened(classes, most=SHOWN)}")
    return found or [f"another order of {name}"]
