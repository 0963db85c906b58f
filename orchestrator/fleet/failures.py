"""What a member's failure means: whether it counts against it, whether trying again can help, and the cure."""

from __future__ import annotations

from dataclasses import dataclass

from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayTaskError

from muster.cluster.text import without_colours
from muster.workers.errors import DivergedError, MusterError, UsageError


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


def judge(  # noqa: PLR0911  (a table of cases, one line each)
    error: BaseException, *, node_lost: bool, siblings: bool
) -> Failure:
    """The meaning of what a member's call raised.

    `node_lost`: its node is no longer in the cluster. `siblings`: other members have run beside it. Every
    failure of an actor is some RayError, and only some are RayActorError.
    """
    cause = error.cause if isinstance(error, RayTaskError) and error.cause is not None else error
    if isinstance(cause, DivergedError | UsageError):
        return Failure(
            _line(cause), counts=True, final=True, cure="Change the recipe or the input; it is not retried."
        )
    if isinstance(cause, MusterError):
        return Failure(_line(cause), counts=True, final=False, cure=_again())
    if node_lost or getattr(error, "preempted", False):
        return Failure("its node was lost", counts=False, final=False, cure=_again())
    if isinstance(error, OutOfMemoryError):
        cure = "Give it a node with more memory, or run fewer members at once: --parallel."
        cause = "killed: its node ran out of memory"
        return Failure(cause, counts=not siblings, final=False, cure=cure, crowded=siblings)
    if isinstance(error, ActorDiedError | ActorUnavailableError):
        return Failure(f"its process died ({_line(error)})", counts=True, final=False, cure=_again())
    if type(cause).__name__ == "OutOfMemoryError":
        cure = "Run fewer members on a GPU: --gpus-per-member; or a smaller batch: --set batch_size=64."
        return Failure("the GPU ran out of memory", counts=True, final=False, cure=cure)
    return Failure(f"{type(cause).__name__}: {_line(cause)}", counts=True, final=False, cure=_again())


def may_be_lost(error: BaseException) -> bool:
    """Whether it may be the loss of the node, of which Ray is not sure yet."""
    return isinstance(error, ActorUnavailableError)


def _line(error: BaseException) -> str:
    text = without_colours(str(error)).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def _again() -> str:
    return "Its finished epochs are kept: `muster resume` tries it again."
