"""BIER's training loop, on one rank of a team.

The result is a function of the spec and the training images; N ranks come to what one would, up to rounding.
All ranks take the same decisions at the same step: they hold the same loss and the same weights, and what only
one can know (which checkpoint to go on from) is agreed on before it comes here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import torch

from muster.workers.errors import DivergedError, loss_before
from muster.workers.methods.bier import batchnorm
from muster.workers.methods.bier.batches import LabelBatches
from muster.workers.methods.bier.network import BierStep, StepLoss, build_bier, parameter_groups
from muster.workers.methods.bier.settings import BierSpec
from muster.workers.methods.dreml.fit import REPORT_SECONDS, Report, Save
from muster.workers.networks import backbones
from muster.workers.packs.pack import Pack, Part
from muster.workers.store.checkpoint import Checkpoint, flat_optimizer, load_optimizer, on_host
from muster.workers.train import augment
from muster.workers.train.prefetch import Batch, fetched_ahead, host_batch
from muster.workers.train.team import ALONE, Team

#: Between two looks at the losses: each waits for the device, and all ranks must look at the same step.
LOOK_STEPS = 10
NETWORK = "network."


def fit_bier(
    spec: BierSpec,
    pack: Pack,
    part: Part,
    *,
    device: torch.device,
    team: Team = ALONE,
    initial: backbones.State | None = None,
    resume: Checkpoint | None = None,
    save: Save = lambda checkpoint: None,
    report: Report = lambda progress: None,
) -> Checkpoint:
    """Trains a model and returns its last state, whose `epoch` counts steps; `network_weights` picks what is kept.

    `save` gets a checkpoint every `team.checkpoint_steps` steps and at the end, on the leader alone; then every
    rank calls `team.meet`. `report` gets a dict of progress about twice a second.
    Raises DivergedError, on every rank, if the loss or a weight is no longer finite, and ValueError if the
    batch does not fit the classes or the ranks. Source: BIER section II; optimiser and batches: authors' code.
    """
    model = _Model(spec, pack, part, device, team, initial)
    if resume is not None:
        model.restore(resume)
    while model.state.epoch < spec.bier.steps:
        row = model.train_stretch(report)
        model.finish_stretch(row)
        if team.leads:
            save(model.state)
        team.meet(row)
    return model.state


def network_weights(state: Checkpoint) -> dict[str, torch.Tensor]:
    """The network's weights alone: the regressors are scaffolding."""
    return {
        name.removeprefix(NETWORK): tensor for name, tensor in state.model.items() if name.startswith(NETWORK)
    }


