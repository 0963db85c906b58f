"""Names of files: bytes to the system, text to everybody else."""

from __future__ import annotations

import os
import re
import sys


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
