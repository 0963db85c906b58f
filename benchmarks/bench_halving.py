"""How good halving's choice is and what it saves, from stores that hold the whole grid.

    muster search --scheduler none --D ... --max-L ... --val-classes ... --seed S --name grid-S    for each seed
    python benchmarks/bench_halving.py STORE grid-0 grid-1 grid-2 [--rungs 1,2,3,4]

A run's rows are replayed through `Halving` for each first rung: the share of the grid's members that it would
train, how far its best lies below the grid's, and the rank correlation (Spearman) between the trials' order at
the rung and at the last L. Nothing is trained. Without arguments the grid of the README is searched first,
which takes long. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.halving import Halving, rungs_of
from workers.store import Store

GRID = "--dataset glyphs --D 12,25,50,100 --max-L 16 --val-classes 40 --scheduler none"
SEEDS = (0, 1, 2)

Curves = dict[int, dict[int, float]]


def curves_of(store: Store, run: str) -> Curves:
    """The steering metric by trial and L."""
    answer = store.run(run).read("search.json")
    if answer is None:
        sys.exit(f"There is no finished search {run} in {store.root}.")
    metric, split = answer["chosen_on"]["metric"], answer["chosen_on"]["split"]
    found: Curves = {}
    for row in answer["curve"]:
        if row["split"] == split:
            found.setdefault(row["trial"], {})[row["L"]] = row[metric]
    return found


def replay(curves: Curves, first: int, reduction: int) -> dict[int, int]:
    """How far each trial would have come."""
    last = max(max(values) for values in curves.values())
    race = Halving(curves, rungs_of(first, reduction, last), reduction)
    reached = dict.fromkeys(curves, last)
    while (rung := race.rung) is not None:
        for trial in sorted(race.active):
            race.waits(trial, rung, curves[trial][rung])
        verdict = race.settle()
        assert verdict is not None
        reached |= dict.fromkeys(verdict.cut, rung)
    return reached


def ranks(values: list[float]) -> np.ndarray:
    """Ranks from 0, equal values sharing the mean of theirs."""
    array = np.asarray(values)
    return np.array([((array < x).sum() + (array <= x).sum() - 1) / 2 for x in array])


def judge(curves: Curves, first: int, reduction: int) -> dict[str, Any]:
    reached = replay(curves, first, reduction)
    last = max(max(values) for values in curves.values())
    best = max(value for values in curves.values() for value in values.values())
    found = max(curves[trial][size] for trial, most in reached.items() for size in range(1, most + 1))
    at_rung, at_last = (ranks([curves[trial][size] for trial in curves]) for size in (first, last))
    flat = at_rung.std() == 0 or at_last.std() == 0
    return {
        "share_of_grid": round(sum(reached.values()) / (len(curves) * last), 3),
        "points_below_best": round(100 * (best - found), 2),
        "rank_correlation": None if flat else round(float(np.corrcoef(at_rung, at_last)[0, 1]), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("store", nargs="?", default="store")
    parser.add_argument("runs", nargs="*", help="finished searches with --scheduler none")
    parser.add_argument("--rungs", default="1,2,3,4")
    parser.add_argument("--reduction", type=int, default=2)
    chosen = parser.parse_args()
    runs = chosen.runs
    if not runs:
        runs = [f"grid-{seed}" for seed in SEEDS]
        for seed, run in zip(SEEDS, runs, strict=True):
            flags = [*GRID.split(), "--seed", str(seed), "--name", run, "--storage", chosen.store]
            subprocess.run(
                [str(Path(sys.executable).with_name("muster")), "search", *flags],
                check=True,
                stdout=sys.stderr,
            )
    store = Store(chosen.store)
    grids = {run: curves_of(store, run) for run in runs}
    rows = []
    for first in map(int, chosen.rungs.split(",")):
        verdicts = {run: judge(curves, first, chosen.reduction) for run, curves in grids.items()}
        worst = max(row["points_below_best"] for row in verdicts.values())
        share = max(row["share_of_grid"] for row in verdicts.values())
        held = worst <= 0.3 and share <= 0.5
        rows.append(
            {"first_rung": first, "target_held": held, "worst_points": worst, "share": share, **verdicts}
        )
    print(json.dumps({"benchmark": "halving", "reduction": chosen.reduction, "rows": rows}))


if __name__ == "__main__":
    main()
