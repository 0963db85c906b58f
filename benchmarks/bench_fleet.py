"""What the fleet costs: members trained through `muster launch` against the same members in bare processes.

Both train the same keys on this machine, two at a time, one after the other in one run; the bare processes
call `muster.workers.member.run_member` with no Ray, no scheduler and no command line. Prints one JSON line; `ratio` is
the fleet's training stage over the bare processes' wall time (1.0: the fleet costs nothing).

    python benchmarks/bench_fleet.py [members] [epochs]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MEMBER = """
import sys, torch
from muster.orchestrator.ensemble.plan import member_tasks, prepare
from muster.orchestrator.methods.loading import load
from muster.workers.member import run_member
from muster.workers.store.layout import Store
members, epochs, storage, index = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
flags = {"ensemble.L": members, "recipe.epochs": epochs, "storage": storage}
request = load(None, flags, [])
store = Store(storage)
tasks = member_tasks(request, prepare(request, store, None), "none", "fp32")
run_member(store, tasks[index], f"bare-{index}", torch.device("cpu"))
"""


def bare(members: int, epochs: int, storage: str) -> float:
    """Seconds for all members, two processes at a time; the images are packed before."""
    from muster.orchestrator.ensemble.plan import prepare
    from muster.orchestrator.methods.loading import load
    from muster.workers.store.layout import Store

    prepare(load(None, {"storage": storage}, []), Store(storage), lambda *_: None)

    def train(index: int) -> None:
        command = [sys.executable, "-c", MEMBER, str(members), str(epochs), storage, str(index)]
        subprocess.run(command, check=True)

    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(train, range(members)))
    return time.monotonic() - started


def fleet(members: int, epochs: int, storage: str) -> float:
    """Seconds of the training stage of a launch, from its own events."""
    muster = Path(sys.executable).parent / "muster"
    flags = [
        "--L",
        str(members),
        "--epochs",
        str(epochs),
        "--storage",
        storage,
        "--name",
        "bench",
        "--parallel",
        "2",
    ]
    subprocess.run([muster, "launch", "dreml", *flags, "--json"], check=True, capture_output=True)
    lines = [
        line for file in Path(storage).glob("runs/bench/events/*") for line in file.read_text().splitlines()
    ]
    events = [json.loads(line) for line in lines]
    return next(
        e["seconds"] for e in events if e["event"] == "stage" and e["name"] == "train" and "seconds" in e
    )


def main() -> None:
    members, epochs = (int(value) for value in [*sys.argv[1:], "6", "4"][:2])
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"MUSTER_STATE_DIR": f"{folder}/state", "MUSTER_CACHE": f"{folder}/cache"}
        without = bare(members, epochs, f"{folder}/bare")
        through = fleet(members, epochs, f"{folder}/fleet")
    found = {
        "fleet_seconds": round(through, 1),
        "bare_seconds": round(without, 1),
        "ratio": round(through / without, 3),
    }
    print(
        json.dumps(
            {"benchmark": "fleet", "members": members, "epochs": epochs, "cores": os.cpu_count(), **found}
        )
    )


if __name__ == "__main__":
    main()
