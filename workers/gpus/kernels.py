"""Which GPUs a build of torch has kernels for. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence


def unsupported(capability: tuple[int, int], able: Sequence[str]) -> str:
    """What to say where torch has no kernels for a GPU of this compute capability, or "". `able`: what
    `torch.cuda.get_arch_list` gives, as sm_80 and compute_90."""
    if any(_runs(arch, capability) for arch in able):
        return ""
    return (
        f"torch has no kernels for its compute capability {capability[0]}.{capability[1]} (but for {', '.join(able)}): "
        "install a build of torch that does, for an older GPU one of an older CUDA"
    )


def _runs(arch: str, capability: tuple[int, int]) -> bool:
    """Binaries (sm) run on GPUs of the same major version and no lower minor one, PTX (compute) on all later ones."""
    kind, _, number = arch.partition("_")
    digits = "".join(letter for letter in number if letter.isdigit())
    built = (int(digits[:-1]), int(digits[-1]))
    return (
        capability >= built if kind == "compute" else capability[0] == built[0] and capability[1] >= built[1]
    )
