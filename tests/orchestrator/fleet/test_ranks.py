"""What a team of ranks says where it never got to train. That one trains: tests/workers/methods/test_bier_ranks.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from muster.orchestrator.fleet.actors.process_group import fetch
from muster.orchestrator.fleet.actors.ranks import no_place
from muster.workers.errors import MusterError
from tests import ROOT

TOO_MANY = """
import sys
import ray
from muster.orchestrator.fleet.actors import ranks
from tests.orchestrator.fleet.stubs import bier

@ray.remote(num_cpus=0)
class Fleet:
    def report(self, *told):
        return False

ranks.PLACE_TRIES = 1
ray.init("local", num_cpus=1, object_store_memory=80 * 2**20, namespace="muster", log_to_driver=False)
actor = ranks.RanksActor.__ray_metadata__.modified_class(None)
try:
    actor.run(sys.argv[1], "run", bier(3), "an-attempt", 0.0, Fleet.remote())
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.cluster
def test_ranks_that_find_no_places_give_up_and_say_so(tmp_path: Path) -> None:
    env = {**os.environ, "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "2", "RAY_USAGE_STATS_ENABLED": "0"}
    env["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(ROOT / "src")))
    env.pop("RAY_ADDRESS", None)
    ran = subprocess.run(
        [sys.executable, "-c", TOO_MANY, str(tmp_path / "store")],
        env=env, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert "MusterError its 3 ranks found no places" in ran.stdout, ran.stderr[-2000:]


def test_another_end_of_its_controller_is_told_as_it_is() -> None:
    cause = ValueError("no such option")
    error = type("ControllerError", (Exception,), {"controller_failure": cause})()
    assert no_place(error, 2, 1.0) is cause
    late = type("WorkerGroupStartupTimeoutError", (Exception,), {})()
    error.controller_failure = late
    assert isinstance(no_place(error, 2, 1.0), MusterError)
    assert "2 GPUs were never free at once" in str(no_place(error, 2, 1.0))


def test_a_pack_that_can_t_be_fetched_is_met_by_the_training(tmp_path: Path) -> None:
    fetch(str(tmp_path / "store"), "0" * 32)
