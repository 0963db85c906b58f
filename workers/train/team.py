"""The processes that train one model together: who leads, what they agree on, and when they meet."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

A = TypeVar("A")


def _nothing(row: dict[str, Any], over: bool) -> None:
    """What a process without company does at a checkpoint."""


@dataclass(frozen=True)
class Team:
    """One process's view of its group; by default it is alone.

    The process group must exist already where `size` is above 1: Ray Train, torchrun or a test makes it.
    """

    rank: int = 0
    size: int = 1
    checkpoint_steps: int = 500
    "Steps between two checkpoints of a model that all train together."
    on_checkpoint: Callable[[dict[str, Any], bool], None] = _nothing
    "Called by every rank after each checkpoint, with the row of history before it, and whether it is the last."

    @property
    def leads(self) -> bool:
        """Only the leader writes to the store."""
        return self.rank == 0

    def agree(self, value: A) -> A:
        """The leader's value, on every rank: what each reads from the store for itself may differ. It is one that JSON
        can hold; torch would send it pickled, and run what another sent in its place."""
        if self.size == 1:
            return value
        device = _carried_by()
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(device)
        size = torch.tensor(len(data), device=device)
        dist.broadcast(size, src=0)
        if not self.leads:
            data = torch.empty(int(size), dtype=torch.uint8, device=device)
        dist.broadcast(data, src=0)
        found: A = json.loads(bytes(data.tolist()))
        return found

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean of a tensor over the ranks."""
        if self.size == 1:
            return value
        total = value.to(_carried_by(), copy=True)
        dist.all_reduce(total)
        return (total / self.size).to(value.device)

    def join(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module with its gradients averaged over the ranks. Statistics and buffers are the module's business."""
        if self.size == 1:
            return module
        devices = [device] if device.type == "cuda" else None
        return DistributedDataParallel(
            module, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
        )


def _carried_by() -> str:
    """Where the default group takes tensors from."""
    return "cuda" if dist.get_backend() == "nccl" else "cpu"


ALONE = Team()
