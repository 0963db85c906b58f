"""What a member's failure means: whether it counts against it, whether trying again can help, and the cure.

Members that hang raise nothing: they are known by their silence between two steps of training. Only steps are timed. A
store, a pack, a first step, a checkpoint or an embedding may take as long as it takes: what is usual nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayTaskError

from muster.cluster.text import without_colours
from muster.workers.errors import DeviceError, DivergedError, MusterError, ToldToEndError, UsageError

#: So many times the usual time of a step. A team tells of each tenth step alone: ten of silence are usual, thirty not.
HANG_STEPS = 30
#: And at least so long: short steps may wait for minutes where a node swaps or its disk is busy, and go on by
#: themselves. To be wrong costs the steps since the last checkpoint; to wait costs ten minutes of one device.
HANG_SECONDS = 600.0


@dataclass(frozen=True)
class Failure:
    """A verdict on one failed attempt."""

    cause: str
    "One line."
    counts: bool
    "Does it count towards giving the member up, if it made no new checkpoint?"
    final: bool
    "Would any further attempt fail the same way?"
    cure: str
    crowded: bool = False
    "Was it killed for memory beside others? It is tried again beside fewer."
    blames: Literal["node", "gpu", ""] = "node"
    "Whose fault it may be beside its own."


#: What torch says where a GPU or its driver failed.
OF_DEVICES = (
    "CUDA error", "CUDA driver", "CUDA unknown error", "No CUDA GPUs", "CUDA-capable device", "CUDNN_STATUS_EXECUTION",
    "CUDNN_STATUS_INTERNAL", "CUDNN_STATUS_MAPPING", "CUBLAS_STATUS_EXECUTION", "CUBLAS_STATUS_INTERNAL",
)  # fmt: skip
#: And Ray of an actor that was to be started on a node that is gone.
OF_LOST_NODES = "its node has died"
#: And these are of the program, or of too little memory.
OF_PROGRAMS = ("device-side assert", "out of memory", "ALLOC_FAILED")


def judge(  # noqa: PLR0911  (a table of cases, one line each)
    error: BaseException, *, node_lost: bool, siblings: bool, shared: bool = False
) -> Failure:
    """The meaning of what a member's call raised.

    `node_lost`: its node is no longer in the cluster. `siblings`: other members have run beside it, `shared`: on its
    GPU. Every failure of an actor is some RayError, and only some are RayActorError.
    """
    cause = error.cause if isinstance(error, RayTaskError) and error.cause is not None else error
    if isinstance(cause, DivergedError | UsageError):
        return Failure(
            _line(cause),
            counts=True,
            final=True,
            cure="It would fail again, and is not retried: change what the message names.",
        )
    if isinstance(cause, ToldToEndError):
        return Failure(_line(cause), counts=False, final=False, cure=_again())
    if of_device(cause):
        return Failure(_line(cause), counts=False, final=False, cure=_again(), blames="gpu")
    if isinstance(cause, MusterError):
        return Failure(_line(cause), counts=True, final=False, cure=_again())
    if node_lost or getattr(error, "preempted", False) or OF_LOST_NODES in str(error):
        return Failure("its node was lost", counts=False, final=False, cure=_again())
    if isinstance(error, OutOfMemoryError):
        return out_of_memory(siblings=siblings)
    if isinstance(error, ActorDiedError | ActorUnavailableError):
        return Failure(f"its process died ({_line(error)})", counts=True, final=False, cure=_again())
    if of_gpu_memory(cause):
        cure = "Run fewer members on a GPU: --gpus-per-member; or a smaller batch: --set batch_size=64; or leave the "
        cure += "images on the host: --input host."
        return Failure(
            "the GPU ran out of memory", counts=not shared, final=False, cure=cure, crowded=shared, blames=""
        )
    return Failure(f"{type(cause).__name__}: {_line(cause)}", counts=True, final=False, cure=_again())


def out_of_memory(*, siblings: bool) -> Failure:
    """The verdict on a member that was ended because its node's memory was full."""
    cure = "Give it a node with more memory, or run fewer members at once: --parallel."
    cause = "killed: its node ran out of memory"
    return Failure(cause, counts=not siblings, final=False, cure=cure, crowded=siblings)


def of_gpu_memory(cause: BaseException) -> bool:
    """Whether a GPU had too little memory, for torch's tensors or for what CUDA takes itself: contexts, workspaces."""
    text = str(cause)
    lacking = "ALLOC_FAILED" in text or ("CUDA" in text and "out of memory" in text)
    return type(cause).__name__ == "OutOfMemoryError" or (isinstance(cause, RuntimeError) and lacking)


def of_device(cause: BaseException) -> bool:
    """Whether a GPU failed, and not what ran on it."""
    text = str(cause)
    if isinstance(cause, DeviceError):
        return True
    failed = isinstance(cause, RuntimeError) and any(words in text for words in OF_DEVICES)
    return failed and not any(words in text for words in OF_PROGRAMS)


def node_of(error: BaseException, nodes: Iterable[str]) -> str:
    """On which of these nodes it happened, as a rank says, or by Ray's text, or "": a process that is killed for memory
    at once tells nothing itself."""
    if told := getattr(getattr(error, "cause", None) or error, "node_id", ""):
        return str(told)
    text = str(error)
    return next((node for node in nodes if f"ID: {node}" in text), "")


def may_be_lost(error: BaseException) -> bool:
    """Whether it may be the loss of the node, of which Ray is not sure yet."""
    return isinstance(error, ActorUnavailableError)


def _line(error: BaseException) -> str:
    text = without_colours(str(error)).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def _again() -> str:
    return "Its finished epochs are kept: `muster resume` tries it again."


class HungError(MusterError):
    """A member in training has taken no step for far longer than its steps take."""


@dataclass
class StepWatch:
    """When the last step of one attempt was told of, and how long a step usually takes."""

    last: float | None = None
    "When, by the fleet's clock; None while it does something else than steps."
    usual: float = 0.0
    "Seconds of a step, as the member measured them."

    def follow(self, progress: dict[str, Any], now: float) -> None:
        """Takes what a member tells, and takes out of it what is meant for this alone."""
        self.usual = progress.pop("step_seconds", 0.0)
        self.last = now if progress.pop("stepping", False) else None

    def silence(self, now: float, least: float = HANG_SECONDS) -> float:
        """For how many seconds it has hung; 0 if it does not."""
        if self.last is None:
            return 0.0
        silent = now - self.last
        return silent if silent >= max(least, HANG_STEPS * self.usual) else 0.0
