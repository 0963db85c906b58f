"""The training loop of one DREML member, on one device.

The result is a function of the spec and the training images: not of the clock, of neighbours, or of how
often the member was interrupted. `fit` trains from a checkpoint or from the start and hands a checkpoint
to its caller after each epoch; where that is kept is not this module's business.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from muster.workers.errors import DivergedError, loss_before
from muster.workers.methods.baseline.settings import BaselineSpec
from muster.workers.methods.bier.settings import BierSpec
from muster.workers.methods.dreml.loss import identity_proxy_loss
from muster.workers.methods.dreml.partition import meta_classes
from muster.workers.methods.dreml.schedule import learning_rate
from muster.workers.networks import backbones
from muster.workers.packs.pack import Int64, Pack, Part, Uint8
from muster.workers.rng import permutation, torch_seed, uniforms
from muster.workers.spec import MemberSpec
from muster.workers.store.checkpoint import Checkpoint, flat_optimizer, load_optimizer, on_host
from muster.workers.train import augment
from muster.workers.train.prefetch import Batch, fetched_ahead, host_batch

Report = Callable[[dict[str, Any]], None]
Save = Callable[[Checkpoint], None]
REPORT_SECONDS = 0.5


def prepare_device(spec: MemberSpec | BierSpec | BaselineSpec, device: torch.device) -> None:
    """Sets this process's threads and kernels as the spec asks. Call it once, before anything is computed."""
    torch.set_num_threads(spec.threads)
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.benchmark = not spec.deterministic
        torch.backends.cudnn.deterministic = spec.deterministic
        if spec.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)


def fit(
    spec: MemberSpec,
    pack: Pack,
    part: Part,
    *,
    device: torch.device,
    initial: backbones.State | None = None,
    resume: Checkpoint | None = None,
    save: Save = lambda checkpoint: None,
    report: Report = lambda progress: None,
) -> Checkpoint:
    """Trains a member and returns its last state; `trained_weights` picks the weights to keep.

    `part` holds the images of the training classes, `initial` the pretrained weights that `spec.weights`
    names. `save` gets a checkpoint after each epoch and `report` a dict of progress about twice a second:
    epoch (finished ones), epochs, step, steps, loss, images_per_s, seconds_left.
    Raises DivergedError if the loss is no longer finite. Source: DREML section 3.
    """
    member = _Member(spec, pack, part, device, initial)
    if resume is not None:
        member.restore(resume)
    for epoch in range(member.state.epoch, spec.recipe.epochs):
        row = member.train_epoch(epoch, report)
        member.finish_epoch(row)
        save(member.state)
    return member.state


def trained_weights(spec: MemberSpec, state: Checkpoint) -> dict[str, torch.Tensor]:
    """The weights that the recipe's `select` keeps."""
    return state.best if spec.recipe.select == "best-train" and state.best else state.model


