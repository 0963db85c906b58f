"""A GPU's holder, its probe and who borrows it, as actors of Ray: see `holding.py` and `lending.py`. The holder makes
no context on it; the others end with what they are for."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import ray

from muster.orchestrator.fleet.places.gpus import Gpu, divided
from muster.workers.gpus import nvml
from muster.workers.quantities import bytes_text

#: Memory that is taken on a GPU without a process: of the driver, and what ECC costs.
NOBODYS_BYTES = 2 << 30
NOBODYS_BYTES_OF_A_SLICE = 256 << 20
#: How the UUIDs of slices (MIG) begin.
SLICE = "MIG-"
#: Of these the memory is the host's too, and what a process leaves there stays taken.
WITH_THE_HOST = ("GH200", "GB200", "GB300")
#: A GPU that seems to be in use is looked at so often, and after so many seconds.
LOOKS, LOOK_SECONDS = 3, 1.0


@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)
class HolderActor:
    """Holds the GPU that Ray gave it, and leaves it alone."""

    async def card(self) -> Gpu:
        """Which one it is. The memory of a process that just ended takes a moment to come free."""
        node = ray.get_runtime_context().get_node_id()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or str(ray.get_gpu_ids()[0])
        for _ in range(LOOKS):
            found = gpu_of(node, socket.gethostname(), visible, nvml.cards())
            if not found.trouble:
                break
            await asyncio.sleep(LOOK_SECONDS)
        return found

    async def hold(self) -> None:
        """Never returns."""
        await asyncio.Event().wait()


def gpu_of(node: str, host: str, visible: str, cards: tuple[nvml.Card, ...]) -> Gpu:
    """A GPU that Ray gave, by what CUDA_VISIBLE_DEVICES is with it, among this machine's. Ray counts GPUs of which it
    was only told: without NVML there is nothing to say of it."""
    card = nvml.find(visible, cards)
    if card is not None and card.mig and len(card.slices) == 1:  # what a container was given of it
        card = card.slices[0]
        visible = card.uuid
    trouble = told_of(visible, cards, alone=True)
    if card is None:  # a slice that is not shown, one that is lost, or one of which Ray alone was told
        name = "slice" if visible.startswith(SLICE) else "unknown" if cards else ""
        return Gpu(node, host, visible, name, trouble)
    if card.mig:  # by its number, as its UUID is of no use
        return Gpu(node, host, visible, card.name, trouble)
    none = not any(one.bf16 for one in cards)
    return Gpu(node, host, card.uuid or visible, card.name, trouble, card.bf16, none)


def taken(card: nvml.Card) -> str:
    """What to say where somebody's process is on a GPU that is to be ours alone, or ""."""
    nobodys = NOBODYS_BYTES_OF_A_SLICE if card.uuid.startswith(SLICE) else NOBODYS_BYTES
    if card.used <= nobodys or any(name in card.name for name in WITH_THE_HOST):
        return ""
    return f"another process holds {bytes_text(card.used)} of its {bytes_text(card.memory)} (`nvidia-smi` names it)"


def told_of(visible: str, cards: tuple[nvml.Card, ...], *, alone: bool) -> str:
    """What the driver knows of a GPU's trouble, or "". `alone`: nobody should be on it."""
    if not cards:
        return ""
    card = nvml.find(visible, cards)
    if card is None:  # slices are not shown to everybody, and older drivers call them otherwise
        return "" if visible.startswith(SLICE) else "the driver does not know it any more"
    if card.mig and len(card.slices) != 1:
        return divided(cards)
    return card.trouble or (taken(card) if alone else "")


@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)
class ProbeActor:
    """Computes on a GPU that failed a member."""

    def look(self, visible: str, alone: bool) -> str:
        """What is wrong with it, or ""."""
        if trouble := told_of(visible, nvml.cards(), alone=alone):
            return trouble
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
        from muster.workers.gpus.probe import fault

        return fault()


@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)
class BorrowerActor:
    """Works on a GPU that the fleet lent."""

    def lives(self) -> None:
        """Answers."""

    def call(self, gpu: Gpu, work: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """What `work` returns, which is told the `device`. Raises what it raises, and DeviceError."""
        from muster.orchestrator.fleet.actors.member import device_of, settle_allocator

        settle_allocator()
        return work(*args, device=str(device_of(gpu, 1.0)))
