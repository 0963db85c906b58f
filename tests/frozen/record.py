"""Records what must stay from one release to the next: run it on the code before a redesign, never to quiet a test.

    python -m tests.frozen.record            makes the store anew and writes store.tar.xz and frozen.json
    python -m tests.frozen.record --compare  makes it anew and says what differs from what was recorded

On one machine the second must find nothing, hashes of weights included; on another, those may differ.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tests.cli import Muster
from tests.frozen import made, surface

HERE = Path(__file__).parent
FROZEN, ARCHIVE = HERE / "frozen.json", HERE / "store.tar.xz"


def main() -> None:
    """Entry point."""
    found = record()
    if "--compare" in sys.argv[1:]:
        problems = differences(json.loads(FROZEN.read_text()), found)
        print("\n".join(problems) or "Nothing differs.")
        sys.exit(1 if problems else 0)
    FROZEN.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    with tarfile.open(ARCHIVE, "w:xz") as archive:
        archive.add(made.STORE, "store", filter=_light)
    print(f"{FROZEN}: {FROZEN.stat().st_size:,} bytes; {ARCHIVE}: {ARCHIVE.stat().st_size:,} bytes")


def record() -> dict[str, Any]:
    """Runs everything on a store of its own; what is frozen of it."""
    shutil.rmtree(made.ROOT, ignore_errors=True)
    made.make_images()
    with tempfile.TemporaryDirectory() as home:
        muster = Muster(
            {
                **os.environ,
                "MUSTER_STATE_DIR": f"{home}/state",
                "MUSTER_CACHE": f"{home}/cache",
                "COLUMNS": "80",
            }
        )
        muster("cluster", "up", "--num-cpus", 2)
        try:
            events: dict[str, Any] = {}
            for name, words in made.RUNS.items():
                print(name, flush=True)
                muster(*words, *made.WHERE, "--name", name, "--json", timeout=580)
                events[name] = _events(made.STORE / "runs" / name)
        finally:
            muster("cluster", "down", "--yes")
        return {
            "names": made.names(muster),
            "documents": made.read_all(muster),
            "digests": made.digests(),
            "tree": made.tree(),
            "events": events,
            "surface": surface.surface(),
        }


def _events(run: Path) -> dict[str, list[str]]:
    """The fields of each kind of event of a run."""
    found: dict[str, set[str]] = {}
    for path in sorted(run.glob("events/*.jsonl")):
        for line in path.read_text().splitlines():
            item = json.loads(line)
            kind = f"{item['event']} {item.get('state', '')}".strip()
            found.setdefault(kind, set()).update(item)
    return {kind: sorted(fields) for kind, fields in sorted(found.items())}


def _light(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Without the weights, which plans and readers never open and whose hashes are in the commit records."""
    if entry.name.endswith(".safetensors"):
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = made.TIME
    return entry


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """What differs between two documents, a line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [
            line
            for key in keys
            for line in differences(old.get(key, "nothing"), new.get(key, "nothing"), f"{where}/{key}")
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            line
            for n, pair in enumerate(zip(old, new, strict=True))
            for line in differences(*pair, f"{where}/{n}")
        ]
    if isinstance(old, float) and isinstance(new, float) and math.isclose(old, new, rel_tol=1e-4):
        return []  # the last digits are the processor's
    return [] if old == new else [f"{where}: was {str(old)[:300]}, is {str(new)[:300]}"]


if __name__ == "__main__":
    main()
