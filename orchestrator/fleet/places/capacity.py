"""What the machines at hand can hold of a request: shares of GPUs, ranks, threads, precision.

Asked of a cluster in its job, and of this machine before a local head is started, so that a request that can't
be met is refused at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from muster.orchestrator.fleet.places.inventory import Inventory
from muster.orchestrator.records.measured import Place
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.errors import UsageError
from muster.workers.gpus.nvml import cards
from muster.workers.methods.registry import METHODS
from muster.workers.quantities import bytes_text
from muster.workers.spec import Precision


def check_machine(requests: Iterable[LaunchRequest]) -> None:
    """Raises UsageError for what the local head could never place; it need not run yet."""
    asked = [request for request in requests if _asks(request)]
    if not asked:  # counting takes Ray a second
        return
    there = here()
    problems: list[str] = []
    for request in asked:
        try:
            check_places_for(request, gpu_share(request, there), there)
        except UsageError as error:
            problems += error.problems
    if problems:
        raise UsageError(list(dict.fromkeys(problems)))


def here() -> Inventory:
    """This machine, as a local head would have it."""
    from muster.cluster import local

    there = local.offered()
    return Inventory.of(there, cards() or None if there["GPU"] else None)


def _asks(request: LaunchRequest) -> bool:
    """Whether a request can be too large for a machine that has a CPU."""
    asked = request.resources
    return (
        bool(asked.gpus_per_member)
        or asked.ranks > 1
        or request.ensemble.threads > 1
        or asked.input == "device"
        or request.ensemble.precision in {"bf16", "tf32"}
    )


def gpu_share(request: LaunchRequest, there: Inventory) -> float:
    """The share of a GPU that a member takes; 0 where there is none. Raises UsageError if asked for in vain."""
    gpus = there.total("GPU")
    share = request.resources.gpus_per_member
    if share is None or (share and METHODS[request.method].multi_rank):  # a rank has a GPU to itself
        return 1.0 if gpus else 0.0
    if share > gpus:
        raise UsageError(
            f"--gpus-per-member {share:g}: the cluster has {gpus:g} GPUs. Give 0 to train on CPUs."
        )
    return share


def check_places_for(request: LaunchRequest, gpus: float, there: Inventory) -> None:
    """Raises UsageError if there is no place for a member, or for all ranks at once: they would wait for ever.

    `gpus` is the share of a GPU that each takes.
    """
    ranks = request.resources.ranks if METHODS[request.method].multi_rank else 1
    threads = request.ensemble.threads
    room = there.room(gpus, threads)
    if not gpus and not room:
        most = max((node.has.get("CPU", 0.0) for node in there.nodes.values()), default=0.0)
        whose = "its largest node" if len(there.nodes) > 1 else "the cluster"
        cure = f"Take at most {most:g}." if most >= 1 else "Start Ray with --num-cpus, or add nodes."
        raise UsageError(f"ensemble.threads = {threads}: {whose} has {most:g} CPUs. {cure}")
    if gpus and there.total("GPU") and not room:
        raise UsageError(
            f"The cluster has {there.total('GPU'):g} GPUs and no CPU beside them, and each member needs one: start Ray "
            "on those nodes with --num-cpus."
        )
    lacking, precision = there.known_to_lack_bf16, request.ensemble.precision
    if gpus and precision in {"bf16", "tf32"} and len(lacking) >= there.total("GPU") > 0:
        raise UsageError(
            f"--precision {precision}: no GPU of the cluster has it: {', '.join(lacking[:4])}. Take --precision fp32."
        )
    if not gpus and request.resources.input == "device":
        raise UsageError("--input device: members train on CPUs here, and read the images where they are.")
    if not gpus and precision == "tf32":
        raise UsageError("--precision tf32: it is a way of GPUs to compute. On CPUs take --precision fp32.")
    if gpus and ranks > max(1, there.whole_gpus) and there.whole_gpus < there.total("GPU"):
        raise UsageError(
            f"--ranks {ranks}: {there.total('GPU') - there.whole_gpus:g} of the cluster's {there.total('GPU'):g} GPUs "
            f"are slices (MIG), which NCCL does not join. Take at most {max(1, there.whole_gpus)}."
        )
    if ranks > room and ranks > 1:
        have = f"{there.total('CPU'):g} CPUs, {threads} a rank"
        if gpus:
            have = f"{there.total('GPU'):g} GPUs"
            have += f", and CPUs beside {room} of them" if room < there.total("GPU") else ""
        raise UsageError(f"--ranks {ranks}: the cluster has {have}. Take at most {room}.")


def place_of(request: LaunchRequest, gpus: float, there: Inventory) -> Place:
    """Where members that each take so many GPUs (0: none) are trained, and how many of them at once."""
    room = there.room(gpus, request.ensemble.threads)
    ranks = request.resources.ranks if METHODS[request.method].multi_rank else 1
    slots = request.resources.parallel or max(1, room // ranks)
    return Place("gpu" if gpus else "cpu", slots, there.kinds if gpus else ())


def auto_precision(gpus: float, there: Inventory) -> Precision:
    """What precision "auto" is, which is part of the keys: what every GPU of the cluster can do."""
    return "bf16" if gpus and any(True for _ in there.with_gpus) and not there.lacking_bf16 else "fp32"


def remarks(request: LaunchRequest, gpus: float, precision: Precision, there: Inventory) -> list[str]:
    """What an operator should know of the places that a job has."""
    found = []
    if gpus and not METHODS[request.method].multi_rank and (bound := there.bound(gpus)):
        found.append(bound)
    lacking = there.known_to_lack_bf16
    if gpus and precision != "fp32" and lacking:
        found.append(f"{len(lacking)} GPU(s) without {precision} get no members: {', '.join(lacking[:4])}")
    if gpus and precision == "fp32" and not there.lacking_bf16:
        found.append("precision fp32: bf16 or tf32 trains several times faster on these GPUs (other models)")
    return found


def input_remark(request: LaunchRequest, gpus: float, there: Inventory, images: int) -> str:
    """Where the training images will be, so many bytes of pixels, or "" on CPUs. Raises UsageError where they were
    asked to be on the GPUs, and can't be."""
    asked = request.resources.input
    if not gpus or not images or asked == "host":
        return ""
    memory = min(
        (part.memory for node in there.with_gpus for card in node.cards or () for part in card.parts),
        default=0,
    )
    size = f"{bytes_text(images)} of training images"
    if memory and images > gpus * memory:
        text = f"{size} for each member, and its share of the smallest GPU is {bytes_text(gpus * memory)}"
        if asked == "device":
            raise UsageError(f"--input device: {text}. Take --input host, or a larger --gpus-per-member.")
        return f"input: the host, as there are {text}"
    return f"input: {size} on its GPU for each member" + (", where they fit" if asked == "auto" else "")
