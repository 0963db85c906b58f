"""Reads the annotations of MATLAB files: the rows of a struct array, as plain values."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from muster.workers.datasets.lists import MOST_BYTES, Lists
from muster.workers.errors import UsageError

#: What the struct array is called.
VARIABLE = "annotations"
#: Of MATLAB's level 5 format: bytes before the first element, and the type of one that is packed.
_HEADER, _PACKED = 128, 15


def struct_rows(lists: Lists, file: str, fields: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The place and the given fields, as text, of each row of the struct array of annotations.

    Raises UsageError if the file can't be read, or has no such array or fields.
    """
    path = lists.home / file
    array = _load(str(path))
    names = array.dtype.names or ()
    lacking = [name for name in fields if name not in names]
    if lacking:
        raise UsageError(
            f"{path}: {VARIABLE} lacks the field(s) {', '.join(lacking)}; it has {', '.join(names) or 'none'}."
        )
    for number, row in enumerate(array, start=1):
        values = [_text(row[name]) for name in fields]
        yield f"{file}, row {number}", values


def _load(path: str) -> np.ndarray[Any, Any]:
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError as error:
        raise UsageError(f"{path}: reading MATLAB files needs scipy: pip install scipy.") from error
    try:
        _check_unpacked(Path(path))
        content = loadmat(path, squeeze_me=True, variable_names=[VARIABLE])
    except Exception as error:  # a damaged file makes scipy raise nearly anything
        raise UsageError(f"{path} can't be read as a MATLAB file: {error}.") from error
    if VARIABLE not in content:
        raise UsageError(f"{path} has no variable {VARIABLE!r}.")
    return np.atleast_1d(content[VARIABLE])


def _check_unpacked(path: Path) -> None:
    """Raises ValueError for a file whose packed elements unpack to more than any list of images is."""
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    left, size = MOST_BYTES, path.stat().st_size
    if size > left:
        raise ValueError("it is larger than any list of images")
    with path.open("rb") as file:
        order = ">" if file.read(_HEADER)[-2:] == b"MI" else "<"
        while len(tag := file.read(8)) == 8:
            kind, length = struct.unpack(f"{order}II", tag)
            if kind != _PACKED:
                file.seek(min(length, size), os.SEEK_CUR)
                continue
            unpack, rest = zlib.decompressobj(), file.read(min(length, size))
            while rest and not unpack.eof:
                left -= len(unpack.decompress(rest, 1 << 20))
                rest = unpack.unconsumed_tail
                if left < 0:
                    raise ValueError(f"it unpacks to more than {MOST_BYTES >> 20} MB")


def _text(value: Any) -> str:
    """A field's value; of an array that squeezing left whole, what is in it."""
    return " ".join(str(part) for part in np.atleast_1d(value).ravel())
