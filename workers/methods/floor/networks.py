"""The floors' networks, which are never trained."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from muster.workers.methods.floor.settings import PIXELS_SIDE, SEED, FloorSpec
from muster.workers.networks import backbones


class Pixels(nn.Module):
    """Pictures [n, 3, side, side] to [n, 3 x 32 x 32] numbers, each picture's less their mean, so that the cosine of
    two is their correlation. Larger ones are shrunk by means over areas; smaller ones stay."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-1] > PIXELS_SIDE:
            images = F.adaptive_avg_pool2d(images, PIXELS_SIDE)
        numbers = images.flatten(1)
        return numbers - numbers.mean(dim=1, keepdim=True)


def network(spec: FloorSpec, initial: backbones.State | None = None) -> nn.Module:
    """A floor's network on the CPU, with its initial weights if they are given. Raises UsageError as `build` does."""
    if spec.of == "pixels":
        return Pixels()
    found = backbones.build(spec.backbone, 1, SEED, initial, pretrained=spec.weights != "none")
    backbones.without_head(found, spec.backbone)
    return found
