"""Counter-based randomness: every draw is a function of names and numbers, never of a saved stream.

A member's partition, its initial weights, the order of its samples and their augmentation are functions
of (seed, D, member, purpose, epoch, sample). So a member that was killed and resumed, or that trained
beside others, sees what an undisturbed one would. NumPy's Philox supplies the bits; only its raw output
is used, because that is what NumPy promises to keep the same from release to release.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


def uniforms(names: tuple[object, ...], rows: int, columns: int = 1, *, epoch: int = 0) -> Float64:
    """Uniform draws in [0, 1), float64 [rows, columns]; row i depends on (names, epoch, columns, i) alone.

    `names` says what the draws are for, e.g. ("order", seed, D, index); each part enters by its `repr`.
    """
    key = np.frombuffer(_digest(names)[:16], dtype="<u8")
    raw = np.random.Philox(key=key, counter=[0, 0, epoch, 0]).random_raw(rows * columns)
    shares: Float64 = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return shares.reshape(rows, columns)


def permutation(names: tuple[object, ...], length: int, *, epoch: int = 0) -> Int64:
    """A random permutation of 0 .. length-1, int64 [length]."""
    return np.argsort(uniforms(names, length, epoch=epoch)[:, 0], kind="stable")


def torch_seed(names: tuple[object, ...]) -> int:
    """A seed for torch's own generators (initial weights, dropout): a non-negative 63-bit integer."""
    return int.from_bytes(_digest(names)[:8], "little") >> 1


def _digest(names: tuple[object, ...]) -> bytes:
    plain = (name.item() if isinstance(name, np.generic) else name for name in names)
    return hashlib.sha256("/".join(map(repr, plain)).encode()).digest()
