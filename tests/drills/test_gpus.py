"""48 members on two nodes of eight GPUs: one GPU fails each start within a second, another one in mid-run. Nothing is
lost, few attempts are wasted, and the healthy GPUs never wait for the bad ones."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.drills.conftest import Struck
from tests.drills.gpus import GPUS, MEMBERS, STEPS
from tests.drills.nodes import ran

pytestmark = pytest.mark.long  # see pyproject.toml

#: Attempts that a bad GPU may waste, and how long a healthy one may wait, as a share of its time.
WASTED, IDLE = 3, 0.05


@pytest.mark.drill("i: a GPU that fails each start, and one in mid-run", long=False)
@pytest.mark.parametrize("share", [1.0, 0.25])
def test_a_bad_gpu_costs_nothing_but_itself(
    shapes: Path, tmp_path: Path, struck: Struck, share: float
) -> None:
    found = ran([sys.executable, "-m", "tests.drills.gpus", shapes, tmp_path, share], tmp_path)
    struck.faults = 2
    struck.lost = sum(state != "done" for state, _ in found["outcomes"])
    assert [state for state, _ in found["outcomes"]] == ["done"] * MEMBERS

    taken = defaultdict[str, list[tuple[float, float]]](list)
    for gpu, _, began, ended in found["taken"]:
        taken[gpu].append((began, ended))
    assert len(taken) == 2 * GPUS
    start, middle = found["bad"]["start"], found["bad"]["middle"]
    assert len(taken[start]) <= WASTED
    # Members that were on it when it broke have saved what they did; those that came later have not.
    assert sum(ended - began < STEPS / 2 for began, ended in taken[middle]) <= WASTED
    waited = {gpu: idle(spans, waits(found)) for gpu, spans in taken.items() if gpu not in {start, middle}}
    assert max(waited.values()) <= IDLE, waited

    named = [item["gpu"]["uuid"] for item in found["warnings"] if "minutes" in item["text"]]
    assert set(named) <= {"3", "5"}
    assert "3" in named


def waits(found: dict[str, Any]) -> list[tuple[float, float]]:
    """From when until when members waited: each time that one was put into the queue, until it got a GPU."""
    starts = [(key, began) for _, key, began, _ in found["taken"]]
    return [
        (since, min(began for key, began in starts if key == waiting and began >= since))
        for waiting, since in found["waiting"]
    ]


def idle(spans: list[tuple[float, float]], waiting: list[tuple[float, float]]) -> float:
    """The share of the time from a GPU's first start to the last of all in which nobody was on it though somebody
    waited; looked at a hundred times a second."""
    first, last = min(began for began, _ in spans), max(end for _, end in waiting)
    moments = [first + number / 100 for number in range(int((last - first) * 100))]
    vain = [
        moment
        for moment in moments
        if not any(began <= moment < ended for began, ended in spans)
        and any(since <= moment < until for since, until in waiting)
    ]
    return len(vain) / max(1, len(moments))
