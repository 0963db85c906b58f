"""A cluster of three nodes on this machine, on which a member and then a rank of a BIER model are stopped in the middle
of their steps: their processes are there, answer nothing and raise nothing.

Writes what came of it as JSON. Run by test_hangs.py in a process of its own, as node_loss.py is by its test.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.cluster_utils import Cluster

from muster.orchestrator.ensemble import run as ensemble_run
from muster.orchestrator.ensemble.plan import make_plan, prepare_ensembles, settle_members
from muster.orchestrator.ensemble.requests import EnsembleRequest
from muster.orchestrator.fleet.scheduler import FleetSettings
from muster.orchestrator.methods.loading import load
from muster.orchestrator.records.events import Event
from muster.workers.store.layout import Store

MEMORY = 80 * 2**20
#: Seconds without a step that are taken for a hang here; a step takes some tens of milliseconds.
LIMIT = 15.0
COMMON = {"data.dataset": "folder", "ensemble.backbone": "conv4"}
MEMBER = {**COMMON, "image_size": 144, "ensemble.D": 4, "ensemble.L": 1, "recipe.epochs": 3}
BIER = {
    **COMMON, "image_size": 72, "method": "bier", "preset": "glyphs", "bier.sizes": [4, 8], "bier.labels": 8,
    "bier.images": 4, "bier.steps": 60, "resources.ranks": 2, "resources.checkpoint_steps": 20,
}  # fmt: skip
#: Each with the title of the processes of which one is stopped, and its steps between two checkpoints.
DRILLS: dict[str, tuple[dict[str, Any], str, int]] = {
    "member": (MEMBER, "ray::MemberActor.run", 48),
    "ranks": (BIER, "ray::RayTrainWorker", 20),
}


class Drill:
    """A run of one model of which one process is stopped, unless it is to be calm."""

    def __init__(self, images: str, home: Path, what: str, *, calm: bool) -> None:
        flags, self.title, self.stretch = DRILLS[what]
        self.name, self.calm = f"{'calm ' if calm else ''}{what}", calm
        settings = [] if "method" in flags else ["batch_size=2", "lr=0.002"]
        request = load(None, {**flags, "data.root": images, "storage": str(home / self.name)}, settings)
        self.store = Store(request.storage)
        ensembles = prepare_ensembles([EnsembleRequest(launch=request)], self.store, lambda *_: None)
        settle_members(ensembles, lambda _: ("none", "fp32"))
        self.plan = make_plan(ensembles, self.store)
        (self.key,) = self.plan.tasks
        self.events: list[Event] = []
        self.stopped: list[psutil.Process] = []

    def run(self) -> dict[str, Any]:
        run = self.store.run("run")
        client = ensemble_run.train(self.plan, run, self.watch, self.name, parallel=0, gpus=0.0)
        members = [item for item in self.events if item["event"] == "member"]
        return {
            "outcome": dataclasses.asdict(client.outcomes[self.key]),
            "nodes": {item["attempt"]: item["node_id"] for item in members if "node_id" in item},
            "retries": [item["message"] for item in members if item["state"] == "retrying"],
            "stopped": len(self.stopped),
            "left": [process.pid for process in self.stopped if process.is_running()],
        }

    def watch(self, item: Event) -> None:
        """Stops a process once there is a checkpoint, in the first half of the steps to the next one."""
        self.events.append(item)
        if self.calm or self.stopped or "step" not in item or not self.store.model(self.key).newest_epoch():
            return
        if item["step"] % self.stretch in range(1, self.stretch // 2):
            mine = psutil.Process().children(recursive=True)
            self.stopped = [one for one in mine if self.title in " ".join(one.cmdline())][:1]
            self.stopped[0].suspend()


def main() -> None:
    images, home = sys.argv[1], Path(sys.argv[2])
    ensemble_run.FleetSettings = functools.partial(FleetSettings, hang_seconds=LIMIT)  # type: ignore[assignment, misc]
    head = {"num_cpus": 0, "object_store_memory": MEMORY, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(num_cpus=2, object_store_memory=MEMORY)
    ray.init(address=cluster.address, namespace="muster", log_to_driver=False, logging_level="ERROR")
    cluster.wait_for_nodes()
    found = {}
    for what in DRILLS:
        Drill(images, home, what, calm=True).run()
        found[what] = Drill(images, home, what, calm=False).run()
    (home / "answer.json").write_text(json.dumps(found))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
