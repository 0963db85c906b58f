"""Crops, mirroring, rotation and normalisation, against plain NumPy and torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as TF

from muster.workers.packs.pack import Int64, Uint8
from muster.workers.rng import Float64
from muster.workers.spec import InputRecipe
from muster.workers.train import augment
from muster.workers.train.augment import (
    ANGLE,
    FLIP,
    LEFT,
    TOP,
    ToFloat,
    centre_crops,
    distort,
    epoch_draws,
    random_windows,
    turns_of,
)
from tests.workers.samples import CPU, pack_of, small_recipe

SHAPES = [(20, 20), (20, 31), (44, 20), (16, 16), (9, 30), (30, 9), (7, 7), (1, 3), (17, 16)]
IMAGES = [
    np.random.default_rng(number).integers(1, 256, (*shape, 3), dtype=np.uint8)
    for number, shape in enumerate(SHAPES)
]
PACK = pack_of(IMAGES, list(range(len(IMAGES))))
ROWS: Int64 = np.arange(len(IMAGES))


def draws_of(value: float) -> Float64:
    return np.full((len(IMAGES), 4), value)


def random_crops(rows: Int64, recipe: InputRecipe, draws: Float64) -> Uint8:
    return PACK.crops(*random_windows(PACK, rows, recipe, draws), recipe.crop)


def reference_crop(image: Uint8, crop: int, pad: int, draw: Float64) -> Uint8:
    """Border all round, then border right and left of what is still too small, then one window of it."""
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    starts = []
    for axis, name in ((0, TOP), (1, LEFT)):
        room = padded.shape[axis] - crop
        if room < 0:
            before = -(room // 2)
            sides = [(0, 0)] * 3
            sides[axis] = (before, -room - before)
            padded, room = np.pad(padded, sides), 0
        starts.append(int(draw[name] * (room + 1)))
    top, left = starts
    return padded[top : top + crop, left : left + crop]


@pytest.mark.parametrize(("crop", "pad"), [(16, 0), (16, 3), (20, 2), (8, 10), (12, 1)])
def test_random_crops_are_windows_of_the_bordered_image(crop: int, pad: int) -> None:
    recipe = small_recipe(crop=crop, pad=pad)
    for epoch in range(5):
        draws = epoch_draws((0, 12, 1), epoch, len(IMAGES))
        found = random_crops(ROWS, recipe, draws)
        assert found.shape == (len(IMAGES), crop, crop, 3)
        assert found.dtype == np.uint8
        for image, one, draw in zip(IMAGES, found, draws, strict=True):
            assert (one == reference_crop(image, crop, pad, draw)).all()


def test_the_ends_of_a_draw_reach_both_edges_and_no_further() -> None:
    recipe = small_recipe(crop=16, pad=2)
    first = random_crops(ROWS[:1], recipe, draws_of(0.0)[:1])[0]
    last = random_crops(ROWS[:1], recipe, draws_of(np.nextafter(1, 0))[:1])[0]
    assert (first[2:, 2:] == IMAGES[0][:14, :14]).all()
    assert (last[:14, :14] == IMAGES[0][6:, 6:]).all()


def test_the_border_is_black_and_the_rest_is_the_image() -> None:
    crops = random_crops(ROWS[:1], small_recipe(crop=24, pad=2), draws_of(0.3)[:1])
    inside = np.zeros((24, 24), bool)
    inside[2:22, 2:22] = True
    assert (crops[0][~inside] == 0).all()
    assert (crops[0][inside].reshape(20, 20, 3) == IMAGES[0]).all()


def test_every_offset_is_equally_likely() -> None:
    draws = epoch_draws((0, 12, 1), 0, 7000)
    offsets = augment._offsets(np.full(7000, 20), 18, 2, draws[:, TOP])
    counts = np.bincount(offsets + 2)
    assert len(counts) == 7
    assert abs(counts / 1000 - 1).max() < 0.15


@pytest.mark.parametrize("crop", [8, 9, 16, 17, 20, 50])
def test_centre_crops_are_torchvisions(crop: int) -> None:
    for image, one in zip(IMAGES, centre_crops(PACK, ROWS, crop), strict=True):
        wanted = TF.center_crop(torch.from_numpy(image).permute(2, 0, 1), [crop, crop])
        assert (one == wanted.permute(1, 2, 0).numpy()).all()


def test_an_image_smaller_than_the_crop_lies_in_its_middle() -> None:
    tiny = SHAPES.index((7, 7))
    found = centre_crops(PACK, ROWS[tiny : tiny + 1], 17)[0]
    assert (found[5:12, 5:12] == IMAGES[tiny]).all()
    assert found.sum() == IMAGES[tiny].astype(int).sum()


def test_to_float_is_torchvisions_normalize() -> None:
    crops = centre_crops(PACK, ROWS, 16)
    mean, std = (0.4707, 0.4601, 0.4549), (0.2767, 0.2760, 0.2850)
    found = ToFloat(mean, std, CPU)(torch.from_numpy(crops))
    wanted = TF.normalize(torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255, list(mean), list(std))
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_to_float_gives_the_bits_of_the_plain_formula() -> None:
    """However it is computed: these bits are part of every trained weight."""
    crops = torch.from_numpy(centre_crops(PACK, ROWS, 17))
    mean, std = (0.4707, 0.4601, 0.4549), (0.2767, 0.2760, 0.2850)
    offset = torch.tensor(mean).view(1, 3, 1, 1) * 255
    scale = 1 / (torch.tensor(std).view(1, 3, 1, 1) * 255)
    wanted = (crops.permute(0, 3, 1, 2).float() - offset) * scale
    found = ToFloat(mean, std, CPU)(crops)
    assert torch.equal(found, wanted)
    assert found.stride() == wanted.stride()


def float_batch(count: int = 6, side: int = 16) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((count, 3, side, side))).float()


def test_the_lower_half_of_draws_mirrors() -> None:
    batch, draws = float_batch(), np.full((6, 4), 0.9)
    draws[[1, 4], FLIP] = 0.1
    found = distort(batch.clone(), turns_of(small_recipe(flip=True), draws))
    for number in range(6):
        wanted = TF.hflip(batch[number]) if number in {1, 4} else batch[number]
        assert torch.equal(found[number], wanted)
    assert torch.equal(distort(batch, turns_of(small_recipe(flip=False), draws)), batch)


def test_rotation_is_torchvisions_about_the_centre() -> None:
    batch, draws = float_batch(), epoch_draws((0, 12, 1), 0, 6)
    found = distort(batch, turns_of(small_recipe(flip=False, rotate=30), draws))
    for number in range(6):
        angle = 30 * (2 * draws[number, ANGLE] - 1)
        wanted = TF.rotate(batch[number], angle, TF.InterpolationMode.BILINEAR)
        torch.testing.assert_close(found[number], wanted, rtol=1e-3, atol=1e-3)


def test_rotation_fills_with_the_mean_colour() -> None:
    found = distort(
        torch.ones(1, 3, 16, 16), turns_of(small_recipe(flip=False, rotate=90), np.full((1, 4), 0.75))
    )
    assert found[0, :, 0, 0].tolist() == [0, 0, 0]
    assert found[0, :, 8, 8].tolist() == pytest.approx([1, 1, 1])


def test_crops_may_lie_wholly_outside() -> None:
    far = PACK.crops(ROWS[:3], np.array([100, -100, 0]), np.array([0, 0, 100]), 8)
    assert far.sum() == 0
