"""Crops that are gathered from pixels on a device: those that the host cuts, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from muster.workers.packs import resident
from muster.workers.packs.pack import Pack, Windows
from muster.workers.packs.resident import Resident, resident_bytes
from muster.workers.rng import uniforms
from tests.workers.samples import CPU, pack_of

SHAPES = [(20, 20), (7, 31), (40, 9), (1, 1), (16, 16), (3, 5), (20, 20), (64, 2)]


def ragged() -> Pack:
    images = [
        np.floor(256 * uniforms(("image", number), height * width, 3))
        .astype(np.uint8)
        .reshape(height, width, 3)
        for number, (height, width) in enumerate(SHAPES)
    ]
    return pack_of(images, [number % 3 for number in range(len(images))])


PACK = ragged()
EVERY = np.arange(len(SHAPES))


def windows(rows: np.ndarray, count: int, reach: int) -> Windows:
    """Random ones, some far outside."""
    draws = uniforms(("windows", len(rows), count, reach), count, 3)
    chosen = rows[(draws[:, 0] * len(rows)).astype(np.int64)]
    tops, lefts = ((draws[:, axis] * 2 * reach).astype(np.int64) - reach for axis in (1, 2))
    return Windows(chosen, tops, lefts)


@pytest.mark.parametrize("size", [1, 5, 16, 33])
@pytest.mark.parametrize("reach", [1, 12, 80])
@pytest.mark.parametrize("piece", [7, 64 << 20])
def test_they_are_those_of_the_host(
    size: int, reach: int, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "PIECE_BYTES", piece)
    there, asked = Resident(PACK, EVERY, CPU), windows(EVERY, 50, reach)
    found = there.crops(there.places(asked), size)
    assert found.dtype == resident.torch.uint8
    assert (found.numpy() == PACK.crops(*asked, size)).all()


@pytest.mark.parametrize("rows", [[2], [0, 1], [1, 3, 4, 5, 7], [0, 7], [6, 7]])
def test_of_some_images_no_others_are_sent(rows: list[int]) -> None:
    some = np.array(rows)
    there, asked = Resident(PACK, some, CPU), windows(some, 30, 20)
    assert (there.crops(there.places(asked), 16).numpy() == PACK.crops(*asked, 16)).all()
    assert there.pixels.nbytes == resident_bytes(PACK, some)
    assert resident_bytes(PACK, some) == PACK.index.bytes_of(some) + 3  # and a black pixel
