"""What a GPU makes of muster's training, embedding and scoring: fifteen measurements, one JSON line each.

    python benchmarks/bench_gpu.py [--only NAME ...] [--out FILE] [--small]

It uses `muster.workers` alone, makes its own images (noise), takes under ten minutes on one GPU, and goes on where one
measurement fails. Each line has the measurement's name, its results, and what was aimed at; the first one says which
device, driver and versions. On a CPU, `--small` shows that everything runs: the numbers mean nothing there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(ROOT.parent / "src")]

import torch  # noqa: E402
from gpu import members, scores, steps  # noqa: E402
from gpu.common import Bench, UnmeasuredError  # noqa: E402

#: Each with what was aimed at for an H100.
MEASUREMENTS: dict[str, tuple[Callable[[Bench], dict[str, Any]], str]] = {
    "resident steps": (steps.resident_steps, ">= 7,500 / 9,500 / 10,000 images/s; googlenet >= 5,000 eager"),
    "loop": (steps.loop, ">= 95 % of eager"),
    "waits": (steps.waits, "0"),
    "input": (steps.input_alone, "2 threads >= twice the GPU's need; gather >= 100,000 images/s"),
    "cold start": (members.cold_start, "<= 8 s, a second member <= 0.5 s"),
    "checkpoint": (members.checkpoints, "<= 20 ms"),
    "whole member": (members.whole_member, "<= 12 s warm, GPU busy >= 85 %"),
    "processes": (members.together, "no more than 1.05 times one process, once its gaps are mended"),
    "stacked": (scores.stacked, "conv4 >= 4 times; resnet18 below 1"),
    "out of memory": (members.out_of_memory, "the neighbour unchanged"),
    "deterministic": (members.deterministic, "the same bits, at most 15 % slower"),
    "arithmetic": (steps.arithmetic, "bf16 and TF32 several times fp32"),
    "recall": (scores.recall_by_precision, "bf16 within one deviation of fp32"),
    "evaluation": (scores.evaluation, "<= 10 s; hits equal but for near ties; clusters <= 30 s"),
    "embedding": (scores.embedding, ">= 7,000 images/s, within 1e-5"),
    "BIER": (scores.bier_step, "<= 15 ms"),
}


def where(bench: Bench) -> dict[str, Any]:
    """The device and the versions."""
    from muster.workers.member import environment

    found = environment(bench.device)
    if bench.on_gpu:
        facts = torch.cuda.get_device_properties(bench.device)
        found |= {
            "capability": f"{facts.major}.{facts.minor}",
            "memory_gb": round(facts.total_memory / 1e9, 1),
        }
    return {**found, "small": bench.small}


def measured(name: str, bench: Bench) -> dict[str, Any]:
    work, target = MEASUREMENTS[name]
    started, line = time.monotonic(), {"measurement": name, "target": target}
    try:
        line["found"] = work(bench)
    except UnmeasuredError as error:
        line["not measured"] = str(error)
    except Exception as error:  # the others still say something
        line["failed"] = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    if bench.on_gpu:
        torch.cuda.empty_cache()
    return {**line, "seconds": round(time.monotonic() - started, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    parser.add_argument("--out", type=Path, help="A file that gets the lines too.")
    parser.add_argument("--small", action="store_true", help="Small sizes, to see that everything runs.")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    bench = Bench(torch.device(options.device), options.small, options.repeats)
    if not bench.on_gpu and not bench.small:
        parser.error("there is no GPU here; --small shows on a CPU that everything runs")
    lines = []
    for line in (where(bench), *(measured(name, bench) for name in options.only)):
        lines.append(json.dumps(line))
        print(lines[-1], flush=True)
        if options.out:
            options.out.write_text("\n".join(lines) + "\n")
    return int(any('"failed"' in line for line in lines))


if __name__ == "__main__":
    sys.exit(main())
