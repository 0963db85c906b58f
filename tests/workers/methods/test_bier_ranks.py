"""N gloo ranks compute what one rank does on the same global batch: gradients, weights, statistics.

Each process group runs every case once and writes what it found; the tests compare that with one rank, which
runs here, on plain BatchNorm and without DistributedDataParallel.
"""

from __future__ import annotations

import datetime

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing import spawn
from torch.nn.parallel import DistributedDataParallel

from muster.workers.methods.bier.batchnorm import convert, freeze
from muster.workers.methods.bier.network import (
    Bier,
    BierStep,
    Learners,
    boosted_loss,
    build_bier,
    parameter_groups,
)
from muster.workers.methods.bier.settings import BierSettings
from muster.workers.train.label_batches import LabelBatches
from muster.workers.train.team import Team

SIZES = (6, 10, 16)
STRONG = {"lambda_div": 0.1, "lambda_weight": 1.0}  # so that no term hides behind another
CASES = {
    "conv4, adversarial": ("conv4", {"auxiliary": "adversarial", **STRONG}),
    "conv4, activation, eta": ("conv4", {"auxiliary": "activation", "variant": "eta", **STRONG}),
    "conv4, to the backbone": (
        "conv4",
        {"auxiliary": "adversarial", "auxiliary_to_backbone": True, **STRONG},
    ),
    "conv4, frozen": ("conv4 frozen", {}),
    "plain, adversarial, eta": ("plain", {"auxiliary": "adversarial", "variant": "eta", **STRONG}),
    "plain, off": ("plain", {"boost": False}),
}
TRAINED = ("conv4, adversarial", "plain, adversarial, eta")
STEPS = 10


def dataset():
    """(images float32 [60, 3, 16, 16], labels [60]): 12 classes of 1 to 9 images."""
    rng = np.random.default_rng(5)
    labels = rng.permutation(np.repeat(np.arange(12), [1, 2, 9, 9, 9, 5, 5, 4, 4, 4, 4, 4]))
    return torch.from_numpy(rng.standard_normal((60, 3, 16, 16)).astype(np.float32)), labels


def problem(case):
    """(BierStep, settings): the network is a function of the case alone."""
    backbone, given = CASES[case]
    settings = BierSettings(sizes=SIZES, labels=8, images=2, **given)
    if backbone != "plain":
        network = build_bier("conv4", settings, seed=7)
        return BierStep(freeze(network) if "frozen" in backbone else network, settings, seed=7), settings
    torch.manual_seed(7)
    features = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.ReLU(),
        nn.LocalResponseNorm(5),
        nn.Conv2d(8, 12, 3),
        nn.ReLU(),
        nn.Flatten(),
    )
    return BierStep(Bier(features, Learners(12 * 5 * 5, SIZES)), settings, seed=7), settings


class LocalPairs(BierStep):
    """The mistake: pairs of this rank's own images alone."""

    def forward(self, images, labels):
        hidden = self.network.features(images)
        boosted = boosted_loss(self.network.learners(hidden), labels, self.settings)
        auxiliary = self.auxiliary(hidden, self.network.learners.weight)
        return boosted._replace(loss=boosted.loss + auxiliary)


def batch(settings, step, dtype, rank=0, world_size=1):
    images, labels = dataset()
    rows = LabelBatches(labels, settings, seed=3, world_size=world_size).share(step, rank)
    return images[rows].to(dtype), torch.from_numpy(labels[rows])


def prepared(case, world_size, dtype, mistake=None):
    step, settings = problem(case)
    step = step.to(dtype)
    if mistake != "local statistics":
        step.network = convert(step.network, torch.device("cpu"), world_size)
    if mistake == "local pairs":
        step.__class__ = LocalPairs
    return (step if world_size == 1 else DistributedDataParallel(step)), step, settings


def gradients(case, rank=0, world_size=1, mistake=None):
    """Everything one float64 step leaves: losses, gradients, buffers."""
    model, step, settings = prepared(case, world_size, torch.float64, mistake)
    loss = model(*batch(settings, 0, torch.float64, rank, world_size))
    (loss.loss if mistake == "local pairs" else loss.total).backward()
    found = {f"grad {name}": parameter.grad for name, parameter in step.named_parameters()}
    found |= {f"buffer {name}": buffer.double() for name, buffer in step.named_buffers()}
    if mistake is None:
        found |= {
            "boosted": loss.boosted.loss.detach(),
            "auxiliary": loss.auxiliary,
            "weights": loss.boosted.weights,
        }
    return found


def train(case, rank=0, world_size=1, dtype=torch.float32, mistake=None):
    """Ten Adam steps at the paper's learning rates: the state they leave."""
    model, step, settings = prepared(case, world_size, dtype, mistake)
    optimizer = torch.optim.Adam(parameter_groups(step, settings))
    for at in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        loss = model(*batch(settings, at, dtype, rank, world_size))
        (loss.loss if mistake == "local pairs" else loss.total).backward()
        optimizer.step()
    return {name: value.clone() for name, value in step.state_dict().items()}


