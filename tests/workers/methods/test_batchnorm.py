"""BatchNorm over ranks against torch's own on the joined batch; its swapping in and freezing."""

from __future__ import annotations

import datetime

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing import spawn

from muster.workers.methods.bier.batchnorm import FrozenBatchNorm, GlobalBatchNorm, convert, freeze
from muster.workers.networks import backbones

CPU = torch.device("cpu")
RANKS = 2
#: Name: (the layer's options, the input's shape without its batch, float type).
LAYERS = {
    "images": ({}, (6, 3, 5), torch.float64),
    "features": ({}, (6,), torch.float64),
    "cumulative average": ({"momentum": None}, (6, 2, 2), torch.float64),
    "no weight and bias": ({"affine": False}, (6, 2, 2), torch.float64),
    "no running statistics": ({"track_running_stats": False}, (6, 2, 2), torch.float64),
    "float32, channels last": ({}, (6, 4, 4), torch.float32),
    "bfloat16 input": ({}, (6, 4, 4), torch.bfloat16),
}
SPLIT = (3, 5)  # unequal on purpose


def layer(options, dtype, kind):
    torch.manual_seed(2)
    made = kind(6, **options)
    if made.affine:
        nn.init.normal_(made.weight)
        nn.init.normal_(made.bias)
    return made.to(torch.float32 if dtype == torch.bfloat16 else dtype)


def batches(shape, dtype, seed):
    """An input [8, *shape] far from zero mean, and the gradient that comes back to the output."""
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(8, *shape, generator=generator) * 2 + 30).to(dtype)
    gradient = torch.randn(8, *shape, generator=generator).to(dtype)
    return (x.to(memory_format=torch.channels_last) if dtype == torch.float32 else x), gradient


def passes(norm, shape, dtype, rows):
    """Two training passes over `rows` of two batches, one in evaluation: outputs, gradients, statistics."""
    found = {}
    for seed in (0, 1):
        x, gradient = batches(shape, dtype, seed)
        x = x[rows].detach().requires_grad_()
        y = norm(x)
        y.backward(gradient[rows])
        found |= {f"y{seed}": y.detach(), f"dx{seed}": x.grad}
    found |= {f"d {name}": parameter.grad for name, parameter in norm.named_parameters()}
    found |= {name: buffer.clone() for name, buffer in norm.named_buffers()}
    return found


def run_rank(rank, folder):
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", RANKS)
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=RANKS, timeout=datetime.timedelta(seconds=300)
    )
    rows = slice(0, SPLIT[0]) if rank == 0 else slice(SPLIT[0], sum(SPLIT))
    found = {
        name: passes(layer(options, dtype, GlobalBatchNorm), shape, dtype, rows)
        for name, (options, shape, dtype) in LAYERS.items()
    }
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("batchnorm"))
    spawn(run_rank, (folder,), nprocs=RANKS)
    return [torch.load(f"{folder}/{rank}.pt") for rank in range(RANKS)]


@pytest.mark.parametrize("name", LAYERS)
def test_two_unequal_ranks_are_one_batch(ranks, name):
    options, shape, dtype = LAYERS[name]
    kind = nn.BatchNorm1d if len(shape) == 1 else nn.BatchNorm2d
    expected = passes(layer(options, dtype, kind), shape, dtype, slice(None))
    close = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2e-2}[dtype]
    assert set(expected) == set(ranks[0][name])
    for part, value in expected.items():
        given = [rank[name][part] for rank in ranks]
        if part[0] == "y" or part.startswith("dx"):
            found = torch.cat(given)
        elif part.startswith("d "):  # a rank's share: they add up
            found = sum(given)
        else:
            assert torch.equal(*given)
            found = given[0]
        assert found.dtype == value.dtype
        torch.testing.assert_close(found, value, rtol=close, atol=close)


def test_without_a_process_group_it_is_plain_batchnorm():
    shape, dtype = (6, 3, 3), torch.float64
    found = passes(layer({}, dtype, GlobalBatchNorm), shape, dtype, slice(None))
    expected = passes(layer({}, dtype, nn.BatchNorm2d), shape, dtype, slice(None))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def kinds(network):
    return {
        type(module) for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    }


def test_convert_puts_the_layer_for_the_device_in_place():
    def new():
        return backbones.build("resnet18", 4, seed=1)

    assert kinds(convert(new(), CPU, 1)) == {nn.BatchNorm2d}
    assert kinds(convert(new(), CPU, 2)) == {GlobalBatchNorm}
    assert kinds(convert(new(), torch.device("cuda"), 2)) == {nn.SyncBatchNorm}
    assert kinds(convert(freeze(new()), CPU, 2)) == {FrozenBatchNorm}
    assert kinds(convert(freeze(new()), torch.device("cuda"), 2)) == {FrozenBatchNorm}
    assert kinds(freeze(convert(new(), CPU, 2))) == {FrozenBatchNorm}
    assert type(convert(nn.BatchNorm1d(3), CPU, 2)) is GlobalBatchNorm


def test_convert_keeps_state_parameters_options_and_mode():
    network = backbones.build("conv4", 4, seed=1).eval()
    network[0][1].eps, network[0][1].momentum = 1e-3, None
    before, parameters = network.state_dict(), dict(network.named_parameters())
    found = convert(network, CPU, 2)
    assert found is network
    assert list(found.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in found.state_dict().items())
    assert all(value is parameters[name] for name, value in found.named_parameters())
    assert (found[0][1].eps, found[0][1].momentum, found[0][1].training) == (1e-3, None, False)
    backbones.build("conv4", 4, seed=2).load_state_dict(found.state_dict())


def test_frozen_statistics_stay_and_are_used_in_training():
    network = backbones.build("conv4", 4, seed=1)
    x = torch.randn(8, 3, 16, 16)
    network(x)  # statistics other than 0 and 1
    before = {name: value.clone() for name, value in network.state_dict().items()}
    expected = network.eval()(x)
    frozen = freeze(network).train()
    found = frozen(x)
    assert torch.equal(found, expected)
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    found.sum().backward()
    assert frozen[0][1].weight.grad.abs().max() > 0


def test_freezing_needs_statistics():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.raises(ValueError, match="1 keeps no running statistics"):
        freeze(network)
