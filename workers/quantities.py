"""Sizes and times, as people read them."""

from __future__ import annotations

import time


def time_text(seconds: float | None = None) -> str:
    """A moment in Unix seconds (default: now) as all of muster writes it: "2026-11-27T07:25:40Z", in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def bytes_text(count: float) -> str:
    """A size in the unit that fits, as disks are sold: "512 B", "3.4 MB", "1.2 TB"; a unit is 1000 of the one below."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        digits = 0 if unit == "B" else 1
        if float(f"{size:.{digits}f}") < 1000:
            return f"{size:.{digits}f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