def run_rank(rank, world_size, folder):
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", world_size)
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=world_size, timeout=datetime.timedelta(seconds=300)
    )
    found = {
        "gradients": {case: gradients(case, rank, world_size) for case in CASES},
        "trained": {case: train(case, rank, world_size) for case in TRAINED},
        "mistakes": {
            mistake: gradients("conv4, adversarial", rank, world_size, mistake)
            for mistake in ("local pairs", "local statistics")
        },
        "trained in float64": train("conv4, adversarial", rank, world_size, torch.float64),
        "mistrained": train("conv4, adversarial", rank, world_size, mistake="local pairs"),
    }
    team = Team(rank=rank, size=world_size)
    found["agreed"] = [team.agree(value) for value in (f"é of {rank}", rank == 0, None, "x" * 5000 * rank)]
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request, tmp_path_factory):
    """What each rank of a group found."""
    folder = str(tmp_path_factory.mktemp("ranks"))
    spawn(run_rank, (request.param, folder), nprocs=request.param)
    return [torch.load(f"{folder}/{rank}.pt") for rank in range(request.param)]


@pytest.fixture(scope="module")
def alone():
    """What one rank finds on the same global batches."""
    return {
        "gradients": {case: gradients(case) for case in CASES},
        "trained": {case: train(case) for case in TRAINED},
        "trained in float64": train("conv4, adversarial", dtype=torch.float64),
    }


def errors(found, expected, kind):
    """Relative error of each tensor whose name begins with `kind`."""
    names = [name for name in expected if name.startswith(kind)]
    assert names
    return {n: float((found[n] - expected[n]).norm() / expected[n].norm().clamp(min=1e-300)) for n in names}


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_a_step_are_those_of_one_rank(ranks, alone, case):
    expected = alone["gradients"][case]
    worst = max(max(errors(rank["gradients"][case], expected, "grad ").values()) for rank in ranks)
    assert worst < 1e-10


@pytest.mark.parametrize("case", CASES)
def test_losses_and_pair_weights_are_those_of_one_rank(ranks, alone, case):
    """The boosted loss is global on every rank; the auxiliary loss is a mean of the ranks' shares."""
    expected = alone["gradients"][case]
    for rank in ranks:
        for name in ("boosted", "weights"):
            torch.testing.assert_close(rank["gradients"][case][name], expected[name], rtol=1e-10, atol=0)
    shares = torch.stack([rank["gradients"][case]["auxiliary"] for rank in ranks])
    torch.testing.assert_close(shares.mean(), expected["auxiliary"], rtol=1e-10, atol=0)


@pytest.mark.parametrize("case", [case for case in CASES if "conv4" in case])
def test_running_statistics_are_those_of_one_rank(ranks, alone, case):
    expected = alone["gradients"][case]
    for rank in ranks:
        assert max(errors(rank["gradients"][case], expected, "buffer ").values()) < 1e-10
    moved = any(value.any() for name, value in expected.items() if name.endswith("running_mean"))
    assert moved == (case != "conv4, frozen")


def differences(found, expected):
    """Absolute differences of all weights and statistics, in one vector."""
    return torch.cat([(found[name] - expected[name]).abs().double().flatten() for name in expected])


@pytest.mark.parametrize("case", TRAINED)
def test_ten_steps_leave_the_same_weights(ranks, alone, case):
    """To 1e-5 in float32, relative to all weights; and each weight by itself, but for what Adam does to a gradient
    that is zero up to rounding.

    Its first step is lr x sign(gradient): where loss and weight decay cancel to the last digits, rounding
    decides the sign. That may happen to one weight in ten thousand, and moves it by two steps at most.
    """
    expected, start = alone["trained"][case], problem(case)[0].state_dict()
    moved = (expected["network.learners.weight"] - start["network.learners.weight"]).abs().max()
    assert moved > 5e-4
    for rank in ranks:
        found = differences(rank["trained"][case], expected)
        whole = torch.cat([value.double().flatten() for value in expected.values()])
        assert found.norm() / whole.norm() < 1e-5
        assert (found > 1e-5).double().mean() < 1e-4
        assert found.max() < 2.5e-4


def test_ten_steps_in_float64_leave_the_same_weights_without_exception(ranks, alone):
    for rank in ranks:
        assert differences(rank["trained in float64"], alone["trained in float64"]).max() < 1e-10


def test_all_ranks_take_the_leaders_word(ranks):
    assert all(rank["agreed"] == ["é of 0", True, None, ""] for rank in ranks)


def test_all_ranks_hold_the_same_bits(ranks):
    for case in TRAINED:
        first = ranks[0]["trained"][case]
        assert all(torch.equal(rank["trained"][case][name], first[name]) for rank in ranks for name in first)


@pytest.mark.parametrize("mistake", ["local pairs", "local statistics"])
def test_the_comparison_sees_local_pairs_and_local_statistics(ranks, alone, mistake):
    expected = alone["gradients"]["conv4, adversarial"]
    found = errors(ranks[0]["mistakes"][mistake], expected, "grad network.")
    assert min(found.values()) > 1e-2


def test_the_comparison_of_weights_sees_local_pairs(ranks, alone):
    found = differences(ranks[0]["mistrained"], alone["trained"]["conv4, adversarial"])
    assert (found > 1e-5).double().mean() > 0.1
