"""Damage to the files of a store: emptied, cut, and with one byte that is another."""

from __future__ import annotations

import random
from pathlib import Path

HOW = ("emptied", "cut", "flipped")
TEXT = {".json", ".jsonl", ".log", ".html", ".svg"}


def damage(file: Path, how: str, seed: int = 0) -> None:
    """Leaves nothing of a file, its first half, or all of it but one byte; `seed` chooses which. Of text it is a digit,
    which makes another number of it: the file goes on looking right."""
    data = bytearray(file.read_bytes())
    assert data
    if how == "emptied":
        data.clear()
    elif how == "cut":
        del data[len(data) // 2 :]
    else:
        draw = random.Random(f"{file.name} {seed}")
        digits = [place for place, byte in enumerate(data) if byte in b"0123456789"]
        if file.suffix in TEXT and digits:
            place = draw.choice(digits)
            data[place] = ord("0") + (data[place] - ord("0") + draw.randrange(1, 10)) % 10
        else:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    file.write_bytes(data)
