"""Clusters of several nodes on this machine, and runs on them of which all events are kept: what the scenarios of
drills are made of.

A scenario runs in a process of its own, because it starts and ends a whole cluster, and the raylets of that cluster
write to its standard output whenever they like.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
from tests import ROOT
from tests.drills.test_kills import weights

MEMORY = 80 * 2**20
#: What is done to a cluster, given the node of a member that is under way.
Strike = Callable[[str], None]


def played(scenario: str, images: Path, home: Path) -> Any:
    """What a scenario of `scenarios.py` answers, which writes its stores below `home`."""
    return ran([sys.executable, "-m", "tests.drills.scenarios", scenario, images, home], home)


def ran(words: list[Any], home: Path) -> Any:
    """What a program answers in `home` that starts a cluster of its own."""
    env = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    env |= {
        "MUSTER_CACHE": str(home / "cache"),
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src"))),
    }
    env.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [str(word) for word in words], env=env, capture_output=True, text=True, timeout=540, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((home / "answer.json").read_text())


def own_processes(title: str) -> list[psutil.Process]:
    """Those of this scenario's cluster with a title, e.g. ray::MemberActor."""
    return [one for one in psutil.Process().children(recursive=True) if title in " ".join(one.cmdline())]


class Machines:
    """A cluster with a head that trains nothing, unless it has CPUs, and nodes that come and go."""

    def __init__(self, cpus: int, variables: dict[str, str]) -> None:
        head = {
            "num_cpus": cpus, "object_store_memory": MEMORY, "include_dashboard": False, "env_vars": variables,
        }  # fmt: skip
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes: dict[str, Any] = {}
        "By their ids."
        self.started: dict[str, subprocess.Popen[bytes]] = {}
        ray.init(address=self.cluster.address, namespace="muster", log_to_driver=False, logging_level="ERROR")

    def add(self, cpus: int = 1, gpus: int = 0, **variables: str) -> str:
        """A node's id; `variables` are its environment, and that of all that runs there; its GPUs Ray's word only."""
        node = self.cluster.add_node(
            num_cpus=cpus, num_gpus=gpus, object_store_memory=MEMORY, env_vars=variables
        )
        self.cluster.wait_for_nodes()
        self.nodes[node.node_id] = node
        return str(node.node_id)

    def start(self) -> str:
        """The same as a process of its own, as a batch system or Kubernetes starts a node."""
        before = {node["NodeID"] for node in ray.nodes()}
        words = f"start --address {self.cluster.address} --block --num-cpus 1 --object-store-memory {MEMORY}"
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "ray"), *words.split(), "--dashboard-agent-listen-port", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not (new := {node["NodeID"] for node in ray.nodes()} - before):
            time.sleep(0.1)
        (node,) = new
        self.started[node] = process
        return str(node)

    def drain(self, node_id: str) -> None:
        """SIGTERM to the process that was started, which waits for those below it for a while."""
        self.started[node_id].terminate()

    def fleet_is_on_the_head(self) -> bool:
        raylet = self.cluster.head_node.all_processes["raylet"][0].process.pid
        return [one.ppid() for one in own_processes("ray::Fleet")] == [raylet]

    def lose(self, node_id: str) -> None:
        """The node dies in a moment, with all that runs there."""
        self.cluster.remove_node(self.nodes.pop(node_id), allow_graceful=False)

    def take_back(self, node_id: str) -> None:
        """As a batch system or a cloud does that takes a machine back: SIGTERM to all of its processes at once."""
        raylet = psutil.Process(self.nodes[node_id].all_processes["raylet"][0].process.pid)
        family = [*raylet.children(recursive=True), raylet]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()  # and with it its raylet, which Ray ties to it
        psutil.wait_procs(family, 30)
        self.lose(node_id)


@contextlib.contextmanager
def machines(cpus: int = 0, **variables: str) -> Iterator[Machines]:
    """Such a cluster, for a block; `variables` are the environment of its head."""
    found = Machines(cpus, variables)
    try:
        yield found
    finally:
        for process in found.started.values():
            process.kill()  # and with it its raylet, which Ray ties to it
        ray.shutdown()
        found.cluster.shutdown()


class WatchedRun:
    """A run of some models, with what became of each; a subclass does something in the middle of it."""

    def __init__(self, images: str, storage: Path, flags: dict[str, Any], settings: list[str]) -> None:
        """`flags` and `settings` are as in `load`."""
        request = load(None, {**flags, "data.root": images, "storage": str(storage)}, settings)
        self.folder, self.store = storage, Store(request.storage)
        ensembles = prepare_ensembles([EnsembleRequest(launch=request)], self.store, lambda *_: None)
        settle_members(ensembles, lambda _: ("none", "fp32"))
        self.plan = make_plan(ensembles, self.store)
        self.events: list[Event] = []

    def run(self, parallel: int = 0) -> dict[str, Any]:
        name = self.folder.name
        client = train(
            self.plan, self.store.run(name), self.watch, f"fleet-{name}", parallel=parallel, gpus=0.0
        )
        members = [item for item in self.events if item["event"] == "member"]
        logs = [log.read_text() for log in self.folder.glob("runs/*/logs/*.log")]
        return {
            "outcomes": [dataclasses.asdict(client.outcomes[key]) for key in self.plan.tasks],
            "nodes": [
                (item["attempt"], item["node_id"], item["key"]) for item in members if "node_id" in item
            ],
            "retries": [item["message"] for item in members if item["state"] == "retrying"],
            "warnings": [item["text"] for item in self.events if item["event"] == "message"],
            "resumed": sum("resumed after" in log for log in logs),
            "weights": {
                key: digest for key, digest in weights(self.folder).items() if key in self.plan.tasks
            },
        }

    def watch(self, item: Event) -> None:
        self.events.append(item)


class StruckRun(WatchedRun):
    """Strikes once, as soon as a member has saved two epochs and is not done."""

    strike: Strike | None = None

    def struck(self, strike: Strike) -> dict[str, Any]:
        self.strike = strike
        return self.run()

    def watch(self, item: Event) -> None:
        super().watch(item)
        if self.strike is None:
            return
        nodes = {e["key"]: e["node_id"] for e in self.events if e["event"] == "member" and "node_id" in e}
        models = [self.store.model(key) for key in nodes]
        busy = [model.key for model in models if model.reached()[0] >= 2 and model.done() is None]
        if busy:
            strike, self.strike = self.strike, None
            strike(nodes[busy[0]])


class StruckSearch:
    """A search during which something is done to the cluster once some members are there."""

    def __init__(self, storage: Path, flags: dict[str, Any], settings: list[str], ds: str) -> None:
        """`flags`, `settings` and `ds` are as in `load_search`."""
        flags = {**flags, "storage": str(storage), "name": storage.name}
        self.request = load_search(None, flags, settings, ds, [], {"window": 2, "reduction": 3})
        self.events: list[Event] = []

    def struck(self, strike: Strike, after: int) -> dict[str, Any]:
        """`strike` gets the node of the member that was reported last, once so many are done."""
        self.strike: Strike | None = strike
        self.after = after
        run, _ = open_run(JOB, self.request, Store(self.request.storage))
        answer = search(self.request, run, self.watch, f"fleet-{self.request.run}")
        return {"code": end_of(JOB, answer)["exit_code"], "answer": answer}

    def watch(self, item: Event) -> None:
        self.events.append(item)
        members = [found for found in self.events if found["event"] == "member"]
        nodes = [found["node_id"] for found in members if "node_id" in found]
        if self.strike and sum(found["state"] == "done" for found in members) >= self.after:
            strike, self.strike = self.strike, None
            strike(nodes[-1])
