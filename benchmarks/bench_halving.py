"""How good halving's choice is and what it saves, by replaying whole grids that were trained before.

    python benchmarks/bench_halving.py                           the grids recorded in results/, at once
    python benchmarks/bench_halving.py --store S grid-0 grid-1   finished searches with --scheduler none
    python benchmarks/bench_halving.py --store S --search        trains the grids first: half an hour of two cores

A run's rows are replayed through `Halving`, with the default schedule and with each first rung: the share of the
grid's members that it would train, how far its best lies below the grid's in points, and the rank correlation
(Spearman) between the trials' order at the rung and at the last L, on the classes that steered. Nothing is
trained. `--record` keeps the grids' values in results/. Prints one JSON line; `ratio` is the share that the
default schedule trains.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from muster.orchestrator.jobs.search.halving import Halving, make_schedule, rung_for_half
from muster.orchestrator.jobs.search.request import FIRST_RUNG
from muster.workers.store.layout import Store

GRID = "--dataset glyphs --D 12,25,50,100 --max-L 8 --val-classes 40 --scheduler none"
SEEDS = (0, 1, 2)
RECORDED = Path(__file__).parent / "results" / "halving_grids.json"
MOST_POINTS, MOST_SHARE = 0.3, 0.5

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


def shortened(curves: Curves, last: int) -> Curves:
    """The grid that ends at a smaller L: ensembles are nested."""
    return {trial: {L: value for L, value in values.items() if last >= L} for trial, values in curves.items()}


def last_of(curves: Curves) -> int:
    return max(max(values) for values in curves.values())


def replay(curves: Curves, first: int, reduction: int | None) -> dict[int, int]:
    """How far each trial would have come."""
    last = last_of(curves)
    race = Halving(curves, make_schedule(len(curves), first, last, reduction))
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


def judge(curves: Curves, first: int, reduction: int | None) -> dict[str, Any]:
    """One grid under one schedule."""
    reached = replay(curves, first, reduction)
    last = last_of(curves)
    best = max(value for values in curves.values() for value in values.values())
    found = max(curves[trial][size] for trial, most in reached.items() for size in range(1, most + 1))
    at_rung, at_last = (ranks([curves[trial][size] for trial in curves]) for size in (first, last))
    flat = at_rung.std() == 0 or at_last.std() == 0
    return {
        "share_of_grid": round(sum(reached.values()) / (len(curves) * last), 3),
        "points_below_best": round(100 * (best - found), 2),
        "rank_correlation": None if flat else round(float(np.corrcoef(at_rung, at_last)[0, 1]), 3),
    }


def judge_all(grids: dict[str, Curves], first: int, reduction: int | None) -> dict[str, Any]:
    """All grids under one schedule; the targets are the issue's: half of the members, 0.3 points."""
    rows = {run: judge(curves, first, reduction) for run, curves in grids.items()}
    worst = max(row["points_below_best"] for row in rows.values())
    share = max(row["share_of_grid"] for row in rows.values())
    schedule = make_schedule(
        len(next(iter(grids.values()))), first, last_of(next(iter(grids.values()))), reduction
    )
    return {
        "first_rung": first,
        "rungs": schedule.rungs,
        "go_on": schedule.keeps,
        "target_held": worst <= MOST_POINTS and share <= MOST_SHARE,
        "share": share,
        "worst_points_below_best": worst,
        **rows,
    }


def search(store: str) -> list[str]:
    """Trains the whole grid of each seed; the names of the runs."""
    runs = [f"grid-{seed}" for seed in SEEDS]
    muster = str(Path(sys.executable).with_name("muster"))
    for seed, run in zip(SEEDS, runs, strict=True):
        flags = [*GRID.split(), "--seed", str(seed), "--name", run, "--storage", store]
        subprocess.run([muster, "search", *flags], check=True, stdout=sys.stderr)
    return runs


def recorded() -> dict[str, Curves]:
    saved = json.loads(RECORDED.read_text())["grids"]
    return {
        run: {int(trial): dict(enumerate(values, 1)) for trial, values in curves.items()}
        for run, curves in saved.items()
    }


def record(grids: dict[str, Curves]) -> None:
    curves = {
        run: {trial: [values[L] for L in sorted(values)] for trial, values in found.items()}
        for run, found in grids.items()
    }
    text = json.dumps({"grid": GRID, "by": "trial, then L from 1", "grids": curves})
    RECORDED.write_text(text.replace('], "', '],\n  "').replace('}, "', '},\n "') + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="*", help="finished searches with --scheduler none")
    parser.add_argument("--store", default="store")
    parser.add_argument("--search", action="store_true", help="train the grids first")
    parser.add_argument("--record", action="store_true", help="keep the grids' values in results/")
    parser.add_argument("--max-L", type=int, help="judge smaller grids")
    parser.add_argument("--rungs", default="1,2,3,4")
    parser.add_argument("--reduction", type=int)
    chosen = parser.parse_args()
    runs = search(chosen.store) if chosen.search else chosen.runs
    store = Store(chosen.store)
    grids = {run: curves_of(store, run) for run in runs} if runs else recorded()
    if chosen.record:
        record(grids)
    if chosen.max_L:
        grids = {run: shortened(curves, chosen.max_L) for run, curves in grids.items()}
    trials, last = len(next(iter(grids.values()))), last_of(next(iter(grids.values())))
    default = judge_all(grids, FIRST_RUNG, None)
    better = rung_for_half(trials, last)
    print(
        json.dumps(
            {
                "benchmark": "halving",
                "ratio": default["share"],
                "trials": trials,
                "max_L": last,
                "default": default,
                "rung_for_half": better.rungs[0] if better else None,
                "rows": [judge_all(grids, int(first), chosen.reduction) for first in chosen.rungs.split(",")],
            }
        )
    )


if __name__ == "__main__":
    main()
