"""Accounting for every file of a folder of pictures, against `find`, which only names them.

A million empty files are made in 10,000 class folders, some of them no pictures. Each side runs in a process of its
own, in alternation, `--rounds` times: `find ROOT -type f`, and the scan, alone and with the splits made from
it. The memory is that of the scan's process, at its most. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCAN = """
import resource, sys, time
from pathlib import Path
from muster.workers.datasets.own.scan import scan
from muster.workers.datasets import ImageFolder
scan(Path(sys.argv[2]))  # what is loaded once
started = time.perf_counter()
if sys.argv[1] == "scan":
    found = scan(Path(sys.argv[3]))
    entries = found.account.entries
else:
    data = ImageFolder(Path(sys.argv[3]))
    data.splits()
    entries = data.account.entries
print(time.perf_counter() - started, entries, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def make_files(root: Path, folders: int, each: int) -> None:
    for number in range(folders):
        folder = root / f"class {number:05d}"
        folder.mkdir(parents=True)
        for copy in range(each):
            (folder / f"{copy:05d}.{'txt' if copy == 0 else 'jpg'}").touch()


def found_seconds(root: Path) -> float:
    started = time.perf_counter()
    subprocess.run(["find", str(root), "-type", "f"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def scanned(how: str, root: Path, empty: Path) -> tuple[float, int, float]:
    words = [sys.executable, "-c", SCAN, how, str(empty), str(root)]
    seconds, entries, memory = subprocess.run(
        words, capture_output=True, text=True, check=True
    ).stdout.split()
    return float(seconds), int(entries), float(memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folders", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="muster-bench-"))
    try:
        root, empty = place / "images", place / "empty"
        empty.mkdir()
        make_files(root, options.folders, options.each)
        found_seconds(root)  # so that both find the folders in memory
        times: dict[str, list[float]] = {"find": [], "scan": [], "splits": []}
        memory = {}
        for _ in range(options.rounds):
            times["find"].append(found_seconds(root))
            for how in ("scan", "splits"):
                seconds, entries, memory[how] = scanned(how, root, empty)
                times[how].append(seconds)
        medians = {name: statistics.median(values) for name, values in times.items()}
        print(
            json.dumps(
                {
                    "benchmark": "scanning",
                    "files": entries,
                    "folders": options.folders,
                    "seconds": {name: round(value, 3) for name, value in medians.items()},
                    "scan_over_find": round(medians["scan"] / medians["find"], 3),
                    "splits_over_find": round(medians["splits"] / medians["find"], 3),
                    "memory_MB": {name: round(value) for name, value in memory.items()},
                }
            )
        )
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
