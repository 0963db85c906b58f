"""BIER's training loop: resumed is the same as straight through, two ranks are the same as one, and no NaN is kept."""

from __future__ import annotations

import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import spawn

from muster.workers.errors import DivergedError, ToldToEndError
from muster.workers.methods.bier.settings import BierSettings, BierSpec
from muster.workers.spec import InputRecipe
from muster.workers.store.checkpoint import Checkpoint
from muster.workers.store.layout import Store
from muster.workers.task import MemberTask
from muster.workers.train.team import Team
from tests.workers.members import result, run, same_result, task_for
from tests.workers.samples import CPU, VIEW, kept, same_tensors, synthetic_pack, train
from tests.workers.train.resumed import same_when_resumed, told_after

PACK = synthetic_pack(classes=6, each=5)
PART = PACK.index.part()
STEPS = 11
EVERY = 4
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "eta": {"variant": "eta"},
    "adversarial": {"auxiliary": "adversarial", "lambda_div": 0.01, "lambda_weight": 1.0},
    "annealed": {"anneal_every": 3, "anneal_factor": 0.3},
    "baseline": {"boost": False},
}


def spec_of(kind: str = "plain", **changes: Any) -> BierSpec:
    given: dict[str, Any] = {"sizes": (4, 6), "labels": 4, "images": 2, "steps": STEPS, "lr": 1e-3}
    settings = BierSettings(**{**given, **KINDS[kind], **changes})
    recipe = InputRecipe(resize="squash:20", crop=16, pad=2, mean=VIEW.mean, std=VIEW.std)
    return BierSpec(
        train_digest=PART.digest, classes=PART.classes, backbone="conv4", weights="none", seed=3, recipe=recipe,
        bier=settings, precision="fp32", threads=1, deterministic=False,
    )  # fmt: skip


def trained(spec: BierSpec, **options: Any) -> Checkpoint:
    return train(spec, PACK, **{"team": Team(checkpoint_steps=EVERY), **options})


@pytest.mark.parametrize("kind", KINDS)
def test_resuming_gives_the_same_bits(kind: str) -> None:
    _, saved = same_when_resumed(partial(trained, spec_of(kind)))
    assert [Checkpoint.from_bytes(data).epoch for data in saved] == [4, 8, STEPS]


def test_who_was_told_to_end_goes_on_also_with_shorter_stretches() -> None:
    straight, saved = trained(spec_of()), list[Checkpoint]()
    with pytest.raises(ToldToEndError):
        trained(spec_of(), save=saved.append, told_to_end=told_after(7))
    assert [(state.epoch, state.stretch.steps) for state in saved] == [(4, 0), (4, 3)]
    resumed = trained(spec_of(), team=Team(checkpoint_steps=2), resume=saved[-1], save=saved.append)
    assert [state.epoch for state in saved] == [4, 4, 8, 10, STEPS]
    assert same_tensors(resumed.model, straight.model)


def test_the_interval_between_checkpoints_does_not_change_the_weights() -> None:
    weights = [trained(spec_of(), team=Team(checkpoint_steps=every)).model for every in (3, 100)]
    assert same_tensors(*weights)


def test_the_loss_falls_and_every_setting_of_the_loss_has_an_effect() -> None:
    states = {kind: trained(spec_of(kind, steps=40)) for kind in KINDS}
    losses = [row["loss"] for row in states["plain"].history]
    assert losses[-1] < 0.7 * losses[0]
    for kind in set(KINDS) - {"plain"}:
        assert not same_tensors(
            kept(spec_of(kind), PACK, states[kind]), kept(spec_of(), PACK, states["plain"])
        ), kind


def _rank(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet-{size}", rank=rank, world_size=size,
        timeout=datetime.timedelta(seconds=120),
    )  # fmt: skip
    met: list[Any] = []
    team = Team(
        rank=rank, size=size, checkpoint_steps=EVERY, on_checkpoint=lambda row, over: met.append((row["step"], over))
    )  # fmt: skip
    state = trained(spec_of("adversarial"), team=team)
    assert met == [(4, False), (8, False), (STEPS, True)]
    if rank == 0:
        Path(folder, f"{size}.bin").write_bytes(state.to_bytes())
    dist.destroy_process_group()


def test_two_ranks_leave_the_weights_that_one_leaves(tmp_path: Path) -> None:
    spawn(_rank, args=(2, str(tmp_path)), nprocs=2)
    together = Checkpoint.from_bytes((tmp_path / "2.bin").read_bytes())
    alone = trained(spec_of("adversarial"))
    for name, tensor in alone.model.items():
        # Adam divides by the gradient's own size: where that is near zero, its sign is rounding.
        torch.testing.assert_close(together.model[name], tensor, rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(
        [row["loss"] for row in together.history], [row["loss"] for row in alone.history], rtol=1e-3
    )


def test_a_loss_that_is_no_longer_finite_stops_the_run_with_step_rate_and_last_loss() -> None:
    saved: list[int] = []
    with pytest.raises(DivergedError) as error:
        trained(spec_of(lr=1e18, steps=400), save=lambda state: saved.append(state.epoch))
    for part in ("step", "learning rate of 1e+18", "finite loss", "--set bier.lr="):
        assert part in str(error.value)
    assert all(epoch < 400 for epoch in saved)


def bier_task(store: Store, images: Path) -> MemberTask:
    base = task_for(store, images)
    spec = spec_of()
    changed = {"train_digest": base.spec.train_digest, "classes": base.spec.classes}
    return MemberTask(
        spec=BierSpec(**{**vars(spec), **changed}),
        train=base.train,
        targets=base.targets,
        checkpoint_steps=EVERY,
    )


def test_a_model_lives_in_the_store_like_a_member(store: Store, images: Path) -> None:
    task = bier_task(store, images)
    log = run(store, task)
    assert any(f"step {STEPS}: loss" in line for line in log)
    weights, vectors = result(store, task)
    assert vectors[0].shape[1] == 10
    lengths = np.linalg.norm(vectors[0], axis=1)
    assert lengths.std() > 0, "learners' vectors are stored raw"
    assert run(store, task, "again") == []
    same_result(store, task, weights, vectors)


def test_a_killed_model_goes_on_from_the_newest_checkpoint_of_any_attempt(store: Store, images: Path) -> None:
    task = bier_task(store, images)
    run(store, task)
    undisturbed = result(store, task)
    folder = store.model(task.key)

    class KilledError(Exception):
        pass

    def dies(progress: dict[str, Any]) -> None:
        if progress.get("step") == STEPS:
            raise KilledError

    folder.distrust()
    store.files.delete_folder(folder.attempts)
    from muster.workers.member import run_member

    with pytest.raises(KilledError):
        run_member(store, task, "first", CPU, report=dies, team=Team(checkpoint_steps=EVERY))
    assert folder.reached()[0] == 8
    log = run(store, task, "second")
    assert any("resumed after step 8" in line for line in log)
    same_result(store, task, *undisturbed)
