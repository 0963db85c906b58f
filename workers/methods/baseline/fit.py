"""The compared methods: one network, one embedding, and a loss of pytorch-metric-learning, on one device.

The losses are that library's, called here and nowhere else; batches of P labels x K images are BIER's. Like a
member's, the result is a function of the spec and the training images: not of the clock, or of how often it was
interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from muster.workers.errors import DivergedError, UsageError, loss_before
from muster.workers.methods.baseline.settings import BaselineSettings, BaselineSpec, library_problem
from muster.workers.methods.bier.batches import LabelBatches
from muster.workers.methods.dreml.fit import REPORT_SECONDS, Report, Save
from muster.workers.networks import backbones
from muster.workers.packs.pack import Pack, Part
from muster.workers.rng import torch_seed
from muster.workers.store.checkpoint import Checkpoint, flat_optimizer, load_optimizer, on_host
from muster.workers.train import augment
from muster.workers.train.prefetch import Batch, fetched_ahead, host_batch


class MetricLoss(nn.Module):
    """A loss over a batch: embeddings float32 [n, dim], not normalised, and classes int64 [n] to a scalar.

    triplet: the mean over all semi-hard triplets, whose negative is farther than the positive by less than the
    margin; 0 if there are none (Schroff et al. 2015, section 3). npairs: cross-entropy of each label's pair among
    the pairs of all labels (Sohn 2016, eq. 6), plus the mean squared length. proxynca: the nearest proxy among all
    training classes, the class's own included (PML's form; Movshovitz-Attias et al. 2017, eq. 4, leaves it out).
    Raises UsageError if the library is missing.
    """

    def __init__(self, settings: BaselineSettings, classes: int, seed: int) -> None:
        super().__init__()
        if problem := library_problem():
            raise UsageError(problem)
        self.miner: nn.Module | None = None
        if settings.loss == "triplet":
            self.miner, self.loss = _triplet(settings.margin)
        elif settings.loss == "npairs":
            self.loss = _npairs(settings.embedding_l2)
        else:
            self.loss = _proxy_nca(settings, classes, seed)

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.miner is None:
            found: torch.Tensor = self.loss(embeddings, labels)
        else:
            found = self.loss(embeddings, labels, self.miner(embeddings, labels))
        return found


def _triplet(margin: float) -> tuple[nn.Module, nn.Module]:
    from pytorch_metric_learning import distances, losses, miners

    squared = distances.LpDistance(normalize_embeddings=True, p=2, power=2)
    miner = miners.TripletMarginMiner(margin=margin, type_of_triplets="semihard", distance=squared)
    return miner, losses.TripletMarginLoss(margin=margin, distance=squared)


def _npairs(embedding_l2: float) -> nn.Module:
    from pytorch_metric_learning import distances, losses, regularizers

    return losses.NPairsLoss(
        distance=distances.DotProductSimilarity(normalize_embeddings=False),
        embedding_regularizer=regularizers.LpRegularizer(p=2, power=2),
        embedding_reg_weight=embedding_l2,
    )


def _proxy_nca(settings: BaselineSettings, classes: int, seed: int) -> nn.Module:
    from pytorch_metric_learning import distances, losses

    squared = distances.LpDistance(normalize_embeddings=True, p=2, power=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(("baseline-proxies", seed)))
        return losses.ProxyNCALoss(classes, settings.dim, softmax_scale=settings.scale, distance=squared)


class BaselineNetwork(nn.Module):
    """A backbone that ends in the embedding, and the loss, whose proxies are trained with it."""

    def __init__(self, spec: BaselineSpec, initial: backbones.State | None) -> None:
        super().__init__()
        seed = torch_seed(("init", "baseline", spec.seed))
        self.network = backbones.build(spec.backbone, spec.D, seed, initial)
        self.loss = MetricLoss(spec.baseline, spec.classes, spec.seed)
        self.head = backbones.head(self.network, spec.backbone)[0]

    def groups(self, settings: BaselineSettings) -> list[dict[str, Any]]:
        """Adam's parameter groups; `factor` is what a group's rate is, times the backbone's."""
        head = list(self.network.get_submodule(self.head).parameters())
        body = [one for one in self.network.parameters() if all(one is not other for other in head)]
        groups: list[dict[str, Any]] = [
            {"params": body, "factor": 1.0, "weight_decay": settings.weight_decay},
            {"params": head, "factor": settings.embedding_lr, "weight_decay": settings.weight_decay},
        ]
        proxies = list(self.loss.parameters())
        if proxies:
            groups.append({"params": proxies, "factor": settings.proxy_lr, "weight_decay": 0.0})
        return groups


