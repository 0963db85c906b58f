"""DREML's loss: cross-entropy against fixed proxies."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def identity_proxy_loss(output: torch.Tensor, labels: torch.Tensor, normalize: bool) -> torch.Tensor:
    """The mean cross-entropy of outputs [n, D] with meta-class labels int64 [n]: a scalar.

    The proxies are the D unit vectors, so the output's similarity to the proxies is the output itself.
    `normalize` L2-normalises it first, as No-Fuss metric learning is written; DREML's own code does not.
    Source: DREML section 3.
    """
    output = output.float()
    return F.cross_entropy(F.normalize(output, dim=1) if normalize else output, labels)
