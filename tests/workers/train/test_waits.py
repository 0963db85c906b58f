"""A step on a GPU asks nothing of the host that would make it wait, and never searches for kernels in vain.

The GPU is played: torch's own fake tensors have shapes and devices and no values, and refuse whatever would have to
wait for one. What goes from the host to the device is looked at copy by copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.backends import cudnn
from torch.utils._python_dispatch import TorchDispatchMode

from muster.workers.embed import embed
from muster.workers.networks import backbones
from muster.workers.spec import ModelSpec
from muster.workers.train import augment
from muster.workers.train.prefetch import Buffer
from muster.workers.train.trainer import Trainer
from tests.workers.methods import test_baseline, test_bier_fit, test_distill
from tests.workers.samples import CPU, VIEW, small_recipe, small_spec, synthetic_pack, trainer_of

PACK = synthetic_pack()
PART = PACK.index.part()
GPU = torch.device("cuda:0")
SPECS: dict[str, ModelSpec] = {
    "dreml": small_spec(PART, small_recipe(rotate=8.0)),
    "dreml, logits normalised": small_spec(PART, small_recipe(normalize_logits=True)),
    **{f"bier, {kind}": test_bier_fit.spec_of(kind) for kind in test_bier_fit.KINDS},
    "distill, similarities": test_distill.spec_of(PART),
    "distill, relations": test_distill.spec_of(PART, test_distill.settings(loss="relations")),
}


class Crossings(TorchDispatchMode):
    """What is copied from one device to another: from where, and whether the host goes on meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, bool]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, out = kwargs or {}, func(*args, **(kwargs or {}))
        if "copy" in func.__name__:
            source = args[1] if func.__name__.startswith("copy_") else args[0]
            if source.device != out.device:
                self.seen.append((source.device.type, bool(kwargs.get("non_blocking"))))
        return out


def on_gpu(trainer: Trainer) -> None:
    """Takes a trainer to the played GPU, within a FakeTensorMode."""
    for module in trainer.module.modules():
        for tensors, kind in ((module._parameters, torch.nn.Parameter), (module._buffers, lambda one: one)):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = kind(torch.empty_like(tensor, device=GPU))
    trainer.to_float = augment.ToFloat(trainer.recipe.mean, trainer.recipe.std, GPU)
    if hasattr(trainer, "teacher"):
        trainer.teacher = torch.empty_like(trainer.teacher, device=GPU)
    if trainer.source.resident is not None:
        trainer.source.resident.pixels = torch.empty_like(trainer.source.resident.pixels, device=GPU)


@pytest.fixture
def forwards_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autograd's engine wants a real GPU. What a step copies, and what it looks at, comes before it."""
    monkeypatch.setattr(torch.Tensor, "backward", lambda tensor: None)


@pytest.mark.parametrize("place", ["host", "device"])
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.usefixtures("forwards_only")
def test_a_step_waits_for_nothing(name: str, place: Any) -> None:
    inputs = test_distill.TEACHER if "distill" in name else ()
    trainer = trainer_of(SPECS[name], PACK, inputs=inputs, input=place)
    trainer.device = trainer.source.device = GPU
    batch = trainer.batch(0, Buffer(CPU))
    with FakeTensorMode(allow_non_fake_inputs=True):
        on_gpu(trainer)
        with Crossings() as crossings:
            loss = trainer.step(0, batch)
    assert loss.shown.device == GPU
    assert crossings.seen
    assert set(crossings.seen) == {("cpu", True)}


@pytest.mark.parametrize("loss", ["triplet", "npairs", "proxynca"])
@pytest.mark.usefixtures("forwards_only")
def test_the_compared_losses_wait_as_their_library_does(loss: str) -> None:
    """They look up which pairs there are. If this fails, they need no exception any more: move them up."""
    trainer = trainer_of(test_baseline.spec_of(PART, loss), PACK)
    trainer.device = trainer.source.device = GPU
    batch = trainer.batch(0, Buffer(CPU))
    with FakeTensorMode(allow_non_fake_inputs=True):
        on_gpu(trainer)
        with pytest.raises(DynamicOutputShapeException) as waited:
            trainer.step(0, batch)
    assert any("pytorch_metric_learning" in str(entry.path) for entry in waited.traceback)


def test_what_would_wait_is_noticed() -> None:
    with FakeTensorMode(), Crossings() as crossings:
        there = torch.empty(3, device=GPU)
        with pytest.raises(DataDependentOutputException):
            there.sum().item()
        torch.empty(3).to(GPU)
        there.copy_(torch.empty(3))
        there.cpu()
    assert crossings.seen == [("cpu", False), ("cpu", False), ("cuda", False)]


@pytest.fixture
def searching(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """cuDNN looks for the fastest kernels of each new shape."""
    monkeypatch.setattr(cudnn, "benchmark", True)
    return


@pytest.mark.usefixtures("forwards_only", "searching")
def test_a_smaller_last_batch_is_not_worth_a_search_for_kernels() -> None:
    trainer = trainer_of(small_spec(PART, small_recipe(batch_size=8)), PACK)  # 30 images: 8, 8, 8, 6
    trainer.device = trainer.source.device = GPU
    batches = [trainer.batch(step, Buffer(CPU)) for step in range(5)]
    seen = []
    with FakeTensorMode(allow_non_fake_inputs=True):
        on_gpu(trainer)
        for step, batch in enumerate(batches):
            trainer.step(step, batch)
            seen.append(cudnn.benchmark)
    assert seen == [True, True, True, False, True]


@pytest.mark.usefixtures("searching")
def test_vectors_are_not_worth_one_either() -> None:
    network, seen = backbones.build("conv4", 3, 0), []
    network.register_forward_hook(lambda *_: seen.append((cudnn.benchmark, cudnn.enabled)))
    embed(network, PACK, PART, VIEW, CPU)
    assert seen == [(False, True)]
    assert cudnn.benchmark
