"""From packed uint8 images to the network's float batch, in training and in test.

Crops are cut on the host, where they are memory copies, or gathered on the device where its memory has the pixels;
mirroring, rotation and normalisation are done there, a whole batch at once. Each sample's randomness is a row of a
table that depends on (seed, D, member, epoch, sample) alone, so it does not matter which batch or process the sample
lands in.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from muster.workers.packs.pack import Int64, Pack, Uint8, Windows
from muster.workers.rng import Float64, uniforms
from muster.workers.spec import InputRecipe, Triple

TOP, LEFT, FLIP, ANGLE = range(4)
DRAWS = 4


def epoch_draws(member: tuple[object, ...], epoch: int, samples: int) -> Float64:
    """The randomness of an epoch's augmentation: float64 [samples, 4] in [0, 1)."""
    return uniforms(("augment", *member), samples, DRAWS, epoch=epoch)


def random_windows(pack: Pack, rows: Int64, recipe: InputRecipe, draws: Float64) -> Windows:
    """Where random crops lie in images with a border of `pad`.

    `draws`: float64 [n, 4], a row for each image. An image smaller than the crop is centred in it.
    """
    sizes = pack.sizes(rows)
    return Windows(
        rows,
        _offsets(sizes[:, 0], recipe.crop, recipe.pad, draws[:, TOP]),
        _offsets(sizes[:, 1], recipe.crop, recipe.pad, draws[:, LEFT]),
    )


def _offsets(length: Int64, crop: int, pad: int, draw: Float64) -> Int64:
    room = length + 2 * pad - crop
    spread = np.where(room >= 0, np.floor(draw * (room + 1)), np.floor(room / 2))
    return spread.astype(np.int64) - pad


def centre_crops(pack: Pack, rows: Int64, crop: int, out: Uint8 | None = None) -> Uint8:
    """The middle of each image, uint8 [n, crop, crop, 3], to the pixel as torchvision's center_crop; into `out` if it
    is given."""
    sizes = pack.sizes(rows)
    return pack.crops(rows, _middle(sizes[:, 0], crop), _middle(sizes[:, 1], crop), crop, out)


def _middle(length: Int64, crop: int) -> Int64:
    """Where a crop begins: half a pixel is rounded to even, and black goes to the far side first."""
    margin = length - crop
    return np.where(margin >= 0, np.round(margin / 2), -(-margin // 2)).astype(np.int64)


class ToFloat:
    """Normalises uint8 batches on a device: (x / 255 - mean) / std, [n, 3, side, side]."""

    def __init__(self, mean: Triple, std: Triple, device: torch.device) -> None:
        self.device = device
        self.mean = torch.tensor(mean, device=device) * 255
        self.scale = 1 / (torch.tensor(std, device=device) * 255)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """uint8 [n, side, side, 3] -> float32 [n, 3, side, side], in channels-last memory."""
        n, height, width, _ = batch.shape
        # A row of pixels at a time and in place: three numbers at a time took a CPU three times as long.
        rows = batch.to(self.device, non_blocking=True).reshape(n, height, 3 * width).float()
        rows.sub_(self.mean.repeat(width)).mul_(self.scale.repeat(width))
        return rows.view(n, height, width, 3).permute(0, 3, 1, 2)


class Turns(NamedTuple):
    """How the images of a batch are mirrored and rotated, on the host; None where none is."""

    mirrored: torch.Tensor | None
    "bool [n]"
    angles: torch.Tensor | None
    "Radians, float64 [n]."


def turns_of(recipe: InputRecipe, draws: Float64) -> Turns:
    """What the recipe makes of an epoch's randomness; `draws` float64 [n, 4]."""
    angles = np.deg2rad(recipe.rotate * (2 * draws[:, ANGLE] - 1)) if recipe.rotate > 0 else None
    return Turns(
        torch.from_numpy(draws[:, FLIP] < 0.5) if recipe.flip else None,
        None if angles is None else torch.from_numpy(angles),
    )


def distort(batch: torch.Tensor, turns: Turns) -> torch.Tensor:
    """Mirrors and rotates a float batch [n, 3, side, side]. On a CPU it is mirrored in place."""
    if turns.mirrored is not None:
        batch = _mirrored(batch, turns.mirrored)
    return batch if turns.angles is None else _rotated(batch, turns.angles)


def _mirrored(batch: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """The batch with the chosen images mirrored."""
    if batch.device.type != "cpu":
        which = chosen.to(batch.device, non_blocking=True)
        return torch.where(which.view(-1, 1, 1, 1), batch.flip(3), batch)
    for image in chosen.nonzero()[:, 0].tolist():  # touches no more memory than it must
        batch[image] = batch[image].flip(2)
    return batch


def _rotated(batch: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Rotates about the centre, bilinear; what comes from outside is the mean colour (0 once normalised)."""
    turn = angles.to(batch, non_blocking=True)
    matrix = torch.zeros(len(batch), 2, 3, device=batch.device, dtype=batch.dtype)
    matrix[:, 0, 0] = matrix[:, 1, 1] = turn.cos()
    matrix[:, 0, 1], matrix[:, 1, 0] = -turn.sin(), turn.sin()
    grid = F.affine_grid(matrix, list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, align_corners=False)
