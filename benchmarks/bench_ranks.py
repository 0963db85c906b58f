"""What Ray Train costs: BIER's step loop under `muster launch bier` against the same loop under torchrun.

Both train the same model with gloo ranks on this machine (two by default: on two cores they leave Ray's own
processes no core to spare, with one rank there is one), one after the other, several times in one run, and
beside the same idle Ray head. Steps a second are taken from the moments at which stretches between checkpoints ended,
so saving a checkpoint and waiting for each other there is part of it; the first stretch is left out as warm-up, and
start-up (command to first step) is printed apart. Prints one JSON line; `ratio` is muster's median over torchrun's.

    python benchmarks/bench_ranks.py [rounds] [steps] [checkpoint_steps] [ranks]
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

RANK = """
import datetime, os, sys, torch, torch.distributed as dist
from muster.orchestrator.ensemble.plan import member_tasks, prepare
from muster.orchestrator.methods.loading import load
from muster.workers.member import run_member
from muster.workers.store.layout import Store
from muster.workers.train.team import Team
steps, every, storage, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=300))
request = load(None, {"method": "bier", "bier.steps": steps, "storage": storage}, [])
store = Store(storage)
(task,) = member_tasks(request, prepare(request, store, None), "none", "fp32")
team = Team(dist.get_rank(), dist.get_world_size(), every)
run_member(store, task, name, torch.device("cpu"), team=team)
dist.destroy_process_group()
"""


def torchrun(steps: int, every: int, ranks: int, storage: Path, script: Path) -> None:
    """Trains under torchrun; the images are packed before."""
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    command = [*launcher, str(script), str(steps), str(every), str(storage), "bare"]
    subprocess.run(command, check=True, env=env, capture_output=True)


def muster(steps: int, every: int, ranks: int, storage: Path) -> None:
    """Trains under the fleet and Ray Train."""
    command = [str(Path(sys.executable).parent / "muster"), "launch", "bier", "--steps", str(steps)]
    how = ["--ranks", str(ranks), "--checkpoint-steps", str(every), "--storage", str(storage)]
    subprocess.run([*command, *how], check=True, capture_output=True)


def speed(storage: Path, started: float) -> tuple[float, float]:
    """Steps a second from the end of the first stretch on, and seconds from the command to the first step."""
    (done,) = storage.glob("models/*/DONE.json")
    attempt = json.loads(done.read_text())["attempt"]
    data = (done.parent / "attempts" / attempt / "history.parquet").read_bytes()
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(data)).to_pylist()
    first, last = rows[0], rows[-1]
    steps = (last["step"] - first["step"]) / (last["ended"] - first["ended"])
    return steps, first["ended"] - first["seconds"] - started


def packed(storage: Path) -> Path:
    """A fresh store that has the packed images."""
    from muster.orchestrator.ensemble.plan import prepare
    from muster.orchestrator.methods.loading import load
    from muster.workers.store.layout import Store

    request = load(None, {"method": "bier", "storage": str(storage)}, [])
    prepare(request, Store(str(storage)), lambda *_: None)
    return storage


def main() -> None:
    given = [int(argument) for argument in sys.argv[1:]]
    rounds, steps, every, ranks = [*given, *(3, 300, 50, 2)[len(given) :]]
    from muster.cluster import local

    found: dict[str, list[tuple[float, float]]] = {"torchrun": [], "muster": []}
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as scratch:
        script = Path(scratch) / "rank.py"
        script.write_text(RANK)
        mine = local.find() is None
        head = local.find() or local.start()
        try:
            for number in range(rounds):
                for kind, runs in found.items():
                    storage = packed(Path(scratch) / f"{kind}-{number}")
                    started = time.time()
                    if kind == "torchrun":
                        torchrun(steps, every, ranks, storage, script)
                    else:
                        muster(steps, every, ranks, storage)
                    runs.append(speed(storage, started))
                    print(f"{kind} {number}: {runs[-1][0]:.2f} steps/s", file=sys.stderr)
        finally:
            if mine:
                local.stop(head)
    medians = {kind: statistics.median(speed for speed, _ in runs) for kind, runs in found.items()}
    startup = {kind: round(statistics.median(wait for _, wait in runs), 1) for kind, runs in found.items()}
    print(
        json.dumps(
            {
                "benchmark": "ranks", "ratio": round(medians["muster"] / medians["torchrun"], 4),
                "steps_per_s": {kind: [round(speed, 3) for speed, _ in runs] for kind, runs in found.items()},
                "startup_s": startup, "ranks": ranks, "steps": steps, "checkpoint_steps": every, "rounds": rounds,
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
