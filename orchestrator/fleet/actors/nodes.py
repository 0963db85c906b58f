"""A cluster's nodes, as Ray counts them and as a process on each of them finds its GPUs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray

from muster.orchestrator.fleet.places.inventory import Inventory, Node
from muster.workers.errors import UsageError
from muster.workers.gpus import nvml

#: Ray's own label of a node.
NODE = "ray.io/node-id"
#: A node that does not tell of its GPUs for so long is taken at Ray's word.
ASKED_SECONDS = 30.0
#: How long a cluster that has no GPU yet is given: where GPUs are asked for, nodes may have to be started first.
MAY_JOIN_SECONDS, MUST_JOIN_SECONDS = 60.0, 600.0
LOOK_SECONDS = 2.0


def look_around() -> Inventory:
    """What the cluster has that this process is connected to."""
    alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    ask: Any = ray.remote(num_cpus=0, max_retries=1)(nvml.cards)
    asked = {
        name: ask.options(label_selector={NODE: name}).remote()
        for name, node in alive.items()
        if node["Resources"].get("GPU")
    }
    told = set(
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=ASKED_SECONDS)[0] if asked else []
    )
    return Inventory(
        {
            name: Node(
                node["NodeManagerHostname"],
                node["Resources"],
                _answer(asked[name]) if asked.get(name) in told else None,
                node.get("Labels", {}).get("ray.io/node-group", ""),
            )
            for name, node in alive.items()
        }
    )


def _answer(told: Any) -> tuple[nvml.Card, ...] | None:
    try:
        return ray.get(told) or None
    except ray.exceptions.RayError:  # the node is gone, or has another muster
        return None


def await_gpus(share: float | None, say: Callable[[str], None]) -> None:
    """Waits for GPUs on a cluster that others run and that has none: its nodes may be about to join, or have to be
    asked for. `share` is what a member was said to take of one; None: what there is.

    Raises UsageError where none came: to train on CPUs in their place would be slow, and silent.
    """
    if share == 0 or ray.cluster_resources().get("GPU"):
        return
    patience = MAY_JOIN_SECONDS if share is None else MUST_JOIN_SECONDS
    say(f"the cluster has no GPU yet: waiting up to {patience:.0f} s for one")
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[{"GPU": 1}])
    try:
        end = time.monotonic() + patience
        while time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
            if ray.cluster_resources().get("GPU"):
                return
    finally:
        request_resources(bundles=[])
    raise UsageError(
        f"The cluster has no GPU, and none came in {patience:.0f} s. Give it one, or train on its CPUs: "
        "--gpus-per-member 0."
    )
