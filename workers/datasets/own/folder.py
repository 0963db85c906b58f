"""`folder`: any directory of pictures in class folders.

ROOT/CLASS/*.jpg                                      the first half of the classes, by name, trains, or
ROOT/train/CLASS/*.jpg and ROOT/test/CLASS/*.jpg      the split is given: also val/, and query/ and gallery/ for test/
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from muster.workers.datasets.base import Item, Reading, Split, Traits, files_digest
from muster.workers.datasets.own.account import BESIDE, Account
from muster.workers.datasets.own.first_reading import first_splits
from muster.workers.datasets.own.scan import SPLITS, Found, Told, scan
from muster.workers.datasets.pictures import HEIC_SUFFIXES, Picture, PictureRule, formats, read_picture
from muster.workers.errors import UsageError
from muster.workers.names import first_and_last, no_text, shortened

LAYOUTS = (
    "Expected ROOT/CLASS/image.jpg, or ROOT/train/CLASS/... and ROOT/test/CLASS/..., where val/ may stand beside them, "
    "and query/ and gallery/ for test/"
)
#: Of a test split whose queries are looked for in a gallery.
SIDES = frozenset({"query", "gallery"})
#: Fewer classes can't be kept apart, two to train and two to test.
LEAST_CLASSES = 4


class ImageFolder:
    """A directory of class folders; names are compared as the file system sorts them, by code point."""

    name = "folder"
    differences: Sequence[str] = ()

    def __init__(self, root: Path, reading: Reading = Reading(), told: Told | None = None) -> None:
        """`told` hears of a scan how many files it has seen."""
        self.root, self.reading, self._told = root, reading, told
        self.account: Account | None = None
        self.warnings: Sequence[str] = ()
        newer = reading.version > 1
        self.rule = PictureRule(
            background=reading.background if newer else "",
            transpose=reading.transpose,
            strict=newer,
            most_pixels=reading.most_pixels,
        )

    @cached_property
    def traits(self) -> Traits:
        # The statistics that torchvision's pretrained networks were trained with; override with --set.
        found = Traits(
            title=f"folder {self.root}", flip=True, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
        )
        if self.reading.version > 1 and self.reading.layout != "classes" and _has_sides(self.root):
            return replace(found, protocol="query images are looked for in the gallery")
        return found

    def splits(self) -> Mapping[str, Split]:
        """Train and test, and val if it is given. Raises UsageError if the folder is missing, has too few classes, or
        holds what can't be told or read."""
        if not self.root.is_dir():
            raise UsageError(
                f"The data root {self.root} is not a folder. Give --data-root a folder of class folders."
            )
        try:
            if self.reading.version == 1:
                return first_splits(self.root)
            found = scan(self.root, self._told)
        except OSError as error:
            raise UsageError(f"The data root {self.root} can't be listed: {error}.") from error
        self.account = found.account
        if problems := list(_refused(found, self.reading)):
            raise UsageError(problems)
        splits = _given(found) if _is_split(found, self.reading.layout) else _halves(found)
        if not self.reading.shared and (problem := _shared(self.root, splits)):
            raise UsageError(problem)
        self.warnings = (*found.account.texts(), *_alike(splits))
        return splits

    def read(self, item: Item) -> Picture:
        return read_picture(self.root / item.image_id, self.rule)

    @property
    def image_root(self) -> str:
        return str(self.root.absolute())

    def source_digest(self, split: Split) -> str:
        """Reading 1 is not named in it, as its packs are older than that there were two."""
        how = self.reading
        newer = f"reading {how.version}/{how.background}/{how.transpose}/" if how.version > 1 else ""
        if "HEIF" not in formats() and any(
            Path(i.image_id).suffix.lower() in HEIC_SUFFIXES for i in split.items
        ):
            newer += "without HEIC/"  # which can be read when its package is here
        extra = f"{newer}folder/{split.name}/{self.root.absolute()}"
        return files_digest(self.root, split, extra)


def _has_sides(root: Path) -> bool:
    """Whether a root has folders of classes for queries and for a gallery; only its top is looked at."""
    try:
        sides = {SPLITS.get(path.name.casefold()): path for path in root.iterdir()}
        return all(side in sides and any(path.is_dir() for path in sides[side].iterdir()) for side in SIDES)
    except OSError:
        return False


