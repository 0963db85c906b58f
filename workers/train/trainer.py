"""What a method gives to the training loop: a model, its batches and its steps.

`Trainer` holds what all methods do alike; a method's own adds the loss, the order of the images and the rows of its
history. All is counted in steps from 0: an epoch is a number of steps.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from muster.workers.errors import UsageError
from muster.workers.gpus.nvml import BF16
from muster.workers.networks.backbones import State, build, head
from muster.workers.packs.pack import Int64, Pack, Part
from muster.workers.rng import Float64, torch_seed
from muster.workers.spec import ModelSpec
from muster.workers.store.checkpoint import Checkpoint, load_optimizer
from muster.workers.task import InputPlace
from muster.workers.train import augment
from muster.workers.train.label_batches import LabelBatches
from muster.workers.train.prefetch import Batch, Buffer, host_batch
from muster.workers.train.source import Source
from muster.workers.train.team import ALONE, Team


@dataclass(frozen=True)
class Materials:
    """What a model is trained from, and on."""

    pack: Pack
    part: Part
    "The images of the training classes."
    device: torch.device
    team: Team = ALONE
    initial: State | None = None
    "The pretrained weights that the spec's `weights` names."
    inputs: Sequence[np.ndarray] = field(default=())
    "Vectors of the models that the task names as inputs, float32 [images of the part, dimension] each."
    input: InputPlace = "auto"
    "Where the images are while it trains."
    log: Callable[[str], None] = lambda line: None


class Samples(NamedTuple):
    """The images of a step, or a rank's share of them."""

    rows: Int64
    "Places in the pack, int64 [n]."
    labels: Int64
    "What the loss is told of each image, int64 [n]: classes, meta-classes, or places in the training set."
    draws: Float64
    "The randomness of each image's augmentation, float64 [n, 4]."


class StepLoss(NamedTuple):
    """The loss of one step."""

    total: torch.Tensor
    "Scalar to call backward on."
    shown: torch.Tensor
    "Scalar, detached: what is reported and must be finite; the same on every rank."
    sums: torch.Tensor
    "[k], detached: added up over the steps, for `Trainer.row`."


