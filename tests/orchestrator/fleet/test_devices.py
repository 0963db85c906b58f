"""Which GPUs the processes of a job see. The GPUs are Ray's word only; nothing computes on them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    monkeypatch.setenv("MUSTER_STATE_DIR", str(tmp_path / "state"))
    head = local.start(num_cpus=2, num_gpus=2)
    try:
        yield connect("auto")
    finally:
        local.stop(head)


def test_holders_see_their_gpu_and_other_processes_none(
    two_gpus: Jobs, tmp_path: Path, muster_without_cluster: Muster, small: list[object]
) -> None:
    script = tmp_path / "look.py"
    script.write_text(LOOK)
    two_gpus.submit(f"exec {shlex.join([sys.executable, str(script)])}", "look", job_settings())
    (line,) = [line for line in two_gpus.tail("look") if line.startswith("SEEN ")]
    seen = json.loads(line.removeprefix("SEEN "))
    assert seen["none"] == ["", []]
    assert all(visible in {"0", "1"} and ids == [int(visible)] for visible, ids in seen["whole"])

    # A GPU that Ray promises and torch can't use fails the member by name, and never trains on the CPU instead.
    muster = Muster({**muster_without_cluster.env, "MUSTER_STATE_DIR": str(tmp_path / "state")})
    ran = muster(*small, "--L", 1, "--gpus-per-member", 0.5, "--storage", tmp_path / "store", code=1)
    assert "torch can use none there" in ran.err
    assert not list((tmp_path / "store").glob("models/*/DONE.json"))
