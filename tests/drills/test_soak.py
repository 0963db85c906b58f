"""A soak: many small members, and every few seconds a process of one is killed. None is lost, and those of an
undisturbed run are the same to the last bit. `--soak-members 200` is the whole of it."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.cli import Muster
from tests.drills.conftest import Struck
from tests.drills.test_kills import processes, weights

pytestmark = pytest.mark.long
#: Members that are compared with those of a run that nobody disturbs.
COMPARED = 20
#: A member that was killed so often in a row without a new checkpoint would be given up, as it should be.
MOST_KILLS = 2
SECONDS = (2.0, 6.0)


@pytest.mark.drill("g: a soak of members with random kills", times=1)
@pytest.mark.timeout(7200)
def test_soak(
    muster: Muster, small: list[object], tmp_path: Path, pytestconfig: pytest.Config, struck: Struck
) -> None:
    members = int(pytestconfig.getoption("soak_members", default=8))
    store, draw = tmp_path / "store", random.Random(7)
    process = muster.start(*small, "--L", members, "--storage", store, "--name", "soak", "--json")
    kills: Counter[str] = Counter()
    while process.poll() is None:
        time.sleep(draw.uniform(*SECONDS))
        running = processes(muster, "ray::MemberActor.run")
        # Which process trains which member only Ray knows: a kill counts for each that is under way.
        keys = {log.name.partition("-")[0] for log in store.glob("runs/soak/logs/*.log")}
        open_keys = sorted(key for key in keys if not (store / "models" / key / "DONE.json").exists())
        if not running or any(kills[key] >= MOST_KILLS for key in open_keys):
            continue
        victim = draw.choice(running)
        victim.kill()
        kills.update(open_keys)
        struck.faults += 1
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    answer = json.loads(out)
    assert answer["models"]["failed"] == 0
    assert len(answer["curve"]) == members
    calm = tmp_path / "calm"
    muster(*small, "--L", min(members, COMPARED), "--storage", calm, "--name", "calm")
    ours, theirs = weights(store), weights(calm)
    assert len(theirs) == min(members, COMPARED)
    assert {key: ours[key] for key in theirs} == theirs
    assert struck.faults > 0
    struck.count(store, asked=members)
    assert struck.lost == 0
