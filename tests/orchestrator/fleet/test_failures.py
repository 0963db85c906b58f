"""What a member's failure means: in one line, whether it counts, whether it would happen again, and the cure."""

from __future__ import annotations

from typing import Any

import pytest
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
)

from muster.orchestrator.fleet.failures import Failure, judge, may_be_lost
from muster.workers.errors import (
    CorruptFileError,
    DivergedError,
    MusterError,
    StoreError,
    ToldToEndError,
    UsageError,
)

AGAIN = "Its finished epochs are kept: `muster resume` tries it again."


class PreemptedError(RayActorError):
    preempted = True


def raised(cause: Exception) -> RayTaskError:
    """As a call of an actor raises it."""
    found = RayTaskError("run", "a traceback", cause)
    assert found.cause is cause
    return found


def verdict(error: BaseException, *, node_lost: bool = False, siblings: bool = False) -> Failure:
    return judge(error, node_lost=node_lost, siblings=siblings)


@pytest.mark.parametrize("error", [DivergedError("nan"), UsageError(["one", "two"])])
@pytest.mark.parametrize("how", [lambda error: error, raised])
def test_what_would_happen_again_is_final(error: Exception, how: Any) -> None:
    found = verdict(how(error), node_lost=True)
    assert (found.counts, found.final) == (True, True)
    assert found.cause == str(error).splitlines()[0]
    assert found.cure == "It would fail again, and is not retried: change what the message names."


@pytest.mark.parametrize(
    "error", [CorruptFileError("x is damaged."), StoreError("no store"), MusterError("hm")]
)
@pytest.mark.parametrize("how", [lambda error: error, raised])
def test_what_we_say_ourselves_is_said_as_it_is_and_tried_again(error: Exception, how: Any) -> None:
    assert verdict(how(error)) == Failure(str(error), counts=True, final=False, cure=AGAIN)


@pytest.mark.parametrize(
    "error", [ActorDiedError(), ActorUnavailableError("no answer", None), RuntimeError("hm")]
)
def test_a_lost_node_is_nobody_s_fault(error: Exception) -> None:
    lost = Failure("its node was lost", counts=False, final=False, cure=AGAIN)
    assert verdict(error, node_lost=True) == lost
    assert verdict(PreemptedError(), node_lost=False) == lost


def test_what_waited_to_be_started_on_a_node_that_is_gone_is_nobody_s_fault() -> None:
    """It told nobody where it was, and Ray says it in words alone: these are those of release 2.60."""
    words = ActorDiedErrorContext(
        error_message="The actor died because its node has died. Node Id: 2f", actor_id=b"x" * 16
    )
    assert verdict(ActorDiedError(words)).cause == "its node was lost"


@pytest.mark.parametrize("how", [lambda error: error, raised])
def test_what_a_process_saves_as_it_is_told_to_end_is_nobody_s_fault(how: Any) -> None:
    error = ToldToEndError("Member 3 was told to end.")
    assert verdict(how(error)) == Failure("Member 3 was told to end.", counts=False, final=False, cure=AGAIN)


def test_a_kill_for_memory_counts_against_who_was_alone() -> None:
    cause = "killed: its node ran out of memory"
    cure = "Give it a node with more memory, or run fewer members at once: --parallel."
    error = OutOfMemoryError("a long text of Ray")
    assert verdict(error) == Failure(cause, counts=True, final=False, cure=cure, crowded=False)
    assert verdict(error, siblings=True) == Failure(cause, counts=False, final=False, cure=cure, crowded=True)


@pytest.mark.parametrize("error", [ActorDiedError(), ActorUnavailableError("no answer", None)])
def test_a_process_that_died_counts(error: Exception) -> None:
    found = verdict(error, siblings=True)
    assert found.cause == f"its process died ({str(error).splitlines()[0]})"
    assert (found.counts, found.final, found.cure, found.crowded) == (True, False, AGAIN, False)


def test_a_full_gpu_says_what_helps() -> None:
    kind = type("OutOfMemoryError", (RuntimeError,), {})
    for error in (kind("CUDA out of memory"), raised(kind("CUDA out of memory"))):
        assert verdict(error) == Failure(
            "the GPU ran out of memory",
            counts=True,
            final=False,
            cure="Run fewer members on a GPU: --gpus-per-member; or a smaller batch: --set batch_size=64; or leave the "
            "images on the host: --input host.",
            blames="",
        )


def test_anything_else_is_told_by_its_kind_in_one_line() -> None:
    error = raised(ValueError("\n first line \nsecond line"))
    assert verdict(error) == Failure("ValueError: first line ", counts=True, final=False, cure=AGAIN)
    assert verdict(KeyError()).cause == "KeyError: KeyError"
    assert len(verdict(ValueError("x" * 1000)).cause) == len("ValueError: ") + 300
    assert verdict(RayTaskError("run", "a traceback", None)).cause.startswith("RayTaskError: ")  # type: ignore[arg-type]


def test_colours_of_ray_and_of_a_log_don_t_come_through() -> None:
    found = verdict(RuntimeError("\x1b[36mray::MemberActor.run()\x1b[39m failed"))
    assert found.cause == "RuntimeError: ray::MemberActor.run() failed"


def test_only_a_process_out_of_reach_leaves_its_node_in_doubt() -> None:
    assert may_be_lost(ActorUnavailableError("no answer", None))
    assert not may_be_lost(ActorDiedError())
    assert not may_be_lost(NodeDiedError("it died"))


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_memory_that_cuda_itself_lacks_is_memory_too(text: str) -> None:
    """A context, a workspace and pinned memory are not torch's to allocate: it has no error of its own for them."""
    found = judge(RuntimeError(text), node_lost=False, siblings=True, shared=True)
    assert (found.counts, found.crowded, found.blames) == (False, True, "")
    alone = judge(RuntimeError(text), node_lost=False, siblings=True, shared=False)
    assert (alone.counts, alone.crowded, alone.blames) == (True, False, "")


def test_memory_of_the_host_is_not_the_gpu_s() -> None:
    found = judge(RuntimeError("DefaultCPUAllocator: can't allocate memory"), node_lost=False, siblings=False)
    assert found.blames == "node"
