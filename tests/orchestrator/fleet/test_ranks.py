"""What a team of ranks says where it never got to train. That one trains: tests/workers/methods/test_bier_ranks.py."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray.exceptions import ActorDiedError, RayTaskError

from muster.orchestrator.fleet.actors.process_group import fetch
from muster.orchestrator.fleet.actors.ranks import no_place, root_cause, told_where
from muster.orchestrator.fleet.failures import node_of
from muster.workers.errors import DivergedError, MusterError
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


LEAVES = """
import dataclasses
import sys
from pathlib import Path

import ray
from muster.orchestrator.fleet.actors import ranks
from muster.workers.datasets import ImageFolder
from muster.workers.packs.build import build_pack
from muster.workers.store.layout import Store
from muster.workers.task import Images
from tests.conftest import write_classes
from tests.orchestrator.fleet.stubs import bier

@ray.remote(num_cpus=0)
class Fleet:
    def report(self, *told):
        return True  # its node is taken back

store, data = Store(sys.argv[1]), ImageFolder(write_classes(Path(sys.argv[2])))
pack = build_pack(store, data, data.splits()["train"], "squash:20")
part, task = pack.part(), bier(1)
shape = dataclasses.replace(task.spec.bier, steps=6000, labels=4, images=2)
spec = dataclasses.replace(task.spec, bier=shape, train_digest=part.digest, classes=part.classes)
images = Images(pack=pack.digest, class_ids=None, digest=part.digest)
task = dataclasses.replace(task, spec=spec, train=images, targets=())
ray.init("local", num_cpus=1, object_store_memory=80 * 2**20, namespace="muster", log_to_driver=False)
actor = ranks.RanksActor.__ray_metadata__.modified_class(None)
try:
    actor.run(sys.argv[1], "run", task, "an-attempt", 0.0, Fleet.remote())
except Exception as error:
    print(type(error).__name__, error)
print("reached", sum(store.model(task.key).reached()) > 0, store.model(task.key).done())
"""


def printed(program: str, *words: Path) -> str:
    """What a program prints that has a Ray of its own."""
    env = {**os.environ, "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "2", "RAY_USAGE_STATS_ENABLED": "0"}
    env["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(ROOT / "src")))
    env.pop("RAY_ADDRESS", None)
    ran = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        env=env, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    return ran.stdout + ran.stderr[-2000:]


@pytest.mark.cluster
def test_a_rank_that_trains_alone_saves_where_its_node_is_taken_back(tmp_path: Path) -> None:
    told = printed(LEAVES, tmp_path / "store", tmp_path / "images")
    assert "ToldToEndError BIER was told to end, and has saved its work." in told
    assert "reached True None" in told


@pytest.mark.cluster
def test_ranks_that_find_no_places_give_up_and_say_so(tmp_path: Path) -> None:
    assert "MusterError its 3 ranks found no places" in printed(TOO_MANY, tmp_path / "store")


def test_of_the_ranks_failures_the_one_that_tells_most_is_meant() -> None:
    lost = RuntimeError("[../third_party/gloo/...] Connection closed by peer [127.0.0.1]:1234")
    gpu = RuntimeError("CUDA error: uncorrectable ECC error encountered")
    full = type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")
    other, ours, diverged = KeyError("x"), MusterError("no weights"), DivergedError("nan")
    died = ActorDiedError()

    def cause(*failures: BaseException) -> BaseException:
        error = type("WorkerGroupError", (Exception,), {})()
        error.worker_failures = dict(enumerate(failures))
        return root_cause(error)

    assert cause(lost, gpu, lost) is gpu
    assert cause(lost, full) is full
    assert cause(lost, other) is other
    assert cause(other, gpu) is gpu
    assert cause(gpu, died) is died
    assert cause(died, ours, gpu) is ours
    assert cause(ours, diverged) is diverged
    assert cause(lost, RuntimeError("NCCL error")) is lost
    error = ValueError("of the controller")
    assert root_cause(error) is error


def test_a_rank_says_on_which_node_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    context = SimpleNamespace(get_node_id=lambda: "node-b")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    with pytest.raises(KeyError) as raised, told_where():
        raise KeyError("x")
    travelled = pickle.loads(pickle.dumps(raised.value))
    assert node_of(travelled, ["node-a", "node-b"]) == "node-b"
    assert node_of(RayTaskError("run", "a traceback", travelled), []) == "node-b"


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
