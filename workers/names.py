"""Names of files: bytes to the system, text to everybody else. And lists of names, as people read them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

#: Names that are shown of a long list.
SHOWN = 5
#: Of a name that is shown; no file system has longer ones.
MOST_LETTERS = 255


def is_text(name: str) -> bool:
    """Whether a name, as Python gives it, is what its bytes say in UTF-8."""
    try:
        return os.fsencode(name).decode() == name
    except UnicodeError:
        return False


def is_inner(name: str) -> bool:
    """Whether a name stays below the folder that it is relative to, on any system: it is no absolute path, has no disk
    and no "..", and could be a file's at all."""
    parts = name.replace("\\", "/").split("/")
    return "\0" not in name and parts[0] != "" and ".." not in parts and not re.match(r"[A-Za-z]:", name)


def no_text(name: str) -> tuple[str, str]:
    """Why a name is no text here, and what to do: its bytes are to blame, or the locale that they are read under."""
    try:
        os.fsencode(name).decode()
    except UnicodeDecodeError:
        return "not UTF-8", "Rename them."
    except UnicodeEncodeError:
        pass
    encoding = sys.getfilesystemencoding()
    return (
        f"UTF-8, which this shell's locale is not (Python reads names as {encoding} here)",
        "Set LC_ALL=C.UTF-8, or another locale of UTF-8, and unset PYTHONUTF8.",
    )


def shortened(names: Sequence[str], count: int | None = None, most: int = SHOWN) -> str:
    """The first names, and how many more there are, of `count` in all."""
    more = (len(names) if count is None else count) - min(len(names), most)
    return ", ".join(map(on_a_line, names[:most])) + (f" and {more:,} more" if more > 0 else "")


def first_and_last(names: Sequence[str], each: int = 3) -> str:
    """The first and last names of a sorted list."""
    if len(names) <= 2 * each:
        return ", ".join(map(on_a_line, names))
    return f"{', '.join(map(on_a_line, names[:each]))} ... {', '.join(map(on_a_line, names[-each:]))}"


def on_a_line(name: str) -> str:
    """A name within a sentence: one of a file may have line breaks, and a label may have no end."""
    name = name if len(name) <= MOST_LETTERS else f"{name[:MOST_LETTERS]}..."
    return name.replace("\n", "\\n").replace("\r", "\\r")
