"""What all of one's own pictures share, in whatever form they come: the statistics, and how a picture is read."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import IO

from muster.workers.datasets.base import DataSet, Item, Reading, Split, Traits
from muster.workers.datasets.own.account import Account
from muster.workers.datasets.own.rows import cell_text, open_table
from muster.workers.datasets.own.splits import alike_texts, from_list, halves, kind_of, shared_problem
from muster.workers.datasets.pictures import (
    HEIC_SUFFIXES,
    BadPictureError,
    Picture,
    PictureRule,
    formats,
    read_header,
    read_picture,
)
from muster.workers.errors import BAD_SHOWN, BadImagesError, UsageError
from muster.workers.names import first_and_last
from muster.workers.spec import Triple
from muster.workers.store.remote import AnyPath, RemotePath, place

# The statistics that torchvision's pretrained networks were trained with; --set overrides them.
MEAN: Triple = (0.485, 0.456, 0.406)
STD: Triple = (0.229, 0.224, 0.225)


class OwnPictures(ABC):
    """Pictures of one's own below a root, read by a `Reading`."""

    name: str
    together = "put all classes beside each other without splits"
    "How classes that several splits share are put together."
    ungiven = "Leave it out, or put all classes beside each other without splits."
    "What to do where the splits that are given are not wanted."
    differences: Sequence[str] = ()

    def __init__(self, root: AnyPath, reading: Reading = Reading()) -> None:
        self.root, self.reading = root, reading
        self.account: Account | None = None
        self.warnings: Sequence[str] = ()
        newer = reading.version > 1
        self.rule = PictureRule(
            background=reading.background if newer else "",
            transpose=reading.transpose,
            strict=newer,
            most_pixels=reading.most_pixels,
        )

    @property
    @abstractmethod
    def traits(self) -> Traits: ...

    @abstractmethod
    def splits(self) -> Mapping[str, Split]: ...

    @abstractmethod
    def source_digest(self, split: Split) -> str: ...

    @property
    @abstractmethod
    def image_root(self) -> str | None: ...

    @abstractmethod
    def opened(self, item: Item) -> AnyPath | IO[bytes]:
        """An image's file, or its bytes. Raises BadPictureError if there are none."""

    @abstractmethod
    def gives_validation(self) -> bool:
        """Whether it seems to come with a validation split; no picture is listed for it."""

    def read(self, item: Item) -> Picture:
        """The image as RGB. Raises BadPictureError."""
        source = self.opened(item)
        return read_picture(_whole(source) if isinstance(source, RemotePath) else source, self.rule)

    def header(self, item: Item) -> set[str]:
        """What must be said of an image, without decoding it. Raises BadPictureError."""
        source = self.opened(item)
        return read_header(source.open("rb") if isinstance(source, RemotePath) else source, self.rule)

    def whereabouts(self, image_ids: Collection[str]) -> Mapping[str, str]:
        """Where people find these images, where their names do not say it: the line of a list."""
        return {}

    def kept_apart(self, splits: Mapping[str, Split]) -> Mapping[str, Split]:
        """The splits, looked at: names that look the same are told. Raises UsageError where splits share classes and
        that was not said to be meant."""
        if not self.reading.shared and (problem := shared_problem(self.root, splits, self.together)):
            raise UsageError(problem)
        account = self.account.texts() if self.account is not None else []
        self.warnings = (*self.warnings, *account, *alike_texts(splits))
        return splits

    def as_given(self) -> None:
        """Raises UsageError where splits are given, and it is said which classes train all the same."""
        if self.reading.split_by != "half":
            raise UsageError(
                f"{self.root}: splits are given, and --split-by {self.reading.split_by} would make others. "
                f"{self.ungiven}"
            )

    def divided(self, classes: Sequence[str]) -> dict[str, list[str]]:
        """Which of these classes are in which split, where no splits are given. Raises UsageError."""
        if self.reading.split_by != "file":
            return halves(classes, self.reading.split_by, self.reading.split_seed)
        given = self.listed_classes()
        if left := sorted(set(classes) - set(given)):
            self.warnings = (
                *self.warnings,
                f"{len(left):,} class(es) are in no split of {self.reading.split_file} and left out: "
                f"{first_and_last(left)}.",
            )
        return from_list(self.reading.split_file, given, classes)

    def listed_classes(self) -> dict[str, str]:
        """The split of each class that the list of classes names. Raises UsageError."""
        table = open_table(place(self.reading.split_file))
        if lacking := [name for name in ("label", "split") if name not in table.columns]:
            raise UsageError(
                f"{table.path} has no column {' and '.join(lacking)}; it has {', '.join(table.columns)}. It should "
                "name each class and its split: train, val or test."
            )
        found: dict[str, str] = {}
        for row in table.rows(["label", "split"]):
            label, split = map(cell_text, row.cells)
            kind = kind_of(split)
            if not label:
                raise UsageError(
                    f"{table.at(row.where)}: it has no label. Name its class, or remove the row."
                )
            if kind not in {"train", "val", "test"}:
                raise UsageError(f"{table.at(row.where)}: {split!r} is none of train, val, test.")
            if found.setdefault(label, kind) != kind:
                raise UsageError(f"{table.at(row.where)}: {label} is in {found[label]} and in {kind}.")
        return found

    def read_how(self, split: Split) -> str:
        """How a split's pictures are read, for its digest. Reading 1 is not named in it, as its packs are older than
        that there were two."""
        how = self.reading
        found = f"reading {how.version}/{how.background}/{how.transpose}/" if how.version > 1 else ""
        if "HEIF" not in formats() and any(
            Path(item.image_id).suffix.lower() in HEIC_SUFFIXES for item in split.items
        ):
            found += "without HEIC/"  # which can be read when its package is here
        return found


def _whole(path: RemotePath) -> IO[bytes]:
    """A picture's file, read at once. Raises BadPictureError if it is gone; what the store can't give raises
    StoreError."""
    try:
        return io.BytesIO(path.read_bytes())
    except FileNotFoundError as error:
        raise BadPictureError("it is gone") from error


def bad_images_error(which: str, bad: Sequence[tuple[str, str]], data: DataSet) -> BadImagesError:
    """The error for images of a data set that can't be read, of which the name and the cause are known; where they are
    listed is said of those that are shown."""
    where = data.whereabouts({name for name, _ in bad[:BAD_SHOWN]}) if isinstance(data, OwnPictures) else {}
    shown = [(f"{where[name]}: {name}" if name in where else name, cause) for name, cause in bad]
    return BadImagesError.of(which, shown)