def _refused(found: Found, reading: Reading) -> Iterator[str]:
    """What nobody could want to be left out."""
    if found.odd:
        why, cure = no_text(found.odd[0])
        names = ", ".join(repr(name) for name in found.odd[:10])
        yield f"{found.root} has file names that are {why}: {names}. {cure}"
    if found.unread:
        yield (
            f"{found.root}: {len(found.unread):,} folder(s) or file(s) can't be read: {shortened(found.unread)}. Give "
            "yourself the right to read them, or move them elsewhere."
        )
    if reading.skip_bad:
        return
    if found.dangling:
        yield (
            f"{found.root}: {len(found.dangling):,} link(s) lead nowhere: {shortened(found.dangling)}. Mend or remove "
            "them, or go on without them: --skip-bad-images."
        )
    if found.heic:
        yield (
            f"{found.root}: {len(found.heic):,} HEIC picture(s), and the package that reads them is missing: "
            f"{shortened(found.heic)}. pip install pillow-heif, on every node, or go on without them: "
            "--skip-bad-images."
        )


def _is_split(found: Found, layout: str) -> bool:
    """Whether the folders at the top are splits; if not, they are classes. Raises UsageError where it can't be told."""
    if layout != "auto":
        return layout == "splits"
    splits = [name for name in found.named if found.has_classes(name)]
    if not splits:
        return False
    others = [name for name, pictures in found.folders.items() if pictures and name not in splits]
    if not others:
        return True
    raise UsageError(
        f"{found.root}: {', '.join(splits)} hold(s) folders as a split does, and {shortened(others)} beside it do(es) "
        f"not. {LAYOUTS}. Say what is meant: --layout classes (each folder at the top is a class) or --layout splits "
        "(only those that are named like a split are read)."
    )


def _halves(found: Found) -> dict[str, Split]:
    """The first half of the classes, by name, trains: of those that have a picture."""
    classes = sorted(name for name, pictures in found.folders.items() if pictures)
    if len(classes) < LEAST_CLASSES:
        beside = "".join(f" {text}" for text in found.account.texts())
        deeper = [name for name in classes if found.has_classes(name)]
        hint = f" Are the classes those in {deeper[0]}? Then give --data-root that folder." if deeper else ""
        raise UsageError(
            f"{found.root} has {len(classes)} class folder(s) with pictures: at least {LEAST_CLASSES} are needed to "
            f"keep training and test classes apart. {LAYOUTS}.{hint}{beside}"
        )
    half = (len(classes) + 1) // 2

    def split(name: str, names: list[str]) -> Split:
        items = [Item(f"{label}/{picture}", label) for label in names for picture in found.folders[label]]
        return Split(name, items, names)

    return {"train": split("train", classes[:half]), "test": split("test", classes[half:])}


def _given(found: Found) -> dict[str, Split]:
    """The splits that the folders at the top are."""
    folders: dict[str, list[str]] = {}
    for name, kind in found.named.items():
        folders.setdefault(kind, []).append(name)
    problems = [
        f"{found.root}: {' and '.join(names)} are both the {kind} split: keep one of them."
        for kind, names in folders.items()
        if len(names) > 1
    ]
    kinds = {kind for kind, names in folders.items() if any(found.folders[name] for name in names)}
    if "test" in kinds and kinds & SIDES:
        problems.append(
            f"{found.root}: there are test/ and query/ or gallery/: which of them is to be tested?"
        )
    if len(kinds & SIDES) == 1:
        problems.append(f"{found.root}: query/ and gallery/ need each other, and only one has pictures.")
    if lacking := [
        kind for kind in ("train", "test") if kind not in kinds and not (kind == "test" and kinds & SIDES)
    ]:
        problems.append(
            f"{found.root} has no pictures for {' and '.join(lacking)}, and there are the splits "
            f"{', '.join(sorted(kinds)) or 'none'}. {LAYOUTS}. Rename one, or say --layout classes."
        )
    if loose := [name for name in found.named if any("/" not in one for one in found.folders[name])]:
        problems.append(f"{found.root}: pictures lie in no class folder in {', '.join(loose)}/.")
    if problems:
        raise UsageError(problems)
    for name in [name for name in found.folders if name not in found.named and found.folders[name]]:
        found.account.give_back(BESIDE, len(found.folders[name]), name)
    parts: dict[str, list[Item]] = {}
    for kind in (kind for kind in ("train", "val", "test", "query", "gallery") if kind in kinds):
        (folder,) = folders[kind]
        part, role = ("test", kind) if kind in SIDES else (kind, "")
        by_class = sorted(found.folders[folder], key=lambda picture: picture.partition("/")[0])
        parts.setdefault(part, []).extend(
            Item(f"{folder}/{picture}", picture.partition("/")[0], role) for picture in by_class
        )
    return {
        part: Split(part, items, sorted({item.class_name for item in items})) for part, items in parts.items()
    }


def _shared(root: Path, splits: Mapping[str, Split]) -> str:
    """Which classes are in several splits, and what to do; empty if none is."""
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
        f"{root}: classes of the same name are in several splits ({said}). A score is to tell how well classes are "
        "found that were not trained on: rename them if they are others, put all classes beside each other without "
        "splits, or say that it is meant: --allow-shared-classes."
    )


def _alike(splits: Mapping[str, Split]) -> Iterator[str]:
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
