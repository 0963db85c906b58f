"""Whether a GPU computes: a second of products of matrices, whose results are known."""

from __future__ import annotations

import time

import torch

from muster.workers.gpus.kernels import unsupported

#: How long it computes, in seconds; the side of the matrices.
SECONDS, SIDE = 1.0, 2048


def fault(device: str = "cuda", seconds: float = SECONDS, side: int = SIDE) -> str:
    """What is wrong with the first GPU that this process sees, or "" if nothing is.

    Products of whole numbers below 2^24 are exact in float32, in any order of addition.
    """
    if device == "cuda" and not torch.cuda.is_available():
        return "torch can't use it: is the driver too old for this torch, or torch's build without CUDA?"
    try:
        if device == "cuda" and (
            text := unsupported(torch.cuda.get_device_capability(), torch.cuda.get_arch_list())
        ):
            return text
        left = torch.arange(side, device=device, dtype=torch.float32).remainder(7).expand(side, side)
        right = torch.ones(side, side, device=device)
        expected = float(sum(number % 7 for number in range(side)))
        end = time.monotonic() + seconds
        while True:
            if not bool((left @ right == expected).all()):
                return "it computes wrong: a product of matrices is not what it should be"
            if time.monotonic() >= end:
                return ""
    except RuntimeError as error:
        return str(error).strip().splitlines()[0]