class _Member:
    """A network in training: model, optimiser, data, and what it takes to go on from here."""

    def __init__(
        self, spec: MemberSpec, pack: Pack, part: Part, device: torch.device, initial: backbones.State | None
    ) -> None:
        self.spec, self.recipe, self.pack, self.device = spec, spec.recipe, pack, device
        self.names = (spec.seed, spec.D, spec.index)
        self.metas = meta_classes(spec.classes, spec.D, spec.seed, spec.index)
        self.rows, self.labels = _capped(part, self.recipe.class_cap, self.names)
        network = backbones.build(spec.backbone, spec.D, torch_seed(("init", *self.names)), initial)
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=self.recipe.lr,
            momentum=self.recipe.momentum,
            nesterov=self.recipe.nesterov,
            weight_decay=self.recipe.weight_decay,
        )
        self.to_float = augment.ToFloat(self.recipe.mean, self.recipe.std, device)
        self.state = Checkpoint(epoch=0, model={}, optimizer={})

    def restore(self, state: Checkpoint) -> None:
        self.network.load_state_dict(state.model)
        load_optimizer(self.optimizer, state.optimizer)
        self.state = state

    def train_epoch(self, epoch: int, report: Report) -> dict[str, Any]:
        """One pass over the images; a row of history."""
        self.network.train()
        started, reported = time.monotonic(), 0.0
        losses = right = torch.zeros((), device=self.device)
        batches = _batch_slices(len(self.rows), self.recipe.batch_size)
        seen, last_finite = 0, self.state.history[-1]["loss"] if self.state.history else math.nan
        for step, batch in enumerate(self._batches(epoch, batches)):
            rate = learning_rate(self.recipe, epoch, step, len(batches))
            loss, hits = self._step(batch, rate, (epoch, step))
            losses, right = losses + loss.detach() * len(batch.labels), right + hits
            seen += len(batch.labels)
            now = time.monotonic()
            if now - reported >= REPORT_SECONDS or step + 1 == len(batches):
                value = loss.item()
                self._check_finite(value, last_finite, epoch, step, rate)
                reported, last_finite = now, value
                report(self._progress(epoch, step + 1, len(batches), value, seen / (now - started)))
        seconds = time.monotonic() - started
        mean_loss = float(losses) / seen
        self._check_finite(mean_loss, last_finite, epoch, len(batches) - 1, rate)
        speed = {"images_per_s": round(seen / seconds, 2), "seconds": round(seconds, 3)}
        return {"epoch": epoch + 1, "loss": mean_loss, "accuracy": float(right) / seen, "lr": rate, **speed}

    def _step(self, batch: Batch, rate: float, where: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(torch_seed(("step", *self.names, *where)))  # dropout, where a network has it
        images = augment.distort(self.to_float(batch.images), self.recipe, batch.draws)
        labels = batch.labels.to(self.device, non_blocking=True)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.spec.precision == "bf16"):
            output = self.network(images)
        loss = identity_proxy_loss(output, labels, self.recipe.normalize_logits)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss, (output.argmax(1) == labels).sum()

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Takes the state after an epoch, and the best weights so far where the recipe asks for them.

        Raises DivergedError if the last step broke the weights: its loss was taken before it.
        """
        weights = on_host(self.network.state_dict())
        if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
            steps = len(_batch_slices(len(self.rows), self.recipe.batch_size))
            what = f"a weight is no longer finite after step {steps} of epoch {row['epoch']}"
            raise self._diverged(what, row["lr"], row["loss"])
        self.state = Checkpoint(
            epoch=row["epoch"],
            model=weights,
            optimizer=flat_optimizer(self.optimizer),
            best=self.state.best,
            history=[*self.state.history, row],
        )
        if self.recipe.select == "best-train" and row["epoch"] > 1:
            earlier = [found["accuracy"] for found in self.state.history[1:-1]]
            if not earlier or row["accuracy"] > max(earlier):
                self.state.best = {name: tensor.clone() for name, tensor in self.state.model.items()}

    def _batches(self, epoch: int, slices: list[slice]) -> Iterator[Batch]:
        order = permutation(("order", *self.names), len(self.rows), epoch=epoch)
        draws = augment.epoch_draws(self.names, epoch, len(self.rows))

        def make(part: slice) -> Batch:
            chosen = order[part]
            crops: Uint8 = augment.random_crops(self.pack, self.rows[chosen], self.recipe, draws[chosen])
            return host_batch(crops, self.metas[self.labels[chosen]], draws[chosen], self.device)

        return fetched_ahead(make, slices, self.device)

    def _progress(self, epoch: int, step: int, steps: int, loss: float, speed: float) -> dict[str, Any]:
        left = (self.recipe.epochs - epoch) * len(self.rows) - step * self.recipe.batch_size
        return {
            "epoch": epoch,
            "epochs": self.recipe.epochs,
            "step": step,
            "steps": steps,
            "loss": round(loss, 5),
            "images_per_s": round(speed, 1),
            "seconds_left": round(max(0.0, left / speed), 1),
        }

    def _check_finite(self, loss: float, last: float, epoch: int, step: int, rate: float) -> None:
        if not math.isfinite(loss):
            what = f"the loss became {loss} by step {step + 1} of epoch {epoch + 1}"
            raise self._diverged(what, rate, last)

    def _diverged(self, what: str, rate: float, last: float) -> DivergedError:
        return DivergedError(
            f"Member {self.spec.index}: {what}, at a learning rate of {rate:.3g}; {loss_before(last)}. "
            f"Lower the rate: --set lr={self.recipe.lr / 3:.2g}."
        )


def _batch_slices(samples: int, size: int) -> list[slice]:
    """Batches of `size`; the last, smaller one is kept, but for a single image, which joins the one before:
    BatchNorm has no statistics for one."""
    starts = list(range(0, samples, size))
    if len(starts) > 1 and samples - starts[-1] == 1:
        starts.pop()
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], samples], strict=True)]


def _capped(part: Part, cap: int, names: tuple[int, int, int]) -> tuple[Int64, Int64]:
    """Rows and labels with at most `cap` images of each class, drawn once for the member; 0: all."""
    if cap == 0:
        return part.rows, part.labels
    draws = uniforms(("class-cap", *names), len(part.rows))[:, 0]
    by_class = np.lexsort((draws, part.labels))
    starts = np.searchsorted(part.labels[by_class], np.arange(part.classes))
    rank = np.arange(len(by_class)) - starts[part.labels[by_class]]
    kept = np.sort(by_class[rank < cap])
    return part.rows[kept], part.labels[kept]
