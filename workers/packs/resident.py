"""The pixels of a training set on a device: crops are gathered where they are needed, and nothing but their places goes
there at each step.

A member sees each image once an epoch: what fits beside its training need not be cut by the host and sent again. The
crops are those of `Pack.crops`, to the last bit.
"""

from __future__ import annotations

import numpy as np
import torch

from muster.workers.packs.pack import Int64, Pack, Windows

#: Pixels go to a device in pieces of so many bytes, through memory that it can read by itself.
PIECE_BYTES = 64 << 20
CHANNELS = 3


def resident_bytes(pack: Pack, rows: Int64) -> int:
    """What the pixels of these images take on a device."""
    return pack.index.bytes_of(rows) + CHANNELS  # and the black one


class Resident:
    """Images of a pack on a device. Raises torch.OutOfMemoryError where they do not fit."""

    def __init__(self, pack: Pack, rows: Int64, device: torch.device) -> None:
        """`rows`: int64 [n], ascending, each once."""
        sizes = pack.sizes(rows)
        ends = np.cumsum(sizes.prod(axis=1))
        self._images = np.zeros((len(pack.index), 3), np.int64)
        "Of each image: its first pixel here, its height and its width."
        self._images[rows] = np.column_stack([ends - sizes.prod(axis=1), sizes])
        self._black = int(ends[-1])  # one more pixel: what lies outside of an image
        self.pixels = torch.zeros((self._black + 1, CHANNELS), dtype=torch.uint8, device=device)
        "uint8 [pixels, 3]"
        self._send(pack, rows)

    def _send(self, pack: Pack, rows: Int64) -> None:
        target, device = self.pixels.view(-1), self.pixels.device
        piece = torch.empty(
            min(PIECE_BYTES, len(target)), dtype=torch.uint8, pin_memory=device.type == "cuda"
        )
        sent = 0
        for first, last in _stretches(pack, rows):
            for start in range(first, last, len(piece)):
                size = min(len(piece), last - start)
                np.copyto(piece[:size].numpy(), pack.pixels[start : start + size])
                target[sent : sent + size].copy_(piece[:size])
                sent += size

    def places(self, windows: Windows) -> torch.Tensor:
        """Where the windows lie, int64 [5, n], on the host: what `crops` takes."""
        columns = (*self._images[windows.rows].T, windows.tops, windows.lefts)
        return torch.from_numpy(np.stack(columns))

    def crops(self, places: torch.Tensor, size: int) -> torch.Tensor:
        """Square crops, uint8 [n, size, size, 3] on the device; black outside of the images."""
        there = places.to(self.pixels.device, non_blocking=True)
        first, height, width, top, left = there[:, :, None, None]
        along = torch.arange(size, device=there.device)
        y, x = top + along[:, None], left + along
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        pixel = torch.where(inside, first + y * width + x, self._black)
        return self.pixels.index_select(0, pixel.view(-1)).view(-1, size, size, CHANNELS)


def _stretches(pack: Pack, rows: Int64) -> list[tuple[int, int]]:
    """The bytes of these images in the pack, [first, last) of each stretch that has no other image in it."""
    spans = pack.spans(rows)
    breaks = np.flatnonzero(spans[1:, 0] != spans[:-1, 1]) + 1
    found = np.split(spans, breaks)
    return [(int(one[0, 0]), int(one[-1, 1])) for one in found]
