"""Which GPUs the processes of a job see. The GPUs are Ray's word only; nothing computes on them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muster.cluster import local
from muster.cluster.jobs import Jobs, connect
from muster.orchestrator.client.submit import job_settings
from tests.cli import Muster

LOOK = """
import json, os, ray
ray.init(log_to_driver=False, logging_level="ERROR")

def seen():
    return [os.environ.get("CUDA_VISIBLE_DEVICES"), ray.get_gpu_ids()]

look = ray.remote(seen)
whole = [look.options(num_gpus=1, num_cpus=0).remote() for _ in range(2)]
print("SEEN " + json.dumps({"whole": ray.get(whole), "none": ray.get(look.options(num_cpus=1).remote())}))
"""


BORROW = """
import json, os, sys, ray
from muster.orchestrator.fleet.client import FleetClient
from muster.orchestrator.fleet.scheduler import FleetSettings
from muster.orchestrator.records.forecast import Forecast
from muster.workers.errors import DamagedMember
ray.init(log_to_driver=False, logging_level="ERROR")

@ray.remote(num_cpus=0)
class OnCpu:
    def lives(self):
        pass

    def call(self, gpu, work, args):
        return work(*args, device=gpu.visible)

def where(word, device):
    return [word, device, os.environ.get("CUDA_VISIBLE_DEVICES")]

def damaged(device):
    raise DamagedMember("k" * 32, "its vectors are gone")

told = []
client = FleetClient(FleetSettings(sys.argv[1], "run", 0, 1.0), "fleet", told.append, Forecast(1, None))
found = {"without torch's GPU": client.on_gpu(where, "a")}
client.borrower = OnCpu
found["lent"] = client.on_gpu(where, "b")
try:
    client.on_gpu(damaged)
except DamagedMember as error:
    found["damaged"] = error.key
found["told"] = [item["text"] for item in told]
client.settings = FleetSettings(sys.argv[1], "run", 0, 0.0)
found["on CPUs"] = client.on_gpu
print("SEEN " + json.dumps(found))
"""


def told_by(jobs: Jobs, script: Path, code: str, *words: str) -> Any:
    """What a job's script prints as seen."""
    script.write_text(code)
    jobs.submit(f"exec {shlex.join([sys.executable, str(script), *words])}", script.stem, job_settings())
    lines = list(jobs.tail(script.stem))
    (line,) = [line for line in lines if line.startswith("SEEN ")] or [lines]
    return json.loads(line.removeprefix("SEEN "))


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    monkeypatch.setenv("MUSTER_STATE_DIR", str(tmp_path / "state"))
    head = local.start(num_cpus=2, num_gpus=2)
    try:
        yield connect("auto")
    finally:
        local.stop(head)


def test_holders_see_their_gpu_and_other_processes_none_and_scores_borrow_one(
    two_gpus: Jobs, tmp_path: Path, muster_without_cluster: Muster, small: list[object]
) -> None:
    seen = told_by(two_gpus, tmp_path / "look.py", LOOK)
    assert seen["none"] == ["", []]
    assert all(visible in {"0", "1"} and ids == [int(visible)] for visible, ids in seen["whole"])

    # Scores go to CPUs where torch can't use the GPU that is lent, which is then looked at; the other one is lent next.
    found = told_by(two_gpus, tmp_path / "borrow.py", BORROW, str(tmp_path / "borrowed"))
    assert found["without torch's GPU"] is None
    assert found["on CPUs"] is None
    (word, lent, seen_there), (text,) = found["lent"], found["told"]
    assert (word, seen_there) == ("b", "")
    assert lent in {"0", "1"}
    assert f"GPU {1 - int(lent)} of node" in text
    assert "did not compute the scores, and CPUs do: torch can't use GPU" in text
    assert found["damaged"] == "k" * 32

    # A GPU that Ray promises and torch can't use fails the member by name, and never trains on the CPU instead.
    muster = Muster({**muster_without_cluster.env, "MUSTER_STATE_DIR": str(tmp_path / "state")})
    ran = muster(*small, "--L", 1, "--gpus-per-member", 0.5, "--storage", tmp_path / "store", code=1)
    assert "torch can't use GPU" in ran.err
    assert not list((tmp_path / "store").glob("models/*/DONE.json"))
