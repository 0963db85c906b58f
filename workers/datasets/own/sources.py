"""The files that a table of pictures is made of, what their columns are called, and which split their names say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from muster.workers.datasets.base import Reading
from muster.workers.datasets.own.rows import Table, open_table
from muster.workers.datasets.own.splits import KINDS, kind_of
from muster.workers.errors import UsageError
from muster.workers.names import shortened
from muster.workers.store.records import parse_json
from muster.workers.store.remote import AnyPath, inner_name

#: What is read of a row beside the picture and its label, where a table has it.
FURTHER = ("split", "role", "is_query", "is_gallery")
NAMES = ("path", "image", "label", *FURTHER)
#: Parquet files lie at most so many folders below a root, as `default/train/0000.parquet`.
DEPTH = 2
UNFINISHED = (".incomplete", ".part", ".partial", ".crdownload", ".tmp", ".download")


@dataclass(frozen=True)
class Source:
    """A file with rows."""

    table: Table
    split: str
    "Which split its name says; empty: none."
    columns: dict[str, str]
    "Our names of the columns that are read, with the file's: `label`, `path` or `image`, and what more there is."

    @property
    def told(self) -> dict[str, str]:
        """What is read of each row: all but the pictures themselves, which may be larger than the memory."""
        return {ours: theirs for ours, theirs in self.columns.items() if ours != "image"}

    @property
    def says_splits(self) -> bool:
        return bool(self.split) or "split" in self.columns


def sources(root: AnyPath, listed: AnyPath | None, reading: Reading) -> list[Source]:
    """The files: the list, or all of a data set of Hugging Face's at the root. Raises UsageError if there are none, if
    they lack columns, or if it can't be told whether they say splits."""
    files = [(listed, "")] if listed is not None else list(_hugging_face(root))
    if not files:
        raise UsageError(
            f"{root} has no Parquet files, and no data set that was saved to disk. Name your table: --list items.csv."
        )
    found = []
    for path, split in files:
        table = open_table(path, inner_name(path, root) or "")
        columns = _columns(table, dict(one.split("=", 1) for one in reading.columns))
        if reading.layout == "classes":
            split, _ = "", columns.pop("split", None)  # noqa: PLW2901
        found.append(Source(table, split, columns))
    silent = [source.table.shown for source in found if not source.says_splits]
    if silent and len(silent) < len(found):
        raise UsageError(
            f"{root}: some files say which split they are, and these do not: {shortened(silent)}. Name the one that is "
            "meant: --list, or put all classes beside each other: --layout classes."
        )
    if silent and reading.layout == "splits":
        raise UsageError(
            f"--layout splits: {listed or root} says no splits; it would be in a column `split`."
        )
    names = [source.table.names(source.columns["label"]) for source in found]
    if any(one != names[0] for one in names):
        raise UsageError(
            f"{root}: the files name their classes differently, or some do not name them: "
            f"{shortened([source.table.shown for source in found])}. Take all from one version of the data set."
        )
    if len({"path" in source.columns for source in found}) > 1:
        raise UsageError(
            f"{root}: some files have paths of pictures, and some the pictures. Name one: --list."
        )
    return found


def _columns(table: Table, mapping: dict[str, str]) -> dict[str, str]:
    """What is read of a table. Raises UsageError if it lacks what must be there, or what is named."""
    there = table.columns
    named = {ours: mapping.get(ours, ours) for ours in NAMES}
    lacking = [theirs for theirs in mapping.values() if theirs not in there]
    both = [name for name in ("path", "image") if named[name] in there]
    if len(both) == 2 and named["image"] in table.image_columns and len({*both} & {*mapping}) != 1:
        raise UsageError(
            f"{table.path} has a column of paths and one of pictures. Say which is meant: --columns "
            f"path={named['path']}, or --columns image={named['image']}."
        )
    found = {ours: named[ours] for ours in ("label", *FURTHER) if named[ours] in there}
    if "label" not in found:
        lacking.append(named["label"])
    if named["path"] in there and not (len(both) == 2 and "image" in mapping):
        found["path"] = named["path"]
    elif named["image"] in table.image_columns:
        found["image"] = named["image"]
    elif len(table.image_columns) == 1 and "image" not in mapping:
        (found["image"],) = table.image_columns
    else:
        lacking.append(named["path"])
    if lacking == [named["path"]] and len(table.image_columns) > 1:
        raise UsageError(
            f"{table.path} has several columns of pictures: {', '.join(table.image_columns)}. Say which is meant: "
            f"--columns image={table.image_columns[0]}."
        )
    if lacking:
        raise UsageError(
            f"{table.path} has no column {' and '.join(dict.fromkeys(lacking))}; it has {', '.join(there)}. Say how "
            "yours are called: --columns path=NAME,label=NAME. For path a Parquet file may have the bytes of pictures."
        )
    if len(set(found.values())) < len(found):
        said = ", ".join(f"{ours}={theirs}" for ours, theirs in found.items())
        raise UsageError(f"{table.path}: one column is meant in two ways ({said}). Mend --columns.")
    if twice := sorted({name for name in found.values() if list(there).count(name) > 1}):
        raise UsageError(f"{table.path} has several columns of the name {' and '.join(twice)}.")
    return found


