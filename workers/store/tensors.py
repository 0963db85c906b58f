"""Tensors from the bytes of a safetensors file, and what damage in one becomes."""

from __future__ import annotations

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from muster.workers.errors import CorruptFileError


def read_tensors(data: bytes, where: str) -> dict[str, torch.Tensor]:
    """The tensors by name. Raises CorruptFileError if it is no safetensors file, or if its header promises other sizes
    than it has: then nothing is allocated. `where` names the file."""
    try:
        return dict(load(data))
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise CorruptFileError(
            f"{where} is damaged: it holds no tensors that can be read ({error})."
        ) from error
