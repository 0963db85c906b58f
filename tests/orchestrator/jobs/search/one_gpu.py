"""Fifty trials on a cluster with one (simulated) GPU: real Tune, fleet and scores; only training is replaced.

A member here holds the GPU, writes vectors that follow from its settings, and commits them. What came of it
is written as JSON. Run by test_one_gpu.py in a process of its own: it starts and ends a whole cluster.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray

from muster.orchestrator.ensemble.plan import prepare_ensembles
from muster.orchestrator.fleet.actors.fleet import NAMESPACE, RayProcesses
from muster.orchestrator.fleet.places.gpus import Gpu
from muster.orchestrator.fleet.scheduler import FleetSettings, Scheduler
from muster.orchestrator.jobs.search.plan import SearchPlan, ensembles_of, prepared_by_pictures, schedule_of
from muster.orchestrator.jobs.search.record import Record
from muster.orchestrator.jobs.search.request import load_search
from muster.orchestrator.jobs.search.run import run_trials
from muster.workers.store.layout import Store
from muster.workers.store.records import Done
from muster.workers.store.vectors import write_vectors

TRIALS = 50


@ray.remote(max_restarts=0)
class FakeMember:
    """Stands in for MemberActor: the same call, the same GPU, no training."""

    def prepare(self, root: str, task: Any) -> None:
        """Nothing has to be read."""

    def lives(self) -> None:
        """It does."""

    def run(
        self, root: str, run: str, task: Any, attempt: str, share: float, fleet: Any, gpu: Gpu | None
    ) -> None:
        assert gpu is not None, "it was started without the GPU"
        assert gpu.visible == "0"
        store, spec = Store(root), task.spec
        folder = store.model(task.key)
        store.files.put(folder / f"attempts/{attempt}/trained", b"once")
        store.files.put(store.run(run).log(task.key, attempt), b"")
        for target in task.targets:
            rng = np.random.default_rng([spec.D, spec.index])
            rows = 96 if target.split == "test" else 32
            vectors = rng.normal(size=(rows, spec.D)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            write_vectors(folder.embedding(target.digest), vectors, {"key": task.key})
        folder.commit(Done({}, {"attempt": attempt, "seconds": 1.0, "epochs": 1, "images": 64}))


class FakeMembers(RayProcesses):
    member = FakeMember


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class OneGpuFleet(Scheduler):
    """The fleet as it is, with members that only pretend."""

    def __init__(self, settings: FleetSettings) -> None:
        super().__init__(settings, FakeMembers(settings))


def main(images: str, storage: str, result: str) -> None:
    flags = {
        "data.dataset": "folder", "data.root": images, "image_size": 16, "ensemble.backbone": "conv4",
        "ensemble.L": 2, "data.val_classes": 4, "storage": storage, "name": "fifty",
    }  # fmt: skip
    steering = {"first_rung": 1, "reduction": 25, "window": 2}
    lrs = ",".join(str(n / 1000) for n in range(1, TRIALS // 2 + 1))
    request = load_search(None, flags, [], "2,3", [f"lr={lrs}"], steering)
    store = Store(storage)
    prepared = prepared_by_pictures(prepare_ensembles(ensembles_of(request), store, lambda *_: None))
    assert prepared is not None
    ray.init("local", num_cpus=2, num_gpus=1, object_store_memory=80 * 2**20, log_to_driver=False)
    actor: Any = OneGpuFleet
    fleet = actor.options(name="fleet", namespace=NAMESPACE).remote(FleetSettings(storage, "fifty", 0, 1.0))
    plan = SearchPlan(request, prepared, "none", "fp32", (1, 2))
    record = Record(request, lambda item: None)
    run_trials(plan, record, fleet, "prefixes")
    groups = ray.util.placement_group_table().values()
    found = {
        "ended": [trial.ended for trial in record.trials.values()],
        "reached": [trial.reached for trial in record.trials.values()],
        "scheduled": schedule_of(request).members,
        "groups_left": sum(group["state"] in {"PENDING", "CREATED"} for group in groups),
    }
    Path(result).write_text(json.dumps(found))
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
