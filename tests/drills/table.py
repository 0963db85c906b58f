"""The drills' table: `python -m tests.drills.table FILE`, where FILE has a line of JSON for each drill that ran."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HEAD = ("drill", "times run", "passed", "faults injected", "epochs repeated", "members lost")


def drawn(rows: Iterable[Mapping[str, Any]]) -> str:
    """A Markdown table with a row for each drill, in the order in which they came."""
    drills: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        drills.setdefault(row["drill"], []).append(row)
    lines = ["| " + " | ".join(HEAD) + " |", "| --- |" + " ---: |" * (len(HEAD) - 1)]
    for name, found in drills.items():
        sums = [sum(int(row[field]) for row in found) for field in ("passed", "faults", "repeated", "lost")]
        lines.append("| " + " | ".join([name, str(len(found)), *map(str, sums)]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(drawn(json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()))
