"""The Caffe GoogLeNet that BIER's authors trained: local response normalisation, no BatchNorm.

Szegedy et al. 2015, as Caffe's model zoo distributes it (bvlc_googlenet). torchvision's googlenet is another
network: it has BatchNorm, 3 x 3 in place of 5 x 5 convolutions, other weights and another input. Layers carry
Caffe's names, so a converted file is Caffe's blobs under `<layer>.weight` and `<layer>.bias`.
"""

from __future__ import annotations

import torch
from torch import nn

#: For each inception block: 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj.
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
#: The blocks that a halving follows.
POOLED = {"3b", "4e"}
FEATURES = 1024


class BvlcGoogLeNet(nn.Module):
    """RGB images [n, 3, side, side] less the mean, in 0..255, to [n, outputs].

    The authors' input is 224 px in BGR order; the network turns RGB round itself. Larger and smaller pictures
    are averaged over the whole last map, which at 224 px is the 7 x 7 average of the original.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        layers: list[tuple[str, nn.Module]] = [
            ("conv1/7x7_s2", _conv(3, 64, 7, stride=2)),
            ("pool1", _halved()),
            ("norm1", _response_norm()),
            ("conv2/3x3_reduce", _conv(64, 64, 1)),
            ("conv2/3x3", _conv(64, 192, 3)),
            ("norm2", _response_norm()),
            ("pool2", _halved()),
        ]
        self.order = [name for name, _ in layers]
        channels = 192
        for name, widths in INCEPTIONS.items():
            layers += _inception_layers(f"inception_{name}", channels, widths)
            channels = widths[0] + widths[2] + widths[4] + widths[5]
            self.order.append(f"inception_{name}")
            if name in POOLED:
                layers.append((f"pool{name[0]}", _halved()))
                self.order.append(f"pool{name[0]}")
        for name, layer in layers:  # flat, as in Caffe
            self.add_module(name, layer)
        self.add_module("loss3/classifier", nn.Linear(FEATURES, outputs))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images.flip(1)  # RGB to BGR
        for name in self.order:
            if name.startswith("inception"):
                x = self._inception(name, x)
            elif name.startswith("conv"):
                x = self.get_submodule(name)(x).relu()
            else:
                x = self.get_submodule(name)(x)
        output: torch.Tensor = self.get_submodule("loss3/classifier")(x.mean(dim=(2, 3)))
        return output

    def _inception(self, block: str, x: torch.Tensor) -> torch.Tensor:
        def layer(name: str, y: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.get_submodule(f"{block}/{name}")(y).relu()
            return found

        pooled = nn.functional.max_pool2d(x, 3, stride=1, padding=1)
        branches = [
            layer("1x1", x),
            layer("3x3", layer("3x3_reduce", x)),
            layer("5x5", layer("5x5_reduce", x)),
            layer("pool_proj", pooled),
        ]
        return torch.cat(branches, dim=1)


def _inception_layers(block: str, channels: int, widths: tuple[int, ...]) -> list[tuple[str, nn.Module]]:
    """The six convolutions of one block, by Caffe's names."""
    one, reduce3, three, reduce5, five, projected = widths
    return [
        (f"{block}/1x1", _conv(channels, one, 1)),
        (f"{block}/3x3_reduce", _conv(channels, reduce3, 1)),
        (f"{block}/3x3", _conv(reduce3, three, 3)),
        (f"{block}/5x5_reduce", _conv(channels, reduce5, 1)),
        (f"{block}/5x5", _conv(reduce5, five, 5)),
        (f"{block}/pool_proj", _conv(channels, projected, 1)),
    ]


def _conv(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Conv2d:
    """Caffe's initial values: Glorot-uniform weights; biases of 0.2."""
    conv = nn.Conv2d(inputs, outputs, side, stride, padding=side // 2)
    nn.init.xavier_uniform_(conv.weight)
    nn.init.constant_(conv.bias, 0.2)  # type: ignore[arg-type]
    return conv


def _halved() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)  # Caffe rounds up


class _ResponseNorm(nn.LocalResponseNorm):
    """Over neighbouring channels. Its backward on a GPU has no deterministic kernel: there, where that is asked for,
    the sum over the window is taken channel by channel, which has one."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not (input.is_cuda and torch.are_deterministic_algorithms_enabled()):
            return super().forward(input)
        return windowed_norm(input, self.size, self.alpha, self.beta, self.k)


def windowed_norm(x: torch.Tensor, size: int, alpha: float, beta: float, k: float) -> torch.Tensor:
    """`torch.nn.functional.local_response_norm` of x, [n, channels, height, width], as sums of shifted channels."""
    channels = x.shape[1]
    padded = nn.functional.pad(x * x, (0, 0, 0, 0, size // 2, (size - 1) // 2))
    total = sum((padded[:, shift : shift + channels] for shift in range(1, size)), padded[:, :channels])
    return x / (k + alpha / size * total) ** beta


def _response_norm() -> nn.LocalResponseNorm:
    return _ResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
