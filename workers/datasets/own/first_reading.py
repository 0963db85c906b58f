"""How `folder` was read until muster 0.2 (reading 1), for runs that began with it. Nothing here changes any more.

Only some suffixes are images, the first half of all folders trains, and what does not fit is left out without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from muster.workers.datasets.base import Item, Split
from muster.workers.errors import UsageError
from muster.workers.names import is_text, no_text

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}


def first_splits(root: Path) -> Mapping[str, Split]:
    """Train and test. Raises UsageError if there are too few classes, and OSError if a folder can't be listed."""
    if (root / "train").is_dir() and (root / "test").is_dir():
        return {name: _split(root, name, _folders(root / name), f"{name}/") for name in ("train", "test")}
    classes = _folders(root)
    if len(classes) < 4:
        loose = sum(path.suffix.lower() in SUFFIXES for path in root.iterdir())
        beside = f" and {loose} images that lie in no class folder" if loose else ""
        raise UsageError(
            f"{root} has {len(classes)} class folder(s){beside}: at least 4 are needed to keep training "
            "and test classes apart. Expected ROOT/CLASS/image.jpg, or ROOT/train/CLASS/... and ROOT/test/CLASS/..."
        )
    half = (len(classes) + 1) // 2
    return {
        "train": _split(root, "train", classes[:half], ""),
        "test": _split(root, "test", classes[half:], ""),
    }


def _split(root: Path, name: str, classes: list[str], prefix: str) -> Split:
    items = [
        Item(f"{prefix}{label}/{image}", label)
        for label in classes
        for image in _images(root / prefix / label)
    ]
    odd = [item.image_id for item in items if not is_text(item.image_id)]
    if odd:
        shown = ", ".join(repr(name) for name in odd[:10])
        why, cure = no_text(odd[0])
        raise UsageError(f"{root} has file names that are {why}: {shown}. {cure}")
    present = {item.class_name for item in items}
    if not items:
        raise UsageError(
            f"{root / prefix} has no images for the {name} split. "
            f"Images end in {', '.join(sorted(SUFFIXES))} and lie in a folder of their class."
        )
    return Split(name, items, [label for label in classes if label in present])


def _folders(root: Path) -> list[str]:
    """The class folders of a root; hidden ones and links that lead back to the root are left out."""
    return sorted(
        path.name
        for path in root.iterdir()
        if path.is_dir() and not path.name.startswith(".") and not _leads_back(path, root)
    )


def _leads_back(path: Path, root: Path) -> bool:
    return path.is_symlink() and root.resolve().is_relative_to(path.resolve())


def _images(root: Path) -> list[str]:
    """Image files at any depth below a class folder, as relative names; hidden files and folders, and links
    to folders, are left out."""
    found = (
        path.relative_to(root)
        for path in root.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))
