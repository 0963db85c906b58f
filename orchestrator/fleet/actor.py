"""The fleet: its scheduler as an actor of Ray, and a member's processes as Ray starts and ends them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import ray
from ray.exceptions import ActorAlreadyExistsError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from muster.orchestrator.fleet.member_actor import MemberActor
from muster.orchestrator.fleet.nodes import Resources
from muster.orchestrator.fleet.processes import Former
from muster.orchestrator.fleet.ranks_actor import RanksActor
from muster.orchestrator.fleet.scheduler import FleetSettings, Scheduler
from muster.workers.task import MemberTask

NAMESPACE = "muster"
#: What the names of members' actors begin with; the key follows.
MEMBER = "member-"


class RayProcesses:
    """The scheduler's `Processes`, on the cluster that this process belongs to."""

    member: Any = MemberActor
    "What trains a member alone."

    def __init__(self, settings: FleetSettings) -> None:
        self.settings = settings

    def nodes(self) -> Resources:
        return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}

    def leaving(self) -> Collection[str]:
        """`ray start` drains its node at SIGTERM, for 30 s by default: Kubernetes sends it, and a cloud that takes a
        machine back. Ray has no public call for what drains; Ray Serve asks this one."""
        worker: Any = ray._private.worker.global_worker
        found: dict[str, int] = worker.gcs_client.get_draining_nodes()
        return found

    def former(self) -> list[Former]:
        """Ray has no public call that tells this without a dashboard: what became of actors is its controller's
        knowledge alone."""
        here = ray.get_runtime_context()
        if not here.was_current_actor_reconstructed:
            return []
        actors = ray._private.state.actors(
            job_id=ray.JobID.from_hex(here.get_job_id()), actor_state_name="DEAD"
        ).values()
        return former_of(actors)

    def hire(self, task: MemberTask, *, ranked: bool, avoided: Sequence[str]) -> Any:
        options: dict[str, Any] = {"name": MEMBER + task.key, "namespace": NAMESPACE}
        nodes = {"ray.io/node-id": f"!in({','.join(avoided)})"} if avoided else None
        kind: Any = RanksActor if ranked else self.member
        if not ranked:  # the ranks' own places are Ray Train's to reserve
            options["num_cpus"] = task.spec.threads if not self.settings.gpus else 1
            options["num_gpus"] = self.settings.gpus
        try:
            return kind.options(label_selector=nodes, **options).remote(*([nodes] if ranked else []))
        except ActorAlreadyExistsError:
            return None

    async def run(self, process: Any, task: MemberTask, attempt: str) -> None:
        fleet, settings = ray.get_runtime_context().current_actor, self.settings
        await process.run.remote(settings.store, settings.run, task, attempt, settings.gpus, fleet)

    def kill(self, process: Any) -> None:
        ray.kill(process)


def former_of(actors: Iterable[dict[str, Any]]) -> list[Former]:
    """Of a job's dead actors those of members that died because their owner did, the oldest first."""
    orphans = [one for one in actors if one["Name"].startswith(MEMBER) and _owner(one)]
    together = Counter(_owner(one) for one in orphans)
    return [
        Former(
            key=one["Name"].removeprefix(MEMBER),
            node=one["Address"]["NodeID"],
            others=together[_owner(one)] - 1,
            memory="NODE_OUT_OF_MEMORY" in _died_of(one).error_message
            and one["Address"]["NodeID"] == one["OwnerAddress"]["NodeID"],
        )
        for one in sorted(orphans, key=lambda one: one["StartTime"])
    ]


def _died_of(actor: dict[str, Any]) -> Any:
    return actor["DeathCause"].actor_died_error_context


def _owner(actor: dict[str, Any]) -> bytes:
    """The process whose end was that of an actor, or nothing."""
    cause = _died_of(actor)
    return cause.owner_id if "its owner has died" in cause.error_message else b""


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Fleet(Scheduler):
    """A job's scheduler. If its process dies, Ray starts it again and repeats the calls that wait."""

    def __init__(self, settings: FleetSettings) -> None:
        super().__init__(settings, RayProcesses(settings))


def start_fleet(settings: FleetSettings, name: str) -> Any:
    """A fleet's handle. It lives on the caller's node, so that the loss of any other is something that it sees and
    outlives: without a CPU of its own Ray would put it anywhere, and a soft wish for a node without CPUs, as many a
    head is, goes unheard."""
    kind: Any = Fleet
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return kind.options(name=name, namespace=NAMESPACE, scheduling_strategy=here).remote(settings)
