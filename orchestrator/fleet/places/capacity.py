"""What the machines at hand can hold of a request: shares of GPUs, ranks, threads, precision.

Asked of a cluster in its job, and of this machine before a local head is started, so that a request that can't
be met is refused at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from muster.orchestrator.fleet.places.nodes import room_of
from muster.orchestrator.records.measured import Place
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.errors import UsageError
from muster.workers.methods.registry import METHODS
from muster.workers.spec import Precision

#: GPUs that have no bf16 arithmetic of their own, as Ray names them.
WITHOUT_BF16 = ("V100", "P100", "T4", "P4", "K80", "M60", "RTX-20")
#: Amounts by name, as Ray counts: "CPU", "GPU", "accelerator_type:H100".
Amounts = Mapping[str, float]


def cluster_resources() -> Amounts:
    """What the cluster has that this process is connected to."""
    import ray

    found: Amounts = ray.cluster_resources()
    return found


def check_machine(requests: Iterable[LaunchRequest]) -> None:
    """Raises UsageError for what the local head could never place; it need not run yet."""
    asked = [request for request in requests if _asks(request)]
    if not asked:  # counting takes Ray a second
        return
    from muster.cluster import local

    there = local.offered()
    problems: list[str] = []
    for request in asked:
        try:
            check_places_for(request, gpu_share(request, there), there)
        except UsageError as error:
            problems += error.problems
    if problems:
        raise UsageError(list(dict.fromkeys(problems)))


def _asks(request: LaunchRequest) -> bool:
    """Whether a request can be too large for a machine that has a CPU."""
    return (
        bool(request.resources.gpus_per_member) or request.resources.ranks > 1 or request.ensemble.threads > 1
    )


def gpu_share(request: LaunchRequest, there: Amounts) -> float:
    """The share of a GPU that a member takes; 0 where there is none. Raises UsageError if asked for in vain."""
    gpus = there.get("GPU", 0)
    share = request.resources.gpus_per_member
    if share is None or (share and METHODS[request.method].multi_rank):  # a rank has a GPU to itself
        return 1.0 if gpus else 0.0
    if share > gpus:
        raise UsageError(
            f"--gpus-per-member {share:g}: the cluster has {gpus:g} GPUs. Give 0 to train on CPUs."
        )
    return share


def check_places_for(request: LaunchRequest, gpus: float, there: Amounts) -> None:
    """Raises UsageError if there is no place for a member, or for all ranks at once: they would wait for ever.

    `gpus` is the share of a GPU that each takes.
    """
    ranks = request.resources.ranks if METHODS[request.method].multi_rank else 1
    threads, cpus = request.ensemble.threads, there.get("CPU", 0)
    if not gpus and threads > cpus:
        raise UsageError(
            f"ensemble.threads = {threads}: the cluster has {cpus:g} CPUs. Take at most {cpus:g}."
        )
    kind, room, have = ("GPUs", there.get("GPU", 0), there.get("GPU", 0))
    if not gpus:
        kind, room, have = f"CPUs, {threads} a rank", cpus / threads, cpus
    if ranks > room and ranks > 1:
        raise UsageError(f"--ranks {ranks}: the cluster has {int(have)} {kind}. Take at most {int(room)}.")


def place_of(request: LaunchRequest, gpus: float, there: Amounts) -> Place:
    """Where members that each take so many GPUs (0: none) are trained, and how many of them at once."""
    (room,) = room_of({"all of it": there}, gpus, request.ensemble.threads).values()
    ranks = request.resources.ranks if METHODS[request.method].multi_rank else 1
    slots = request.resources.parallel or max(1, room // ranks)
    return Place("gpu" if gpus else "cpu", slots, _cards(there) if gpus else ())


def _cards(there: Amounts) -> tuple[str, ...]:
    """The kinds of GPUs, as Ray names them."""
    kind = "accelerator_type:"
    return tuple(name.removeprefix(kind) for name in there if name.startswith(kind))


def auto_precision(gpus: float, there: Amounts) -> Precision:
    """What precision "auto" is, which is part of the keys: what every GPU of the cluster can do."""
    cards = _cards(there)
    able = bool(cards) and not any(card.startswith(WITHOUT_BF16) for card in cards)
    return "bf16" if gpus and able else "fp32"
