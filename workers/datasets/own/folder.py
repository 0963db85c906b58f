"""`folder`: any directory of pictures in class folders.

ROOT/CLASS/*.jpg                                      the first half of the classes, by name, trains, or
ROOT/train/CLASS/*.jpg and ROOT/test/CLASS/*.jpg      the split is given: also val/, and query/ and gallery/ for test/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from muster.workers.datasets.base import Item, Reading, Split, Traits, files_digest
from muster.workers.datasets.own.account import BESIDE
from muster.workers.datasets.own.first_reading import first_splits
from muster.workers.datasets.own.pictures import MEAN, STD, OwnPictures
from muster.workers.datasets.own.scan import Found, scan
from muster.workers.datasets.own.splits import LEAST_CLASSES, SIDES, SPLITS
from muster.workers.errors import StoreError, UsageError
from muster.workers.names import no_text, shortened
from muster.workers.store.remote import AnyPath, RemotePath, no_folder

LAYOUTS = (
    "Expected ROOT/CLASS/image.jpg, or ROOT/train/CLASS/... and ROOT/test/CLASS/..., where val/ may stand beside them, "
    "and query/ and gallery/ for test/"
)


class ImageFolder(OwnPictures):
    """A directory of class folders; names are compared as the file system sorts them, by code point."""

    name = "folder"

    @cached_property
    def traits(self) -> Traits:
        found = Traits(title=f"folder {self.root}", flip=True, mean=MEAN, std=STD, published=False)
        if self.reading.version > 1 and self.reading.layout != "classes" and self._kinds() >= SIDES:
            return replace(found, protocol="query images are looked for in the gallery")
        return found

    def splits(self) -> Mapping[str, Split]:
        """Train and test, and val if it is given. Raises UsageError if the folder is missing, has too few classes, or
        holds what can't be told or read."""
        if not self.root.is_dir():
            raise UsageError(f"{no_folder(self.root)} Give --data-root a folder of class folders.")
        if self.reading.version == 1 and isinstance(self.root, RemotePath):
            raise UsageError(
                f"reading = 1: {self.root} is no folder on a disk, which that rule was made for."
            )
        try:
            if isinstance(self.root, Path) and self.reading.version == 1:
                return first_splits(self.root)
            found = scan(self.root)
        except OSError as error:
            raise UsageError(f"The data root {self.root} can't be listed: {error}.") from error
        self.account = found.account
        if problems := list(_refused(found, self.reading)):
            raise UsageError(problems)
        if not _is_split(found, self.reading.layout):
            return self.kept_apart(_by_class(found, self))
        self.as_given()
        return self.kept_apart(_given(found))

    def opened(self, item: Item) -> AnyPath:
        return self.root / item.image_id

    @property
    def image_root(self) -> str:
        return str(self.root.absolute())

    def source_digest(self, split: Split) -> str:
        extra = f"{self.read_how(split)}folder/{split.name}/{self.root.absolute()}"
        return files_digest(self.root, split, extra)

    def gives_validation(self) -> bool:
        """Whether there is a folder with such a name; only the root is listed."""
        if self.reading.split_by == "file":
            return "val" in self.listed_classes().values()
        return self.reading.version > 1 and self.reading.layout != "classes" and "val" in self._kinds()

    def _kinds(self) -> set[str]:
        """The splits that folders at the top are named like, and that hold folders; none if it can't be listed."""
        try:
            named = {path: SPLITS.get(path.name.casefold(), "") for path in self.root.iterdir()}
            return {kind for path, kind in named.items() if kind and any(p.is_dir() for p in path.iterdir())}
        except (OSError, StoreError):  # is said where the pictures are listed
            return set()


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


def _by_class(found: Found, data: ImageFolder) -> dict[str, Split]:
    """Splits by class, of those that have a picture."""
    classes = sorted(name for name, pictures in found.folders.items() if pictures)
    if len(classes) < LEAST_CLASSES:
        beside = "".join(f" {text}" for text in found.account.texts())
        deeper = [name for name in classes if found.has_classes(name)]
        hint = f" Are the classes those in {deeper[0]}? Then give --data-root that folder." if deeper else ""
        raise UsageError(
            f"{found.root} has {len(classes)} class folder(s) with pictures: at least {LEAST_CLASSES} are needed to "
            f"keep training and test classes apart. {LAYOUTS}.{hint}{beside}"
        )

    def split(name: str, names: list[str]) -> Split:
        items = [Item(f"{label}/{picture}", label) for label in names for picture in found.folders[label]]
        return Split(name, items, names)

    return {name: split(name, names) for name, names in data.divided(classes).items()}


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
    return {part: Split.of(part, items) for part, items in parts.items()}