def _hugging_face(root: AnyPath) -> Iterator[tuple[AnyPath, str]]:
    """The files of a data set as `datasets` saves it to disk, or as it lies on the hub, with their splits."""
    if (root / "dataset_dict.json").is_file():
        for name in _strings(root / "dataset_dict.json", "splits"):
            yield from ((path, _kind(root, name)) for path in _saved(root / name))
    elif (root / "state.json").is_file():
        yield from ((path, "") for path in _saved(root))
    else:
        yield from _hub(root)


def _saved(folder: AnyPath) -> list[AnyPath]:
    names = _strings(folder / "state.json", "_data_files", "filename")
    _all_there(folder, names)
    return [folder / name for name in names]


def _all_there(folder: AnyPath, names: Iterable[str]) -> None:
    """Raises UsageError where files say that they are some of several (`-00000-of-00002`), and others are lacking."""
    numbered: dict[tuple[str, str, str], set[int]] = {}
    for name in names:
        if found := re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})(.*)", name):
            numbered.setdefault((found[1], found[3], found[4]), set()).add(int(found[2]))
    lacking = [
        f"{begin}-{number:05d}-of-{count}{end}"
        for (begin, count, end), numbers in numbered.items()
        for number in range(int(count))
        if number not in numbers
    ]
    if lacking:
        raise UsageError(
            f"{folder} lacks {len(lacking)} file(s) of its data set: {shortened(lacking)}. Fetch them."
        )


def _strings(path: AnyPath, key: str, inner: str = "") -> list[str]:
    """The texts in a list of a JSON file. Raises UsageError if they are not there."""
    try:
        document = parse_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from error
    except ValueError:
        document = None
    values = document.get(key) if isinstance(document, dict) else None
    found: list[Any] = [
        value.get(inner) if inner and isinstance(value, dict) else value
        for value in (values if isinstance(values, list) else ())
    ]
    if not found or not all(isinstance(name, str) and name and PurePath(name).name == name for name in found):
        what = f"{key}: a list of names" if not inner else f"{key}: a list of objects with {inner}"
        raise UsageError(f"{path} is not as Hugging Face's `datasets` writes it, with {what}.")
    if len(set(found)) < len(found):
        raise UsageError(f"{path} names a file twice.")
    return found


def _hub(root: AnyPath) -> Iterator[tuple[AnyPath, str]]:
    """Parquet files, `train-00000-of-00002.parquet` or in a folder `train/`. Raises UsageError where there are several
    configurations."""
    paths = sorted(_parquet(root), key=lambda path: str(path).split("/"))
    by_folder = [path for path in paths if path.parent != root and kind_of(path.parent.name)]
    homes = {path.parent.parent if path in by_folder else path.parent for path in paths}
    if len(homes) > 1:
        names = sorted(str(home) for home in homes)
        raise UsageError(
            f"{root} has Parquet files in several places: {shortened(names)}. Give one as --data-root."
        )
    for folder in {path.parent for path in paths}:
        _all_there(folder, (path.name for path in paths if path.parent == folder))
    for path in paths:
        name = path.parent.name if path in by_folder else path.name.partition("-")[0].partition(".")[0]
        yield path, kind_of(name) or ""


def _parquet(folder: AnyPath, depth: int = DEPTH) -> Iterator[AnyPath]:
    """Parquet files in a folder, and in those below it. Raises UsageError for one that can't be listed, and for files
    that were not fetched whole."""
    try:
        inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise UsageError(f"{folder} can't be listed: {error.strerror}.") from error
    for path in inside:
        if path.is_dir():
            yield from _parquet(path, depth - 1) if depth else ()
        elif path.suffix.lower() == ".parquet":
            yield path
        elif ".parquet." in path.name and path.name.endswith(UNFINISHED):
            raise UsageError(f"{path} was not fetched whole. Fetch it again, or remove it.")


def _kind(root: AnyPath, name: str) -> str:
    if (kind := kind_of(name)) is None:
        raise UsageError(
            f"{root} has a split {name!r}, which is none of {KINDS}. Rename it, or put all classes beside each other: "
            "--layout classes."
        )
    return kind
