"""The fleet: its scheduler as an actor of Ray, and a member's processes as Ray starts and ends them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import ray
from ray.exceptions import ActorAlreadyExistsError
from ray.experimental import internal_kv
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from muster.orchestrator.fleet.actors.gpus import HolderActor, ProbeActor
from muster.orchestrator.fleet.actors.member import MemberActor
from muster.orchestrator.fleet.actors.nodes import NODE
from muster.orchestrator.fleet.actors.ranks import RanksActor
from muster.orchestrator.fleet.places.gpus import Gpu
from muster.orchestrator.fleet.places.nodes import Resources
from muster.orchestrator.fleet.processes import Former
from muster.orchestrator.fleet.scheduler import FleetSettings, Scheduler
from muster.workers.task import MemberTask

NAMESPACE = "muster"
#: What the names of members' actors begin with; the key follows.
MEMBER = "member-"
#: A GPU that is looked at for so long does not compute.
PROBE_SECONDS = 120.0
#: A spare that does not answer for so long, busy as it may be with its pictures, is given up.
LIVES_SECONDS = 60.0


class RayProcesses:
    """The scheduler's `Processes`, on the cluster that this process belongs to."""

    member: Any = MemberActor
    "What trains a member alone."

    def __init__(self, settings: FleetSettings) -> None:
        self.settings = settings

    def nodes(self) -> Resources:
        return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}

    def free(self) -> Resources:
        """Ray has no public call that tells this of each node. It is a hint, and nothing waits for it."""
        try:
            found: Resources = ray._private.state.available_resources_per_node()
        except Exception:
            return {}
        return found

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

    def remember_stop(self) -> None:
        internal_kv._internal_kv_put(_stop_mark(), b"stopped")

    def stopped(self) -> bool:
        return bool(internal_kv._internal_kv_exists(_stop_mark()))

    def hire(self, task: MemberTask, *, ranked: bool, avoided: Sequence[str], node: str = "") -> Any:
        options: dict[str, Any] = {"name": MEMBER + task.key, "namespace": NAMESPACE}
        nodes = avoiding(avoided)
        kind: Any = RanksActor if ranked else self.member
        if node:  # its GPU and its CPU are reserved by the GPU's holder
            nodes, options["num_cpus"] = {NODE: node}, 0
        elif not ranked:  # the ranks' own places are Ray Train's to reserve
            options["num_cpus"] = task.spec.threads
        try:
            return kind.options(label_selector=nodes, **options).remote(*([nodes] if ranked else []))
        except ActorAlreadyExistsError:
            return None

    def prepare(self, process: Any, task: MemberTask) -> None:
        process.prepare.remote(self.settings.store, task)

    async def lives(self, process: Any) -> bool:
        try:
            await asyncio.wait_for(process.lives.remote(), LIVES_SECONDS)
        except (TimeoutError, ray.exceptions.RayError):
            return False
        return True

    async def run(self, process: Any, task: MemberTask, attempt: str, gpu: Gpu | None = None) -> None:
        fleet, settings = ray.get_runtime_context().current_actor, self.settings
        await process.run.remote(settings.store, settings.run, task, attempt, settings.gpus, fleet, gpu)

    def kill(self, process: Any) -> None:
        ray.kill(process)

    def hold(self, node: str, members: int, avoided: Sequence[str] = ()) -> Any:
        kind: Any = HolderActor
        there = {NODE: node} if node else avoiding(avoided)
        return kind.options(num_gpus=1, num_cpus=members, label_selector=there).remote()

    async def card(self, holder: Any) -> Gpu:
        found: Gpu = await holder.card.remote()
        return found

    async def ended(self, holder: Any) -> None:
        with contextlib.suppress(ray.exceptions.RayActorError):
            await holder.hold.remote()

    async def probe(self, gpu: Gpu, *, alone: bool) -> str:
        kind: Any = ProbeActor
        process = kind.options(label_selector={NODE: gpu.node}).remote()
        try:
            found: str = await asyncio.wait_for(process.look.remote(gpu.visible, alone), PROBE_SECONDS)
        except TimeoutError:
            return f"a process that looked at it gave no answer for {PROBE_SECONDS:.0f} s"
        finally:
            ray.kill(process)
        return found


def _stop_mark() -> str:
    """Where it is kept that this actor was told to stop: it has its id also when it was started again."""
    return f"muster-stopped-{ray.get_runtime_context().get_actor_id()}"


def avoiding(nodes: Sequence[str]) -> dict[str, str] | None:
    """Ray's label selector for all nodes but these."""
    return {NODE: f"!in({','.join(nodes)})"} if nodes else None


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
