"""Packs as a launch makes them, for tests that count what is decoded and look at what is stored."""

from __future__ import annotations

from pathlib import Path

from muster.workers.datasets import ImageFolder, Item
from muster.workers.datasets.pictures import Picture
from muster.workers.packs.build import build_pack, find_pack
from muster.workers.packs.pack import PackIndex
from muster.workers.store.layout import Store

RESIZE = "squash:20"


class CountingFolder(ImageFolder):
    """An image folder that remembers which images were decoded."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.decoded: list[str] = []

    def read(self, item: Item) -> Picture:
        self.decoded.append(item.image_id)
        return super().read(item)


def build(store: Store, data: ImageFolder, *, skip_bad: bool = False, resize: str = RESIZE) -> PackIndex:
    """As a launch does it: found, or built."""
    split = data.splits()["train"]
    found = find_pack(store, data, split, resize, skip_bad)
    return found if found is not None else build_pack(store, data, split, resize, skip_bad=skip_bad)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def packs(store: Store) -> list[str]:
    """What a store's packs folder holds, less the builders' lock."""
    assert store.files.local_root is not None
    return [name for name in files_below(store.files.local_root / "packs") if name != ".lock"]
