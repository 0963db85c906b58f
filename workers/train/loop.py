"""The training loop, the same for all methods, on one rank of a team or alone.

The result is a function of the spec and the training images: not of the clock, of neighbours, or of how often the
training was interrupted. All ranks take the same decisions at the same step: they hold the same loss and the same
weights, and what only one can know (which checkpoint to go on from) is agreed on before it comes here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from muster.workers.errors import DivergedError, loss_before
from muster.workers.store.checkpoint import Checkpoint, flat_optimizer, on_host
from muster.workers.train.prefetch import fetched_ahead
from muster.workers.train.trainer import Trainer

Report = Callable[[dict[str, Any]], None]
Save = Callable[[Checkpoint], None]

REPORT_SECONDS = 0.5
#: Between two looks at the losses of a team, but for its first step: each waits for the device, and all ranks must look
#: at the same step.
LOOK_STEPS = 10


def train(
    trainer: Trainer,
    *,
    resume: Checkpoint | None = None,
    save: Save = lambda checkpoint: None,
    report: Report = lambda progress: None,
) -> Checkpoint:
    """Trains a model to its end and returns its last state, whose `epoch` counts the trainer's units.

    The leader's `save` gets a checkpoint after each epoch, or every `checkpoint_steps` steps and at the end; then
    every rank calls `team.on_checkpoint`. `report` gets a dict of progress about twice a second: epoch (finished
    ones), epochs, step, steps, loss, images_per_s, seconds_left, step_seconds (of a step since the last checkpoint),
    stepping (is the next thing another step, and no checkpoint?).
    Raises DivergedError, on every rank, if the loss or a weight is no longer finite.
    """
    team, state, last = trainer.team, Checkpoint(epoch=0, model={}, optimizer={}), math.nan
    if resume is not None:
        trainer.restore(resume)
        state, last = resume, resume.history[-1]["loss"]
    every = 1 if trainer.unit == "epoch" else team.checkpoint_steps
    while state.epoch < trainer.units:
        end = min(trainer.units, state.epoch - state.epoch % every + every)
        row, last = _stretch(trainer, state.epoch, end, last, report)
        state = _checkpoint(trainer, state, row, last)
        if team.leads:
            save(state)
        team.on_checkpoint(row, state.epoch == trainer.units)
    return state


def _stretch(
    trainer: Trainer, begin: int, end: int, last: float, report: Report
) -> tuple[dict[str, Any], float]:
    """Trains from one checkpoint to the next: a row of history, and the last loss. Units are counted from 0."""
    trainer.module.train()
    started, reported, seen = time.monotonic(), 0.0, 0
    first, stop = begin * trainer.steps, end * trainer.steps
    unseen: list[torch.Tensor] = []
    sums = torch.zeros((), device=trainer.device)
    for step, batch in enumerate(fetched_ahead(trainer.batch, range(first, stop), trainer.device), first):
        loss = trainer.step(step, batch)
        sums, seen = sums + loss.sums, seen + trainer.images(step)
        unseen.append(loss.shown)
        late, over = time.monotonic() - reported >= REPORT_SECONDS, step + 1 == stop
        due = late if trainer.team.size == 1 else step == first or (step + 1) % LOOK_STEPS == 0
        if over or due:
            last = _look(trainer, torch.stack(unseen).tolist(), step + 1 - len(unseen), last)
            unseen.clear()
            if late or over:
                reported = time.monotonic()
                took = reported - started
                progress = _progress(trainer, step, last, seen / took)
                report({**progress, "step_seconds": took / (step + 1 - first), "stepping": not over})
    seconds = time.monotonic() - started
    row = {trainer.unit: end, **trainer.row(sums, stop - first, seen), "lr": trainer.rate(stop - 1)}
    return {**row, "images_per_s": round(seen / seconds, 2), "seconds": round(seconds, 3)}, last


def _look(trainer: Trainer, losses: list[float], first: int, last: float) -> float:
    """The last of the losses. Raises DivergedError at the first one that is not finite."""
    for step, loss in enumerate(losses, start=first):
        if not math.isfinite(loss):
            raise _diverged(trainer, f"the loss became {loss} at", step, last)
        last = loss
    return last


def _checkpoint(trainer: Trainer, before: Checkpoint, row: dict[str, Any], last: float) -> Checkpoint:
    """The state after a stretch. Raises DivergedError if its last step broke the weights: its loss came before."""
    weights, units = on_host(trainer.module.state_dict()), row[trainer.unit]
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise _diverged(trainer, "a weight is no longer finite after", units * trainer.steps - 1, last)
    return Checkpoint(
        epoch=units,
        model=weights,
        optimizer=flat_optimizer(trainer.optimizer),
        best=trainer.best(before, weights, row),
        history=[*before.history, row],
    )


def _progress(trainer: Trainer, step: int, loss: float, images_per_s: float) -> dict[str, Any]:
    """Where the training is after a step. A method that counts in steps has one epoch."""
    steps = trainer.units * trainer.steps
    epochs = trainer.units if trainer.unit == "epoch" else 1
    each = steps // epochs
    left = (steps - step - 1) * trainer.images(0)
    return {
        "epoch": step // each,
        "epochs": epochs,
        "step": step % each + 1,
        "steps": each,
        "loss": round(loss, 5),
        "images_per_s": round(images_per_s, 1),
        "seconds_left": round(left / images_per_s, 1),
    }


def _diverged(trainer: Trainer, what: str, step: int, last: float) -> DivergedError:
    epoch, place = divmod(step, trainer.steps)
    where = f"step {place + 1} of epoch {epoch + 1}" if trainer.unit == "epoch" else f"step {step + 1}"
    return DivergedError(
        f"{trainer.title}: {what} {where}, at a learning rate of {trainer.rate(step):.3g}; {loss_before(last)}. "
        f"The last good checkpoint is kept. Lower the rate: --set {trainer.rate_setting}={trainer.base_rate / 3:.2g}."
    )
