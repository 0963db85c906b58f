"""BatchNorm for training on several ranks: statistics of the global batch, or frozen ones.

Owns the layers and their swapping in a network; the swapped layers keep the names, shapes and values of
BatchNorm's state, so weights trained here load into the plain network. It never lets a rank normalise with
the statistics of its own images alone. torch has such a layer for CUDA only; `GlobalBatchNorm` is one for
CPU ranks.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class GlobalBatchNorm(_BatchNorm):
    """BatchNorm over the batches of all ranks: output, gradients and running statistics as on one rank.

    Takes [n, channels, ...]. The gradients of its own weight and bias are the rank's share, as for every
    other layer: DistributedDataParallel averages them. All ranks must run it equally often, forwards and
    backwards. In evaluation, or without a process group of at least 2 ranks, it is plain BatchNorm.
    """

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected an input [n, channels, ...], got {input.dim()} dimensions")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        self._check_input_dim(input)
        own_statistics = not self.training and self.running_mean is not None
        if own_statistics or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(input)
        output, mean, var, count = _GlobalNorm.apply(input, self.weight, self.bias, self.eps)
        if self.training and self.track_running_stats:
            self._track(mean, var * (count / (count - 1)))
        normalised: torch.Tensor = output
        return normalised

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, unbiased: torch.Tensor) -> None:
        """Moves the running statistics as torch does: with the unbiased variance of the global batch."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)


class _GlobalNorm(torch.autograd.Function):
    """Normalises by global statistics; one small collective forwards and one backwards."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        mean, var, count = _global_statistics(x)
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(var + eps), count)
        dtype = x.dtype if weight is None else weight.dtype
        output = F.batch_norm(x, mean.to(dtype), var.to(dtype), weight, bias, training=False, eps=eps)
        ctx.mark_non_differentiable(mean, var, count)
        return output, mean, var, count

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """d x = w / s (d y - mean(d y) - x^ mean(d y x^)), both means over the global batch."""
        x, weight, mean, inverse, count = ctx.saved_tensors
        compute = _compute_dtype(x)
        gradient, dims, shape = gradients[0].to(compute), _all_but_channels(x), _per_channel(x)
        mean, inverse, count = mean.to(compute), inverse.to(compute), count.to(compute)
        work = x.to(compute) - mean.view(shape)  # the only large memory taken: touching it anew is what costs
        sums = torch.stack([gradient.sum(dims), work.mul_(gradient).sum(dims) * inverse])
        own_bias, own_weight = sums.clone()
        dist.all_reduce(sums)
        scale = inverse if weight is None else inverse * weight.to(compute)
        constant, slope = sums / count
        torch.sub(x.to(compute), mean.view(shape), out=work)
        work.mul_((-scale * inverse * slope).view(shape)).addcmul_(gradient, scale.view(shape))
        to_x = work.sub_((scale * constant).view(shape)).to(x.dtype)
        if weight is None:
            return to_x, None, None, None
        return to_x, own_weight.to(weight.dtype), own_bias.to(weight.dtype), None


def _global_statistics(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean and biased variance of each channel over all ranks, float64 [channels], and the count, float64 [].

    Every rank's mean and squared deviations are joined in rank order (Chan et al. 1979), so all ranks hold
    the same bits, and no sum of squares loses the variance beside a large mean.
    """
    values, dims = x.to(_compute_dtype(x)), _all_but_channels(x)
    mean = values.mean(dims)
    deviations = (values - mean.view(_per_channel(x))).square_().sum(dims)
    own = torch.cat([mean, deviations, mean.new_tensor([x.numel() // x.shape[1]])]).double()
    parts = own.new_empty(dist.get_world_size() * len(own))
    dist.all_gather_into_tensor(parts, own)
    table = parts.view(-1, len(own))
    channels = x.shape[1]
    means, squares, counts = table[:, :channels], table[:, channels:-1], table[:, -1:]
    count = counts.sum()
    joined = (means * counts).sum(0) / count
    var = (squares + counts * (means - joined).square()).sum(0) / count
    return joined, var, count


def _compute_dtype(x: torch.Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _all_but_channels(x: torch.Tensor) -> list[int]:
    return [dim for dim in range(x.dim()) if dim != 1]


def _per_channel(x: torch.Tensor) -> list[int]:
    return [1, -1, *[1] * (x.dim() - 2)]


class FrozenBatchNorm(_BatchNorm):
    """BatchNorm that always uses its stored statistics and never moves them; its weight and bias train."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected an input [n, channels, ...], got {input.dim()} dimensions")

    def train(self, mode: bool = True) -> FrozenBatchNorm:
        super().train(False)
        return self


def convert(network: nn.Module, device: torch.device, world_size: int) -> nn.Module:
    """The network with every BatchNorm's statistics formed over all ranks; frozen ones stay frozen.

    `network` is changed in place and returned (a network that is itself a BatchNorm is replaced). With one
    rank nothing changes; on CUDA the layers are torch's SyncBatchNorm, on the CPU `GlobalBatchNorm`, both
    in the default process group. State dicts keep their names. Call it before the optimiser is made.
    """
    if world_size == 1:
        return network
    if device.type == "cuda":
        return _swap(network, nn.SyncBatchNorm)
    return _swap(network, GlobalBatchNorm)


def freeze(network: nn.Module) -> nn.Module:
    """The network with every BatchNorm's statistics frozen, in place, for any number of ranks.

    Only for pretrained weights: a new network's statistics describe nothing. Raises ValueError for a
    BatchNorm that keeps no statistics.
    """
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise ValueError(f"{name or 'the network'} keeps no running statistics: they can't be frozen")
    return _swap(network, FrozenBatchNorm)


def _swap(module: nn.Module, kind: type[_BatchNorm]) -> nn.Module:
    if isinstance(module, _BatchNorm):
        return module if isinstance(module, (kind, FrozenBatchNorm)) else _like(module, kind)
    for name, child in module.named_children():
        setattr(module, name, _swap(child, kind))
    return module


def _like(old: _BatchNorm, kind: type[_BatchNorm]) -> _BatchNorm:
    """A layer of another kind that shares the old one's parameters and buffers."""
    new = kind(old.num_features, old.eps, old.momentum, old.affine, old.track_running_stats)
    new.weight, new.bias = old.weight, old.bias
    new.running_mean, new.running_var = old.running_mean, old.running_var
    new.num_batches_tracked = old.num_batches_tracked
    return new.train(old.training)
