"""Where files are read from: the file systems of pyarrow and fsspec, and a file that outlives their troubles."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs as pafs

from muster.workers.errors import StoreError, said
from muster.workers.store.addresses import parse_address, without_secrets

#: Seconds for which Google's client repeats a request by itself.
GOOGLE_SECONDS = 10
#: What may stand in a URI; what else people write (blanks, letters with accents) is put in its escaped form.
PLAIN = "%:/?#[]@!$&'()*+,;=~"
#: Schemes that pyarrow opens itself; others go to fsspec.
ARROW_SCHEMES = {"file", "s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss"}


class Reader(io.RawIOBase):
    """A file as Python reads one, byte by byte as they are asked for. It is opened anew after trouble.

    `opened` gives pyarrow's file; `trying` calls what reads, as often as it finds right.
    """

    def __init__(self, opened: Callable[[], Any], trying: Callable[[Callable[[], Any]], Any]) -> None:
        self._opened, self._trying = opened, trying
        self._file: Any = None
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}
        self._at = (start[whence] if whence in start else self._with(lambda file: int(file.size()))) + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        found = self._with(lambda file: file.read_at(len(buffer), self._at))
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def _with(self, act: Callable[[Any], Any]) -> Any:
        def once() -> Any:
            file, self._file = self._file or self._opened(), None
            found = act(file)
            self._file = file  # it can be read: else it is opened anew
            return found

        return self._trying(once)


def open_root(root: str) -> tuple[Any, str]:
    """The file system of a root, a path or a URI, and the root in it. Raises StoreError."""
    if "://" not in root:
        return pafs.LocalFileSystem(), str(Path(root).expanduser().absolute())
    try:
        filesystem, path = pafs.FileSystem.from_uri(_in_time(quote(root, safe=PLAIN)))
    except (OSError, pa.ArrowException) as error:
        if root.partition("://")[0] in ARROW_SCHEMES:
            cause = without_secrets(str(error).replace(quote(root, safe=PLAIN), root), root)
            raise StoreError(f"Can't open {parse_address(root).bare}: {cause}.") from None
        try:
            import fsspec

            other, path = fsspec.core.url_to_fs(root)
            filesystem = pafs.PyFileSystem(pafs.FSSpecHandler(other))
        except Exception as failure:
            cause = without_secrets(str(failure) or said(failure), root)
            raise StoreError(
                f"Can't open {parse_address(root).bare}: {cause}. Use a folder, s3://bucket/path, or "
                "another address that pyarrow or an installed fsspec package opens."
            ) from None
    return filesystem, path.rstrip("/")


def _in_time(address: str) -> str:
    """An address of Google's, whose client would ask for a quarter of an hour by itself: `patience` is ours."""
    if not address.startswith(("gs://", "gcs://")) or "retry_limit_seconds" in address:
        return address
    return f"{address}{'&' if '?' in address else '?'}retry_limit_seconds={GOOGLE_SECONDS}"
