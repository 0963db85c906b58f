"""Where a training's crops come from: cut by the host from the mapped pack, or gathered on the device from pixels that
are kept there. Which of the two it is changes no bit of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from muster.workers.errors import UsageError
from muster.workers.packs.pack import Int64, Pack, Windows
from muster.workers.packs.resident import Resident, resident_bytes
from muster.workers.quantities import bytes_text
from muster.workers.task import InputPlace
from muster.workers.train.prefetch import Buffer

#: After so many steps what training takes is known: kernels were chosen, and gradients and the optimiser's state are
#: there.
SETTLED_STEPS = 2
#: Of the device's memory so much is left, beside a quarter of what training took at most: for the copies of a
#: checkpoint, a smaller last batch, and what does not fit into the gaps.
LEFT_BYTES = 1 << 30


class Source:
    """The crops of one training.

    Left to itself it begins on the host, and goes over to the device once it is known what else needs its memory: what
    this process may have of it, as its share says, less what it took at its worst, and no more than is free.
    """

    def __init__(
        self, pack: Pack, rows: Int64, device: torch.device, asked: InputPlace, log: Callable[[str], None]
    ) -> None:
        """`rows`: the images that are trained on. Where the device is asked for, raises UsageError if they can never
        fit, and torch.OutOfMemoryError if they do not now."""
        self.pack, self.rows, self.device, self.log = pack, rows, device, log
        self.resident: Resident | None = None
        self._steps_left = SETTLED_STEPS if asked == "auto" and device.type == "cuda" else 0
        if asked == "device":
            self._check()
            self._move_in()

    def _check(self) -> None:
        need, most = resident_bytes(self.pack, self.rows), allowed(self.device)
        if most is not None and need > most:
            raise UsageError(
                f"--input device: {bytes_text(need)} of images do not fit into the {bytes_text(most)} that it may have "
                "of its GPU. Take --input host, or a larger --gpus-per-member."
            )

    def images(self, windows: Windows, size: int, buffer: Buffer) -> Callable[[], torch.Tensor]:
        """What brings these crops to the device, uint8 [n, size, size, 3]. May be called from threads."""
        if (resident := self.resident) is not None:
            places = buffer.held(resident.places(windows))
            return functools.partial(resident.crops, places, size)
        images = buffer.images(len(windows.rows), size)
        self.pack.crops(*windows, size, images.numpy())
        return functools.partial(images.to, self.device, non_blocking=True)

    def stepped(self) -> None:
        """A step was taken."""
        if self._steps_left:
            self._steps_left -= 1
            if not self._steps_left:
                self._settle()

    def _settle(self) -> None:
        need, left = resident_bytes(self.pack, self.rows), room(self.device)
        if need <= left:
            try:
                self._move_in()
            except torch.OutOfMemoryError:  # somebody was quicker
                torch.cuda.empty_cache()
        if self.resident is None:
            self.log(
                f"the images stay on the host: {bytes_text(need)}, and {bytes_text(left)} are left on the GPU"
            )

    def _move_in(self) -> None:
        self.resident = Resident(self.pack, self.rows, self.device)
        self.log(f"the images are on the device: {bytes_text(self.resident.pixels.nbytes)}")


def allowed(device: torch.device) -> int | None:
    """Bytes of a GPU's memory that this process may take, by its share; None of a CPU's."""
    if device.type != "cuda":
        return None
    index = _number(device)
    total: int = torch.cuda.mem_get_info(index)[1]
    return int(torch.cuda.get_per_process_memory_fraction(index) * total)


def room(device: torch.device) -> int:
    """Bytes of a GPU's memory that this process may take for pixels, beside what it has and what it may yet need."""
    index = _number(device)
    free, ours = torch.cuda.mem_get_info(index)[0], allowed(device) or 0
    left = min(free, ours - torch.cuda.memory_reserved(index))
    return max(0, left - LEFT_BYTES - torch.cuda.max_memory_allocated(index) // 4)


def _number(device: torch.device) -> int:
    """Some of torch wants one."""
    return torch.cuda.current_device() if device.index is None else device.index
