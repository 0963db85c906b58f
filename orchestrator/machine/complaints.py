"""What the operating system refuses, in words: what, where, and what to do about it.

Muster's own parts tell of their own files; this is for whatever else a command touches, and is used at the one
place where every command ends.
"""

from __future__ import annotations

import errno
import os

from muster.cluster.text import printable
from muster.workers.names import is_text, no_text

#: By error number; the name of the file stands before it.
CURES = {
    errno.ENOSPC: "Free some space on that disk.",
    errno.EDQUOT: "Your quota is used up: free some space of yours, or ask for more.",
    errno.EROFS: "That disk is mounted read-only: name another place.",
    errno.EACCES: "You may not do that there: name another place, or have the rights changed (`ls -ld` shows them).",
    errno.EPERM: "The system does not allow that there: name another place.",
    errno.ENOENT: "Is the name right, and is the folder there?",
    errno.ENOTDIR: "A part of this path is a file and no folder: is the name right?",
    errno.EISDIR: "That is a folder: name a file.",
    errno.ENAMETOOLONG: "That name is longer than the disk allows: take a shorter one.",
    errno.ELOOP: "Links there lead in a circle: mend them, or name another place.",
    errno.EMFILE: "Too many files are open: raise the limit, `ulimit -n 65536`.",
    errno.ENFILE: "The machine has too many files open: end other programs, or raise fs.file-max.",
    errno.ENOMEM: "The machine is out of memory: end other programs.",
    errno.EAGAIN: "The machine has too many processes or threads: raise the limit, `ulimit -u`.",
    errno.EFBIG: "Files may not become that large here: raise the limit, `ulimit -f unlimited`.",
    errno.EIO: "Reading or writing failed in the disk itself: see `dmesg`, and name another place.",
    errno.ESTALE: "The network disk has changed under us: mount it again.",
}


def explained(error: BaseException) -> str | None:
    """A sentence for what the system, a locale or a limit gave; None for anything else."""
    if isinstance(error, UnicodeError):
        return _no_text(error)
    if not isinstance(error, OSError):
        return _limit(error)
    if isinstance(error, FileNotFoundError) and error.filename is None and _lost():
        return "the folder that this shell stands in is gone: cd to one that is there."
    where = f"{printable(os.fsdecode(error.filename))}: " if isinstance(error.filename, str | bytes) else ""
    cause = error.strerror or str(error) or type(error).__name__
    return f"{where}{cause}. {CURES.get(error.errno or 0, 'The system gave no other reason.')}"


def _limit(error: BaseException) -> str | None:
    if isinstance(error, RecursionError):
        return "a file or a setting is nested too deeply to be read: it was not written by muster."
    if isinstance(error, MemoryError):
        return "the memory that this process may use is not enough: end other programs, or raise `ulimit -v`."
    if "integer string conversion" in str(error):
        return "a whole number has more digits than can be meant."
    if "home directory" in str(error):
        return "no home folder is known for ~: set HOME, or give whole paths."
    return None


def argument_problems(words: list[str]) -> list[str]:
    """What is wrong with a command's words that no part of muster could use."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("MUSTER_")}
    return [
        *(_not_usable(word) for word in words if not is_text(word)),
        *(f"{name}: {_not_usable(value)}" for name, value in settings.items() if not is_text(value)),
    ]


def _not_usable(name: str) -> str:
    why, cure = no_text(name)
    text = printable(name)
    return f"{text if len(text) < 200 else f'{text[:200]}...'}: this name is {why}. {cure}"


def _no_text(error: UnicodeError) -> str:
    found = getattr(error, "object", "")
    if isinstance(error, UnicodeEncodeError) and isinstance(found, str):
        return _not_usable(found)
    return f"text that is not {getattr(error, 'encoding', 'UTF-8')}: {error}."


def _lost() -> bool:
    try:
        os.getcwd()
    except OSError:
        return True
    return False
