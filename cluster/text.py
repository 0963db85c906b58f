"""Text that came from elsewhere, made fit to be shown: a file's name or a log may hold anything."""

from __future__ import annotations

import re
import unicodedata

#: Colours, cursor movements, window titles and links, as terminals obey them.
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[ -/]*[0-Z\\-~])"
)


def without_colours(text: str) -> str:
    """The text less the escape codes that a program wrote for a terminal."""
    return _ESCAPES.sub("", text)


def printable(text: str, *, keep: str = "\n\t") -> str:
    r"""The text with every character that would act instead of being seen written as \x1b or \u202e.

    Those are control characters but for `keep`, what turns the direction of writing, and bytes that are no text.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char in keep or not _acts(char) else _escaped(char) for char in text)


def _acts(char: str) -> bool:
    kind = unicodedata.category(char)
    # Cf holds joiners that scripts and emoji need: only those that reorder a line are meant.
    return kind in {"Cc", "Cs", "Zl", "Zp"} or unicodedata.bidirectional(char) in {
        "LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI",
    }  # fmt: skip


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is no text
        return f"\\x{code - 0xDC00:02x}"
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    )
