"""Checkpoints: bytes that prove themselves whole, the newest whole one resumed, in every kind of store."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from muster.workers.store.checkpoint import KEPT, Checkpoint, Stretch, newest_whole, save_checkpoint
from muster.workers.store.layout import ModelFolder, Store
from tests.workers.samples import same_tensors


@pytest.fixture
def folder(root: str) -> ModelFolder:
    return Store(root).model("0123abcd")


def checkpoint(epoch: int, *, best: bool = False) -> Checkpoint:
    generator = torch.Generator().manual_seed(epoch)
    tensors = {"a.weight": torch.rand(3, 2, generator=generator), "a.count": torch.tensor(epoch)}
    rows: list[dict[str, Any]] = [{"epoch": n + 1, "loss": 1 / (n + 1)} for n in range(epoch)]
    return Checkpoint(
        epoch, tensors, {"0.momentum_buffer": tensors["a.weight"] * 2}, tensors if best else {}, rows
    )


def newest(folder: ModelFolder) -> Checkpoint:
    found = newest_whole(folder)
    assert found is not None
    return found[1]


def names(folder: ModelFolder, attempt: str) -> list[str]:
    return [name[:10] for name in folder.files.names(folder.attempt(attempt))]


def damage(folder: ModelFolder, attempt: str, epoch: int, how: str) -> None:
    (name,) = [
        name for name in folder.files.names(folder.attempt(attempt)) if name.startswith(f"epoch-{epoch:03d}-")
    ]
    path = f"{folder.attempt(attempt)}/{name}"
    data = bytearray(folder.files.get(path))
    if how == "flipped":
        data[len(data) // 2] ^= 1
    folder.files.put(
        path, bytes(data[: len(data) // 2]) if how == "cut" else b"" if how == "empty" else bytes(data)
    )


@pytest.mark.parametrize("best", [False, True])
def test_bytes_hold_everything(best: bool) -> None:
    state = checkpoint(3)
    if best:
        state.best = {name: tensor.clone() for name, tensor in state.model.items()}
    again = Checkpoint.from_bytes(state.to_bytes())
    assert again.epoch == 3
    assert again.history == state.history
    for part in ("model", "optimizer", "best"):
        assert same_tensors(getattr(again, part), getattr(state, part))
    assert again.to_bytes() == state.to_bytes()


def test_the_newest_of_any_attempt_is_taken(folder: ModelFolder) -> None:
    assert newest_whole(folder) is None
    assert folder.reached()[0] == 0
    save_checkpoint(folder, "20300101T000000-aaa", checkpoint(4))
    save_checkpoint(folder, "20310101T000000-bbb", checkpoint(2))
    found = newest(folder)
    assert found.epoch == folder.reached()[0] == 4
    assert same_tensors(found.model, checkpoint(4).model)


def test_one_in_the_middle_of_an_epoch_is_after_that_epoch_and_before_the_next(folder: ModelFolder) -> None:
    middle = {}
    for steps in (7, 12):
        middle[steps] = checkpoint(9)
        middle[steps].stretch = Stretch(steps, 30 * steps, 1.5, 0.25, torch.tensor([0.5, 3.0]))
        save_checkpoint(folder, "one", middle[steps])
    save_checkpoint(folder, "two", checkpoint(9))
    assert folder.reached() == (9, 12)
    found = newest(folder)
    assert found.to_bytes() == middle[12].to_bytes()
    assert torch.equal(found.stretch.sums, torch.tensor([0.5, 3.0]))
    save_checkpoint(folder, "two", checkpoint(10))
    assert folder.reached() == (10, 0)


def test_an_attempt_keeps_its_last_ones_and_leaves_others_alone(folder: ModelFolder) -> None:
    save_checkpoint(folder, "one", checkpoint(1))
    for epoch in range(2, 6):
        save_checkpoint(folder, "two", checkpoint(epoch))
    assert KEPT == 2
    assert names(folder, "one") == ["epoch-001-"]
    assert names(folder, "two") == ["epoch-004-", "epoch-005-"]


def test_the_last_ones_are_kept_past_epoch_999(folder: ModelFolder) -> None:
    for epoch in (998, 999, 1000, 1001):
        state = checkpoint(1)
        state.epoch = epoch
        save_checkpoint(folder, "one", state)
    assert names(folder, "one") == ["epoch-1000", "epoch-1001"]
    assert folder.reached()[0] == 1001


@pytest.mark.parametrize("how", ["flipped", "cut", "empty"])
def test_a_damaged_newest_falls_back_to_the_one_before(folder: ModelFolder, how: str) -> None:
    for epoch in (1, 2, 3):
        save_checkpoint(folder, "one", checkpoint(epoch))
    damage(folder, "one", 3, how)
    found = newest(folder)
    assert found.epoch == 2
    assert same_tensors(found.model, checkpoint(2).model)
    damage(folder, "one", 2, how)
    assert newest_whole(folder) is None


def test_other_files_of_an_attempt_are_no_checkpoints(folder: ModelFolder) -> None:
    save_checkpoint(folder, "one", checkpoint(1))
    for name in (
        "weights.safetensors",
        "epoch-009.safetensors",
        "epoch-009-0123456789abcdef.safetensors.tmp",
    ):
        folder.files.put(f"{folder.attempt('one')}/{name}", b"x")
    assert folder.reached()[0] == 1
    found = newest(folder)
    assert found.epoch == 1