def fit_baseline(
    spec: BaselineSpec,
    pack: Pack,
    part: Part,
    *,
    device: torch.device,
    initial: backbones.State | None = None,
    resume: Checkpoint | None = None,
    save: Save = lambda checkpoint: None,
    report: Report = lambda progress: None,
) -> Checkpoint:
    """Trains a model and returns its last state; `muster.workers.methods.bier.fit.network_weights` picks what is kept.

    `save` gets a checkpoint after each epoch and `report` a dict of progress about twice a second.
    Raises DivergedError if the loss or a weight is no longer finite, UsageError if the library is missing.
    """
    model = _Model(spec, pack, part, device, initial)
    if resume is not None:
        model.restore(resume)
    for epoch in range(model.state.epoch, spec.epochs):
        row = model.train_epoch(epoch, report)
        model.finish_epoch(row)
        save(model.state)
    return model.state


class _Model:
    """A network in training: model, optimiser, data, and what it takes to go on from here."""

    def __init__(
        self,
        spec: BaselineSpec,
        pack: Pack,
        part: Part,
        device: torch.device,
        initial: backbones.State | None,
    ) -> None:
        self.spec, self.settings, self.recipe = spec, spec.baseline, spec.recipe
        self.pack, self.part, self.device = pack, part, device
        self.names = ("baseline", spec.seed)
        model = BaselineNetwork(spec, initial)
        self.model = model.to(device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.model.groups(self.settings), lr=self.settings.lr)
        self.batches = LabelBatches(part.labels, self.settings, spec.seed)
        self.steps = self.settings.steps(len(part.rows))
        self.to_float = augment.ToFloat(self.recipe.mean, self.recipe.std, device)
        self.state = Checkpoint(epoch=0, model={}, optimizer={})
        self.finite = math.nan
        "The last finite loss seen."

    def restore(self, state: Checkpoint) -> None:
        self.model.load_state_dict(state.model)
        load_optimizer(self.optimizer, state.optimizer)
        self.state, self.finite = state, state.history[-1]["loss"]

    def train_epoch(self, epoch: int, report: Report) -> dict[str, Any]:
        """One epoch; a row of history."""
        self.model.train()
        started, reported = time.monotonic(), 0.0
        total = torch.zeros((), device=self.device)
        first, size = epoch * self.steps, self.settings.batch_size
        for step, batch in enumerate(self._batches(range(first, first + self.steps))):
            loss = self._step(batch, epoch, step)
            total = total + loss.detach()
            now = time.monotonic()
            if now - reported >= REPORT_SECONDS or step + 1 == self.steps:
                value = loss.item()
                self._check(math.isfinite(value), f"the loss became {value} by step {step + 1}", epoch)
                reported, self.finite = now, value
                report(self._progress(epoch, step + 1, value, (step + 1) * size / (now - started)))
        seconds = time.monotonic() - started
        mean = float(total) / self.steps
        self._check(math.isfinite(mean), f"the loss became {mean} by step {self.steps}", epoch)
        speed = {"images_per_s": round(self.steps * size / seconds, 2), "seconds": round(seconds, 3)}
        return {"epoch": epoch + 1, "loss": mean, "lr": self.settings.rate(epoch), **speed}

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Takes the state after an epoch. Raises DivergedError if the last step broke the weights."""
        weights = on_host(self.model.state_dict())
        sound = all(bool(tensor.isfinite().all()) for tensor in weights.values())
        self._check(sound, f"a weight is no longer finite after step {self.steps}", row["epoch"] - 1)
        self.state = Checkpoint(
            epoch=row["epoch"],
            model=weights,
            optimizer=flat_optimizer(self.optimizer),
            history=[*self.state.history, row],
        )

    def _step(self, batch: Batch, epoch: int, step: int) -> torch.Tensor:
        torch.manual_seed(torch_seed(("step", *self.names, epoch, step)))  # dropout, where a network has it
        images = augment.distort(self.to_float(batch.images), self.recipe, batch.draws)
        labels = batch.labels.to(self.device, non_blocking=True)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate(epoch) * group["factor"]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.spec.precision == "bf16"):
            output = self.model.network(images)
        loss: torch.Tensor = self.model.loss(output.float(), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss

    def _batches(self, steps: range) -> Iterator[Batch]:
        def make(at: int) -> Batch:
            chosen = self.batches.batch(at)
            draws = augment.epoch_draws(self.names, at, self.batches.size)
            crops = augment.random_crops(self.pack, self.part.rows[chosen], self.recipe, draws)
            return host_batch(crops, self.part.labels[chosen], draws, self.device)

        return fetched_ahead(make, steps, self.device)

    def _progress(self, epoch: int, step: int, loss: float, speed: float) -> dict[str, Any]:
        left = (self.spec.epochs - epoch) * self.steps - step
        return {
            "epoch": epoch,
            "epochs": self.spec.epochs,
            "step": step,
            "steps": self.steps,
            "loss": round(loss, 5),
            "images_per_s": round(speed, 1),
            "seconds_left": round(left * self.settings.batch_size / speed, 1),
        }

    def _check(self, sound: bool, what: str, epoch: int) -> None:
        if sound:
            return
        raise DivergedError(
            f"Baseline {self.settings.loss}: {what} of epoch {epoch + 1}, at a learning rate of "
            f"{self.settings.rate(epoch):.3g}; {loss_before(self.finite)}. "
            f"Lower the rate: --set baseline.lr={self.settings.lr / 3:.2g}."
        )
