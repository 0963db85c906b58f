"""The training loop, the same for all methods, on one rank of a team or alone.

The result is a function of the spec and the training images: not of the clock, of neighbours, or of how often the
training was interrupted. All ranks take the same decisions at the same step: they hold the same loss and the same
weights, and what only one can know (which checkpoint to go on from) is agreed on before it comes here.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from muster.workers.errors import DivergedError, ToldToEndError, loss_before
from muster.workers.store.checkpoint import Checkpoint, Stretch, flat_optimizer, snapshot
from muster.workers.train.prefetch import Batch, fed
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
    told_to_end: Callable[[], bool] = lambda: False,
) -> Checkpoint:
    """Trains a model to its end and returns its last state, whose `epoch` counts the trainer's units.

    The leader's `save` gets a checkpoint after each epoch, or every `checkpoint_steps` steps and at the end; then
    every rank calls `team.on_checkpoint`. `report` gets a dict of progress about twice a second: epoch (finished
    ones), epochs, step, steps, loss, images_per_s, seconds_left, step_seconds (of a step since the last checkpoint),
    stepping (is the next thing another step, and no checkpoint?). `told_to_end` is asked after each step of who
    trains alone; what it has said once it goes on saying.
    Raises DivergedError, on every rank, if the loss or a weight is no longer finite; ToldToEndError, with the steps so
    far saved.
    """
    team, state = trainer.team, Checkpoint(epoch=0, model={}, optimizer={})
    if resume is not None:
        trainer.restore(resume)
        state = resume
    every = 1 if trainer.unit == "epoch" else team.checkpoint_steps
    ahead = range(state.epoch * trainer.steps + state.stretch.steps, trainer.units * trainer.steps)
    with contextlib.closing(fed(trainer.batch, ahead, trainer.device)) as batches:
        while state.epoch < trainer.units:
            at = state.epoch + state.stretch.steps // trainer.steps
            units = min(trainer.units, at - at % every + every) - state.epoch
            done = _stretch(trainer, state, units * trainer.steps, batches, report, told_to_end)
            state = _checkpoint(trainer, state, units, done)
            if team.leads:
                save(state)
            if team.size == 1 and state.epoch < trainer.units and told_to_end():
                raise ToldToEndError(f"{trainer.title} was told to end, and has saved its work.")
            team.on_checkpoint(state.history[-1], state.epoch == trainer.units)
    return state


def _stretch(
    trainer: Trainer,
    state: Checkpoint,
    steps: int,
    batches: Iterator[Batch],
    report: Report,
    told_to_end: Callable[[], bool],
) -> Stretch:
    """Trains from a checkpoint to the next one, so many steps after it, or until it is told to end."""
    trainer.module.train()
    done, origin, alone = state.stretch, state.epoch * trainer.steps, trainer.team.size == 1
    last = done.loss if done.steps or not state.history else state.history[-1]["loss"]
    started, reported = time.monotonic() - done.seconds, 0.0
    seen, sums = done.images, done.sums.to(trainer.device)
    unseen: list[torch.Tensor] = []
    ahead = range(origin + done.steps, origin + steps)
    for step in ahead:
        loss = trainer.step(step, next(batches))
        sums, seen = sums + loss.sums, seen + trainer.images(step)
        unseen.append(loss.shown)
        over = step + 1 == ahead.stop or (alone and told_to_end())
        late = time.monotonic() - reported >= REPORT_SECONDS
        due = late if alone else step == ahead.start or (step + 1) % LOOK_STEPS == 0
        if over or due:
            last = _look(trainer, torch.stack(unseen).tolist(), step + 1 - len(unseen), last)
            unseen.clear()
            if late or over:
                reported = time.monotonic()
                took = reported - started
                progress = _progress(trainer, step, last, seen / took)
                report({**progress, "step_seconds": took / (step + 1 - origin), "stepping": not over})
        if over:
            break
    return Stretch(step + 1 - origin, seen, time.monotonic() - started, last, sums.cpu())


def _look(trainer: Trainer, losses: list[float], first: int, last: float) -> float:
    """The last of the losses. Raises DivergedError at the first one that is not finite."""
    for step, loss in enumerate(losses, start=first):
        if not math.isfinite(loss):
            raise _diverged(trainer, f"the loss became {loss} at", step, last)
        last = loss
    return last


def _checkpoint(trainer: Trainer, before: Checkpoint, units: int, done: Stretch) -> Checkpoint:
    """The state after a part of a stretch of so many units, or the whole of it. Raises DivergedError if its last step
    broke the weights: its loss came before."""
    weights = snapshot(trainer.module.state_dict())
    last = before.epoch * trainer.steps + done.steps - 1
    if not bool(torch.stack([tensor.isfinite().all() for tensor in weights.values()]).all()):
        raise _diverged(trainer, "a weight is no longer finite after", last, done.loss)
    state = replace(before, model=weights, optimizer=flat_optimizer(trainer.optimizer), stretch=done)
    if done.steps < units * trainer.steps:
        return state
    row = {
        trainer.unit: before.epoch + units,
        **trainer.row(done.sums, done.steps, done.images),
        "lr": trainer.rate(last),
        "images_per_s": round(done.images / done.seconds, 2),
        "seconds": round(done.seconds, 3),
    }
    best, history = trainer.best(before, weights, row), [*before.history, row]
    return replace(state, epoch=before.epoch + units, best=best, history=history, stretch=Stretch())


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
