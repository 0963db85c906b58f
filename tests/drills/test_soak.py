"""A soak: many small members, and every few seconds a process of one is killed. None is lost, and those of an
undisturbed run are the same to the last bit. `--soak-members 200` is the whole of it."""

from __future__ import annotations

import contextlib
import json
import random
import time
from pathlib import Path

import pytest

from tests.cli import Muster
from tests.drills.conftest import Struck
from tests.drills.test_kills import processes, weights

pytestmark = pytest.mark.long
#: Members that are compared with those of a run that nobody disturbs.
COMPARED = 20
SECONDS = (2.0, 6.0)
EPOCHS = 12


def saved_since(store: Path, moment: float) -> int:
    """Members under way that saved a checkpoint after a moment: three deaths in a row without one are to give a member
    up, and which process trains which member only Ray knows."""
    found = set()
    for file in store.glob("models/*/attempts/*/epoch-*.safetensors"):
        with contextlib.suppress(FileNotFoundError):  # swept in between
            if file.stat().st_mtime > moment and not (file.parents[2] / "DONE.json").exists():
                found.add(file.parents[2])
    return len(found)


@pytest.mark.drill("g: a soak of members with random kills", times=1)
@pytest.mark.timeout(7200)
def test_soak(
    muster: Muster, small: list[object], tmp_path: Path, pytestconfig: pytest.Config, struck: Struck
) -> None:
    members = int(pytestconfig.getoption("soak_members", default=8))
    store, draw = tmp_path / "store", random.Random(7)
    slower = [
        EPOCHS if before == "--epochs" else word for before, word in zip(["", *small], small, strict=False)
    ]
    process = muster.start(*slower, "--L", members, "--storage", store, "--name", "soak", "--json")
    struck_at = 0.0
    while process.poll() is None:
        time.sleep(draw.uniform(*SECONDS))
        running = processes(muster, "ray::MemberActor.run")
        if running and saved_since(store, struck_at) >= len(running):
            draw.choice(running).kill()
            struck_at = time.time()
            struck.faults += 1
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    answer = json.loads(out)
    assert answer["models"]["failed"] == 0
    assert len(answer["curve"]) == members
    calm = tmp_path / "calm"
    muster(*slower, "--L", min(members, COMPARED), "--storage", calm, "--name", "calm")
    ours, theirs = weights(store), weights(calm)
    assert len(theirs) == min(members, COMPARED)
    assert {key: ours[key] for key in theirs} == theirs
    assert struck.faults > 0
    struck.count(store, asked=members)
    assert struck.lost == 0
