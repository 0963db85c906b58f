"""A cluster of three nodes on this machine: a member is killed on one, then one is killed under its members, another
one gets SIGTERM, and at last one is killed in the middle of a search.

Writes what came of it as JSON. Run by test_node_loss.py in a process of its own: it starts and ends a whole
cluster, and the raylets of that cluster write to its standard output whenever they like.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.cluster_utils import Cluster

from muster.orchestrator.ensemble.plan import make_plan, prepare_ensembles, settle_members
from muster.orchestrator.ensemble.requests import EnsembleRequest
from muster.orchestrator.ensemble.run import train
from muster.orchestrator.jobs.base import end_of, open_run
from muster.orchestrator.jobs.search.job import JOB
from muster.orchestrator.jobs.search.request import load_search
from muster.orchestrator.jobs.search.run import search
from muster.orchestrator.methods.loading import load
from muster.orchestrator.records.events import Event
from muster.workers.store.layout import Store
from tests.orchestrator.jobs.search.searches import DS, WINDOW

MEMORY = 80 * 2**20


class Drill:
    """A run of some members, during which something is done to the cluster once."""

    def __init__(self, images: str, storage: Path, name: str, members: int, seed: int) -> None:
        flags = {
            "data.dataset": "folder", "data.root": images, "image_size": 72, "ensemble.backbone": "conv4",
            "ensemble.D": 4, "ensemble.L": members, "ensemble.seed": seed, "recipe.epochs": 12,
            "storage": str(storage), "name": name,
        }  # fmt: skip
        request = load(None, flags, ["batch_size=16", "lr=0.02"])
        self.store = Store(request.storage)
        ensembles = prepare_ensembles([EnsembleRequest(launch=request)], self.store, lambda *_: None)
        settle_members(ensembles, lambda _: ("none", "fp32"))
        self.plan = make_plan(ensembles, self.store)
        self.name = name
        self.events: list[Event] = []
        self.pending: Callable[[str], None] | None = None
        self.struck = ""
        "The member that was struck."

    def run(self, strike: Callable[[str], None]) -> dict[str, Any]:
        """Trains; `strike` gets the node of a member that has two epochs and is not done."""
        self.pending = strike
        run = self.store.run(self.name)
        client = train(self.plan, run, self.watch, f"fleet-{self.name}", parallel=0, gpus=0.0)
        outcomes = [dataclasses.asdict(client.outcomes[key]) for key in self.plan.tasks]
        members = [item for item in self.events if item["event"] == "member"]
        return {
            "outcomes": outcomes,
            "nodes": [
                item["node_id"] for item in members if "node_id" in item and item["key"] == self.struck
            ],
            "retries": [item["message"] for item in members if item["state"] == "retrying"],
        }

    def watch(self, item: Event) -> None:
        self.events.append(item)
        nodes = {e["key"]: e["node_id"] for e in self.events if e["event"] == "member" and "node_id" in e}
        models = [self.store.model(key) for key in nodes] if self.pending else []
        busy = [model.key for model in models if model.newest_epoch() >= 2 and model.done() is None]
        if self.pending and busy:
            strike, self.pending, self.struck = self.pending, None, busy[0]
            strike(nodes[self.struck])


class SearchDrill:
    """A search during which something is done to the cluster once some members are there."""

    def __init__(self, images: str, storage: Path, name: str, strike_at: int) -> None:
        flags = {
            "data.dataset": "folder", "data.root": images, "data.val_classes": 4, "image_size": 16,
            "ensemble.backbone": "conv4", "ensemble.L": 5, "recipe.epochs": 1, "storage": str(storage), "name": name,
        }  # fmt: skip
        steering = {"window": WINDOW, "reduction": 3}
        settings = ["batch_size=16", "lr=0.002"]
        self.request = load_search(None, flags, settings, ",".join(map(str, DS)), [], steering)
        self.strike_at, self.events = strike_at, list[Event]()

    def run(self, strike: Callable[[str], None]) -> dict[str, Any]:
        """Searches; `strike` gets the node of the member that was reported last."""
        self.strike: Callable[[str], None] | None = strike
        run, _ = open_run(JOB, self.request, Store(self.request.storage))
        answer = search(self.request, run, self.watch, f"fleet-{self.request.run}")
        return {"code": end_of(JOB, answer)["exit_code"], "answer": answer}

    def watch(self, item: Event) -> None:
        self.events.append(item)
        members = [found for found in self.events if found["event"] == "member"]
        nodes = [found["node_id"] for found in members if "node_id" in found]
        done = sum(found["state"] == "done" for found in members)
        if self.strike and done >= self.strike_at:
            strike, self.strike = self.strike, None
            strike(nodes[-1])


def kill_the_member(_: str) -> None:
    mine = psutil.Process().children(recursive=True)
    for process in mine:
        if "ray::MemberActor.run" in " ".join(process.cmdline()):
            process.kill()


def main() -> None:
    images, storage, answer = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    head = {"num_cpus": 0, "object_store_memory": MEMORY, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=MEMORY) for _ in range(2)]
    ray.init(address=cluster.address, namespace="muster", log_to_driver=False, logging_level="ERROR")
    cluster.wait_for_nodes()

    def kill_the_node(node_id: str) -> None:
        victim = next(node for node in nodes if node.node_id == node_id)
        nodes.remove(victim)
        cluster.remove_node(victim, allow_graceful=False)

    def terminate_the_node(node_id: str) -> None:
        """As a batch system or a cloud does that takes a machine back: SIGTERM to all of its processes at once."""
        victim = next(node for node in nodes if node.node_id == node_id)
        nodes.remove(victim)
        raylet = psutil.Process(victim.all_processes["raylet"][0].process.pid)
        family = [*raylet.children(recursive=True), raylet]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        psutil.wait_procs(family, 30)
        cluster.remove_node(victim, allow_graceful=False)

    killed = Drill(images, storage, "killed", members=1, seed=5).run(kill_the_member)
    lost = Drill(images, storage, "lossy", members=2, seed=0).run(kill_the_node)
    nodes.append(cluster.add_node(num_cpus=1, object_store_memory=MEMORY))
    cluster.wait_for_nodes()
    ended = Drill(images, storage, "terminated", members=2, seed=9).run(terminate_the_node)
    nodes.append(cluster.add_node(num_cpus=1, object_store_memory=MEMORY))
    cluster.wait_for_nodes()
    sought = SearchDrill(images, storage.parent / "sought", "sought", strike_at=4).run(kill_the_node)
    answer.write_text(json.dumps({"killed": killed, "lost": lost, "terminated": ended, "sought": sought}))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
