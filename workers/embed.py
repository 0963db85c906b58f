"""Images to unit vectors: what a trained network makes of a split. `workers/store/vectors.py` keeps them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch.backends import cudnn

from muster.workers.errors import DivergedError
from muster.workers.packs.pack import Pack, Part
from muster.workers.spec import TestView
from muster.workers.store.vectors import Float32
from muster.workers.train import augment
from muster.workers.train.prefetch import Buffer, fed

#: Fixed, not tuned to what is free: the batch's size changes the last bits.
BATCH = 256


@torch.inference_mode()
def embed(
    network: torch.nn.Module,
    pack: Pack,
    part: Part,
    view: TestView,
    device: torch.device,
    *,
    normalize: bool = True,
) -> Float32:
    """The outputs of a part's images, float32 [n, D], in the part's order, L2-normalised unless told otherwise.

    Computed in float32 whatever precision the network trained in. Raises DivergedError if a vector is not
    finite. Source: DREML section 3.
    """
    network = network.to(device).to(memory_format=torch.channels_last).eval()
    to_float = augment.ToFloat(view.mean, view.std, device)

    def made(start: int, buffer: Buffer) -> torch.Tensor:
        rows = part.rows[start : start + BATCH]
        images = buffer.images(len(rows), view.crop)
        augment.centre_crops(pack, rows, view.crop, images.numpy())
        return images

    found = []
    kept = {"enabled": cudnn.enabled, "deterministic": cudnn.deterministic, "allow_tf32": cudnn.allow_tf32}
    with cudnn.flags(benchmark=False, **kept):  # what is not named there is switched off
        for batch in fed(made, range(0, len(part.rows), BATCH), device):
            output = network(to_float(batch)).float()
            found.append(F.normalize(output, dim=1) if normalize else output)
    vectors = torch.cat(found).cpu().numpy()
    if not np.isfinite(vectors).all():
        raise DivergedError("The network gives vectors that are not finite: its weights are not usable.")
    return vectors