class Trainer(ABC):
    """A model in training: its network, optimiser and batches, and what it takes to go on from a checkpoint."""

    unit: Literal["epoch", "step"] = "epoch"
    "What checkpoints and rows of the history count."
    title: str
    'What messages call it: "Member 3".'
    rate_setting: str
    "The setting of the learning rate, for the message that it is too high."
    base_rate: float
    "Its value."
    module: nn.Module
    "All that has a state: the network, and what is trained with it."
    optimizer: torch.optim.Optimizer

    def __init__(self, spec: ModelSpec, materials: Materials) -> None:
        self.recipe, self.precision = spec.recipe, spec.precision
        self.pack, self.part, self.device = materials.pack, materials.part, materials.device
        self.team, self.tuned = materials.team, not spec.deterministic
        self.drawing = threading.Lock()
        self.to_float = augment.ToFloat(self.recipe.mean, self.recipe.std, self.device)
        self.source = Source(self.pack, self.part.rows, self.device, materials.input, materials.log)

    @property
    @abstractmethod
    def units(self) -> int:
        """Epochs or steps of the whole training."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """Steps of a unit: 1 where the unit is a step."""

    @abstractmethod
    def images(self, step: int) -> int:
        """Images of a step, of all ranks together."""

    @abstractmethod
    def samples(self, step: int) -> Samples:
        """The images that this rank sees in a step."""

    @abstractmethod
    def rate(self, step: int) -> float:
        """The learning rate of a step."""

    @abstractmethod
    def loss(self, step: int, images: torch.Tensor, labels: torch.Tensor) -> StepLoss:
        """The loss of a batch: images float32 [n, 3, side, side], augmented, and labels int64 [n]."""

    @abstractmethod
    def row(self, sums: torch.Tensor, steps: int, images: int) -> dict[str, Any]:
        """A row of the history, `loss` first: of the sums over so many steps and images."""

    def kept(self, state: Checkpoint) -> State:
        """The weights of the network that a finished model keeps."""
        return state.model

    def best(self, before: Checkpoint, weights: State, row: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """The weights that go into the checkpoint beside the last ones, after an epoch that gave `row`."""
        return before.best

    def set_rates(self, step: int) -> None:
        """Sets the optimiser's rates: a group's is the step's, times its `factor`."""
        rate = self.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)

    def restore(self, state: Checkpoint) -> None:
        """Takes the state of a checkpoint."""
        self.module.load_state_dict(state.model)
        load_optimizer(self.optimizer, state.optimizer)

    def batch(self, step: int, buffer: Buffer) -> Batch:
        """The batch of a step. May be called from threads."""
        with self.drawing:  # an epoch's order is kept until another epoch is asked for
            rows, labels, draws = self.samples(step)
        windows = augment.random_windows(self.pack, rows, self.recipe, draws)
        images = self.source.images(windows, self.recipe.crop, buffer)
        return host_batch(images, labels, augment.turns_of(self.recipe, draws), buffer)

    def step(self, step: int, batch: Batch) -> StepLoss:
        """One step of the optimiser."""
        if (
            self.device.type == "cuda"
        ):  # a smaller last batch comes once an epoch: not worth a search for kernels
            torch.backends.cudnn.benchmark = self.tuned and self.images(step) == self.images(0)
        images = augment.distort(self.to_float(batch.images()), batch.turns)
        labels = batch.labels.to(self.device, non_blocking=True)
        self.set_rates(step)
        found = self.loss(step, images, labels)
        self.optimizer.zero_grad(set_to_none=True)
        found.total.backward()
        self.optimizer.step()
        self.source.stepped()
        return found

    def autocast(self) -> torch.autocast:
        """The arithmetic that the spec asks for."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def seed(self, step: int, names: tuple[object, ...]) -> None:
        """Seeds dropout, where a network has it, by the model's names and the step's place in its epoch."""
        torch.manual_seed(torch_seed(("step", *names, *divmod(step, self.steps))))


class LabelTrainer(Trainer):
    """A trainer whose epochs are batches of P labels x K images, on one process, with one loss."""

    settings: Any
    "Has `epochs`, and the shape of its batches."
    names: tuple[object, ...]
    "What all randomness of the model is named by."

    def __init__(self, spec: ModelSpec, materials: Materials, settings: Any) -> None:
        super().__init__(spec, materials)
        self.settings, self.base_rate, self.names = settings, settings.lr, (spec.method, spec.seed)
        self.rate_setting = f"{spec.method}.lr"
        self.batches = LabelBatches(self.part.labels, settings, spec.seed)

    @property
    def units(self) -> int:
        return int(self.settings.epochs)

    @property
    def steps(self) -> int:
        return int(self.settings.steps_of(len(self.part.rows)))

    def images(self, step: int) -> int:
        return self.batches.size

    def samples(self, step: int) -> Samples:
        chosen = self.batches.batch(step)
        draws = augment.epoch_draws(self.names, step, self.batches.size)
        return Samples(self.part.rows[chosen], self.labels_of(chosen), draws)

    def labels_of(self, chosen: Int64) -> Int64:
        """What the loss is told of images, by their places in the training set: by default their classes."""
        return self.part.labels[chosen]

    def row(self, sums: torch.Tensor, steps: int, images: int) -> dict[str, Any]:
        return {"loss": float(sums) / steps}


def head_groups(network: nn.Module, backbone: str, factor: float, decay: float) -> list[dict[str, Any]]:
    """An optimiser's groups: the backbone, and the last layer, whose rate is `factor` times the backbone's."""
    last = list(network.get_submodule(head(network, backbone)[0]).parameters())
    body = [one for one in network.parameters() if all(one is not other for other in last)]
    return [
        {"params": body, "factor": 1.0, "weight_decay": decay},
        {"params": last, "factor": factor, "weight_decay": decay},
    ]


def plain_network(spec: ModelSpec) -> nn.Module:
    """A backbone whose last layer gives the vector: what most methods' weights fit."""
    return build(spec.backbone, spec.dimension, 0, pretrained=spec.weights != "none")


def below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names begin so, under the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def prepare_device(spec: ModelSpec, device: torch.device) -> None:
    """Sets this process's threads and kernels as the spec asks. Call it once, before anything is computed."""
    torch.set_num_threads(spec.threads)
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.benchmark = not spec.deterministic
        torch.backends.cudnn.deterministic = spec.deterministic
        if spec.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(spec.deterministic)
        # Nothing reads memory that it has not written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextlib.contextmanager
def arithmetic(spec: ModelSpec, device: torch.device) -> Iterator[None]:
    """Within it products are computed as the spec's precision says; vectors are embedded outside, in float32.

    Raises UsageError for bf16 on a GPU that only imitates it, which would be slow and round otherwise, and for TF32
    where it has no effect.
    """
    lacking = device.type == "cuda" and torch.cuda.get_device_capability(device) < BF16
    if (spec.precision != "fp32" and lacking) or (spec.precision == "tf32" and device.type != "cuda"):
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
        raise UsageError(
            f"Its precision is {spec.precision}, and {name} of {socket.gethostname()} has none. Leave that node out, "
            "or train other models with --precision fp32."
        )
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = spec.precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
