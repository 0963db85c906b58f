"""`folder`: any directory of class folders.

ROOT/train/CLASS/*.jpg and ROOT/test/CLASS/*.jpg      the split is given, or
ROOT/CLASS/*.jpg                                      the first half of the classes, by name, trains
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from muster.workers.datasets.base import Item, Split, Traits, files_digest, read_rgb
from muster.workers.errors import UsageError
from muster.workers.names import is_text, no_text

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}


class ImageFolder:
    """A directory of class folders; names are compared as the file system sorts them, by code point."""

    name = "folder"
    differences: Sequence[str] = ()

    def __init__(self, root: Path) -> None:
        self.root = root
        # The statistics that torchvision's pretrained networks were trained with; override with --set.
        self.traits = Traits(
            title=f"folder {root}", flip=True, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
        )

    def splits(self) -> Mapping[str, Split]:
        """Train and test. Raises UsageError if the folder is missing, or has too few classes."""
        if not self.root.is_dir():
            raise UsageError(
                f"The data root {self.root} is not a folder. Give --data-root a folder of class folders."
            )
        try:
            return self._splits()
        except OSError as error:
            raise UsageError(f"The data root {self.root} can't be listed: {error}.") from error

    def _splits(self) -> Mapping[str, Split]:
        if (self.root / "train").is_dir() and (self.root / "test").is_dir():
            return {
                name: self._split(name, _folders(self.root / name), f"{name}/") for name in ("train", "test")
            }
        classes = _folders(self.root)
        if len(classes) < 4:
            loose = sum(path.suffix.lower() in SUFFIXES for path in self.root.iterdir())
            beside = f" and {loose} images that lie in no class folder" if loose else ""
            raise UsageError(
                f"{self.root} has {len(classes)} class folder(s){beside}: at least 4 are needed to keep training "
                "and test classes apart. Expected ROOT/CLASS/image.jpg, or ROOT/train/CLASS/... and ROOT/test/CLASS/..."
            )
        half = (len(classes) + 1) // 2
        return {
            "train": self._split("train", classes[:half], ""),
            "test": self._split("test", classes[half:], ""),
        }

    def _split(self, name: str, classes: list[str], prefix: str) -> Split:
        items = [
            Item(f"{prefix}{label}/{image}", label)
            for label in classes
            for image in _images(self.root / prefix / label)
        ]
        odd = [item.image_id for item in items if not is_text(item.image_id)]
        if odd:
            shown = ", ".join(repr(name) for name in odd[:10])
            why, cure = no_text(odd[0])
            raise UsageError(f"{self.root} has file names that are {why}: {shown}. {cure}")
        present = {item.class_name for item in items}
        if not items:
            raise UsageError(
                f"{self.root / prefix} has no images for the {name} split. "
                f"Images end in {', '.join(sorted(SUFFIXES))} and lie in a folder of their class."
            )
        return Split(name, items, [label for label in classes if label in present])

    def read(self, item: Item) -> Image.Image:
        return read_rgb(self.root / item.image_id)

    @property
    def image_root(self) -> str:
        return str(self.root.absolute())

    def source_digest(self, split: Split) -> str:
        return files_digest(self.root, split, extra=f"folder/{split.name}/{self.root.absolute()}")


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
