"""Whether a GPU computes: a second of products of matrices, whose results are known."""

from __future__ import annotations

import time

import torch

#: How long it computes, in seconds; the side of the matrices.
SECONDS, SIDE = 1.0, 2048


def fault(device: str = "cuda", seconds: float = SECONDS, side: int = SIDE) -> str:
    """What is wrong with the first GPU that this process sees, or "" if nothing is.

    Products of whole numbers below 2^24 are exact in float32, in any order of addition.
    """
    if device == "cuda" and not torch.cuda.is_available():
        return "torch can't use it: is the driver too old for this torch, or torch's build without CUDA?"
    try:
        if device == "cuda" and (text := unsupported()):
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


def unsupported() -> str:
    """What to say where torch has no kernels for this GPU, or ""."""
    major, minor = torch.cuda.get_device_capability()
    able = torch.cuda.get_arch_list()
    if any(_runs_on(arch, major, minor) for arch in able):
        return ""
    return (
        f"torch {torch.__version__} has no kernels for its compute capability {major}.{minor} (it has "
        f"{', '.join(able)}): install a torch that does, for older GPUs one of an older CUDA"
    )


def _runs_on(arch: str, major: int, minor: int) -> bool:
    """Whether what was built for `arch`, as "sm_80" or "compute_90", runs: binaries do on the same major version and
    no lower minor one, PTX on all later."""
    kind, _, number = arch.partition("_")
    digits = "".join(letter for letter in number if letter.isdigit())
    built = (int(digits[:-1]), int(digits[-1]))
    if kind == "compute":
        return (major, minor) >= built
    return major == built[0] and minor >= built[1]