class _Model:
    """A network in training on one rank: model, optimiser, data, and what it takes to go on from here."""

    def __init__(
        self,
        spec: BierSpec,
        pack: Pack,
        part: Part,
        device: torch.device,
        team: Team,
        initial: backbones.State | None,
    ) -> None:
        self.spec, self.settings, self.recipe = spec, spec.bier, spec.recipe
        self.pack, self.part, self.device, self.team = pack, part, device, team
        network = build_bier(spec.backbone, spec.bier, spec.seed, initial)
        if spec.batch_norm == "frozen":
            batchnorm.freeze(network)
        batchnorm.convert(network, device, team.size)
        self.step = BierStep(network, spec.bier, spec.seed).to(device).to(memory_format=torch.channels_last)
        self.joined = team.join(self.step, device)
        self.optimizer = torch.optim.Adam(parameter_groups(self.step, spec.bier))
        self.batches = LabelBatches(part.labels, spec.bier, spec.seed, team.size)
        self.to_float = augment.ToFloat(self.recipe.mean, self.recipe.std, device)
        self.state = Checkpoint(epoch=0, model={}, optimizer={})
        self.finite = math.nan
        "The last finite loss seen."

    def restore(self, state: Checkpoint) -> None:
        self.step.load_state_dict(state.model)
        load_optimizer(self.optimizer, state.optimizer)
        self.state, self.finite = state, state.history[-1]["loss"]

    def train_stretch(self, report: Report) -> dict[str, Any]:
        """The steps up to the next checkpoint; a row of history."""
        self.joined.train()
        begin, every = self.state.epoch, self.team.checkpoint_steps
        end = min(self.settings.steps, begin - begin % every + every)
        started, reported = time.monotonic(), 0.0
        unseen: list[torch.Tensor] = []
        total = torch.zeros((), device=self.device)
        learners = torch.zeros(len(self.settings.sizes), device=self.device)
        for at, batch in enumerate(self._batches(range(begin, end)), start=begin):
            loss = self._train_step(at, batch)
            total, learners = total + loss.total.detach(), learners + loss.boosted.learners
            unseen.append(loss.boosted.loss.detach())
            if (at + 1) % LOOK_STEPS == 0 or at + 1 == end:
                self._look(torch.stack(unseen).tolist(), at + 1 - len(unseen))
                unseen.clear()
                now = time.monotonic()
                if now - reported >= REPORT_SECONDS or at + 1 == end:
                    reported = now
                    report(self._progress(at + 1, self.finite, (at + 1 - begin) / (now - started)))
        seconds = time.monotonic() - started
        means = (self.team.mean(total) / (end - begin)).item(), (learners / (end - begin)).tolist()
        return {
            "step": end,
            "loss": means[0],
            **{f"learner_{m}": loss for m, loss in enumerate(means[1], start=1)},
            "lr": self._rate(end - 1),
            "images_per_s": round((end - begin) * self.batches.size / seconds, 2),
            "seconds": round(seconds, 3),
            "ended": time.time(),
        }

    def _look(self, losses: list[float], first: int) -> None:
        """Raises DivergedError at the first loss that is not finite. They are the same on every rank, so all
        ranks stop here or none."""
        for at, loss in enumerate(losses, start=first):
            self._check(math.isfinite(loss), f"the loss became {loss} at step {at + 1}", at)
            self.finite = loss

    def finish_stretch(self, row: dict[str, Any]) -> None:
        """Takes the state after a stretch. Raises DivergedError if the last step broke the weights."""
        weights = on_host(self.step.state_dict())
        sound = all(bool(tensor.isfinite().all()) for tensor in weights.values())
        self._check(sound, f"a weight is no longer finite after step {row['step']}", row["step"] - 1)
        self.state = Checkpoint(
            epoch=row["step"],
            model=weights,
            optimizer=flat_optimizer(self.optimizer),
            history=[*self.state.history, row],
        )

    def _train_step(self, at: int, batch: Batch) -> StepLoss:
        images = augment.distort(self.to_float(batch.images), self.recipe, batch.draws)
        labels = batch.labels.to(self.device, non_blocking=True)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.settings.annealing(at)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.spec.precision == "bf16"):
            loss: StepLoss = self.joined(images, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        self.optimizer.step()
        return loss

    def _batches(self, steps: range) -> Iterator[Batch]:
        names, mine = ("bier", self.spec.seed), self.batches.positions(self.team.rank)

        def make(at: int) -> Batch:
            chosen = self.batches.share(at, self.team.rank)
            draws = augment.epoch_draws(names, at, self.batches.size)[mine]
            crops = augment.random_crops(self.pack, self.part.rows[chosen], self.recipe, draws)
            return host_batch(crops, self.part.labels[chosen], draws, self.device)

        return fetched_ahead(make, steps, self.device)

    def _rate(self, at: int) -> float:
        return self.settings.lr * self.settings.annealing(at)

    def _progress(self, done: int, loss: float, speed: float) -> dict[str, Any]:
        return {
            "epoch": 0,
            "epochs": 1,
            "step": done,
            "steps": self.settings.steps,
            "loss": round(loss, 5),
            "images_per_s": round(speed * self.batches.size, 1),
            "seconds_left": round((self.settings.steps - done) / speed, 1),
        }

    def _check(self, sound: bool, what: str, at: int) -> None:
        if sound:
            return
        raise DivergedError(
            f"BIER: {what}, at a learning rate of {self._rate(at):.3g}; {loss_before(self.finite)}. "
            "The last good checkpoint is kept. "
            f"Lower the rate: --set bier.lr={self.settings.lr / 3:.2g}."
        )
