"""A training state as one file that proves itself whole: no pickle, one put, its digest in its name.

An attempt saves one after each epoch, and one in the middle where it is told to end. Resuming takes the newest
whole one of any attempt, so a crash in the middle of a save, or a damaged file, costs an epoch and never a wrong
result.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from safetensors.torch import save

from muster.workers.errors import CorruptFileError, StoreError
from muster.workers.store.documents import COUNT, HISTORY, NUMBER, TEXT
from muster.workers.store.layout import CheckpointFile, ModelFolder
from muster.workers.store.records import parse_json
from muster.workers.store.tensors import read_tensors

#: An attempt keeps this many of its own: a damaged one leaves the one before.
KEPT = 2
_HEADER = {"__metadata__": {"state": TEXT}}
_STATE = {
    "epoch": COUNT, "history": HISTORY,
    "stretch?": {"steps": COUNT, "images": COUNT, "seconds": NUMBER, "loss": NUMBER},
}  # fmt: skip


@dataclass
class Stretch:
    """What came since the last epoch, or the last checkpoint of a method that counts in steps: most often nothing."""

    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    loss: float = math.nan
    "Of the last step."
    sums: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    "Of the steps' `StepLoss.sums`: 0, or [k]."


@dataclass
class Checkpoint:
    """Everything training goes on from; the randomness is a function of the step and needs no saving."""

    epoch: int
    "Epochs finished, or steps where a method counts in steps."
    model: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    "The optimiser's state, flat: `<parameter>.<name>`."
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    "The best epoch's weights so far, where the recipe selects by training accuracy."
    history: list[dict[str, Any]] = field(default_factory=list)
    "A row for each epoch: epoch, loss, accuracy, lr, images_per_s, seconds; or for each stretch of steps."
    stretch: Stretch = field(default_factory=Stretch)

    def to_bytes(self) -> bytes:
        parts = {"model": self.model, "optimizer": self.optimizer, "best": self.best}
        state: dict[str, Any] = {"epoch": self.epoch, "history": self.history}
        if self.stretch.steps:
            state["stretch"] = {name: value for name, value in asdict(self.stretch).items() if name != "sums"}
            parts["stretch"] = {"sums": self.stretch.sums}
        tensors = {f"{part}/{name}": t for part, found in parts.items() for name, t in found.items()}
        return save(on_host(tensors), metadata={"state": json.dumps(state)})

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "The checkpoint") -> Checkpoint:
        """Raises CorruptFileError if it is none; `where` names its file."""
        parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "optimizer": {}, "best": {}, "stretch": {}}
        tensors = read_tensors(data, where)
        try:
            (length,) = struct.unpack("<Q", data[:8])
            state = parse_json(parse_json(data[8 : 8 + length], _HEADER)["__metadata__"]["state"], _STATE)
            for name, tensor in tensors.items():
                kind, _, rest = name.partition("/")
                parts[kind][rest] = tensor
            sums, stretch = parts.pop("stretch"), Stretch()
            if "stretch" in state:
                stretch = Stretch(**state["stretch"], sums=sums["sums"])
        except (ValueError, KeyError) as error:
            raise CorruptFileError(f"{where} is damaged: it is no checkpoint ({error}).") from error
        return cls(epoch=state["epoch"], history=state["history"], stretch=stretch, **parts)


def save_checkpoint(folder: ModelFolder, attempt: str, checkpoint: Checkpoint) -> None:
    """Puts a checkpoint into the attempt's folder and drops this attempt's older ones."""
    data = checkpoint.to_bytes()
    folder.files.put(
        folder.checkpoint(attempt, checkpoint.epoch, _digest(data), checkpoint.stretch.steps), data
    )
    for old in folder.checkpoints(attempt)[KEPT:]:
        folder.files.delete(old.name)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def newest_whole(folder: ModelFolder) -> tuple[str, Checkpoint] | None:
    """The newest checkpoint of any attempt that is not damaged, behind the name of its file, by which `read_checkpoint`
    finds this very one on another rank."""
    for found in folder.checkpoints():
        try:
            return found.name, read_checkpoint(folder, found.name)
        except (StoreError, CorruptFileError):
            continue  # swept by another attempt that has just finished, or unreadable: an older one will do
    return None


def read_checkpoint(folder: ModelFolder, name: str) -> Checkpoint:
    """A checkpoint by its file's name. Raises StoreError if it is gone, CorruptFileError if it is damaged."""
    data = folder.files.get(name)
    named = CheckpointFile.parse(name)
    if named is None or _digest(data) != named.digest:
        raise CorruptFileError(f"{folder.files.path(name)} is damaged.")
    return Checkpoint.from_bytes(data, folder.files.path(name))


def snapshot(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies of tensors where they are, as a checkpoint holds them: on a GPU nobody waits for them."""
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}


def on_host(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors in the CPU's memory. From a GPU they come beside its other work, over pinned memory."""
    devices = {tensor.device for tensor in tensors.values() if tensor.is_cuda}
    if not devices:
        return tensors
    (device,) = devices
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.default_stream(device))  # the copies were made there
    with torch.cuda.stream(stream):
        found = {
            name: torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(
                tensor, non_blocking=True
            )
            if tensor.is_cuda
            else tensor
            for name, tensor in tensors.items()
        }
    stream.synchronize()
    return found


def flat_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's state as `<parameter>.<name>`: tensors alone, so that no pickle is needed."""
    state = optimizer.state_dict()["state"]
    flat = {f"{i}.{name}": value for i, found in state.items() for name, value in found.items()}
    return snapshot({name: value for name, value in flat.items() if isinstance(value, torch.Tensor)})


def load_optimizer(optimizer: torch.optim.Optimizer, flat: dict[str, torch.Tensor]) -> None:
    """Restores the state, each tensor in its parameter's memory order: in another one the steps that follow
    go through other, slower kernels, whose last bit need not be the same."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in flat.items():
        number, _, field = name.partition(".")
        like = parameters[int(number)]
        ordered = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        state.setdefault(int(number), {})[field] = ordered
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
