"""What a student is told of its teacher: two losses over the pairs, or triples, of a batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from muster.workers.methods.distill.settings import DistillSettings

#: Below this a squared distance has no gradient of use.
SMALLEST = 1e-12


def squared_distances(vectors: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distances of all pairs: vectors [n, d] to [n, n], 0 on the diagonal."""
    products = vectors @ vectors.T
    lengths = products.diagonal()
    found = (lengths[:, None] + lengths[None] - 2 * products).clamp(min=SMALLEST)
    return found.masked_fill(torch.eye(len(vectors), dtype=torch.bool, device=vectors.device), 0)


class Similarities(nn.Module):
    """The teacher's similarities as soft labels of a contrastive loss: for each image, the cross-entropy of the
    student's distribution over the others of the batch with its teacher's, each a softmax of similarities divided by
    a temperature.

    Source: the label relaxation of Kim et al., CVPR 2021, "Embedding Transfer with Label Relaxation for Improved
    Metric Learning", in the softmax form of Fang et al., ICLR 2021, "SEED", eq. 2 to 5, over the batch alone.
    """

    def __init__(self, temperature: float, teacher_temperature: float) -> None:
        super().__init__()
        self.temperature, self.teacher_temperature = temperature, teacher_temperature

    def forward(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Student vectors float32 [n, d], of any length, and the teacher's at unit length [n, D]: a scalar."""
        mine = _others(F.normalize(student, dim=1)) / self.temperature
        theirs = _others(teacher) / self.teacher_temperature
        return F.cross_entropy(mine, theirs.softmax(1))


def _others(unit: torch.Tensor) -> torch.Tensor:
    """Each image's similarity to all others: unit vectors [n, d] to [n, n - 1]."""
    n = len(unit)
    # Behind the first, each n + 1st number is of the diagonal. To choose by a mask would make the host wait.
    return (unit @ unit.T).flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)


class Relations(nn.Module):
    """The teacher's distances between two images and angles between three, which the student shall have too.

    Source: Park et al., CVPR 2019, "Relational Knowledge Distillation", eq. 4 to 8: Huber losses of distances,
    each set divided by its mean, and of the cosines of angles.
    """

    def __init__(self, angle_weight: float) -> None:
        super().__init__()
        self.angle_weight = angle_weight

    def forward(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Student vectors float32 [n, d], of any length, and the teacher's at unit length [n, D]: a scalar."""
        student = F.normalize(student, dim=1)
        distances = F.smooth_l1_loss(_relative(student), _relative(teacher))
        return distances + self.angle_weight * F.smooth_l1_loss(_angles(student), _angles(teacher))


def _relative(vectors: torch.Tensor) -> torch.Tensor:
    """Distances of all pairs, divided by their mean: [n, n]."""
    found = squared_distances(vectors).add(SMALLEST).sqrt()
    return found / found.sum() * (len(vectors) * (len(vectors) - 1))


def _angles(vectors: torch.Tensor) -> torch.Tensor:
    """The cosine of the angle at every image between every two others: [n, n, n]."""
    ways = F.normalize(vectors[None] - vectors[:, None], dim=2)
    return ways @ ways.transpose(1, 2)


def loss_of(settings: DistillSettings) -> nn.Module:
    """The loss that the settings name."""
    if settings.loss == "relations":
        return Relations(settings.angle_weight)
    return Similarities(settings.temperature, settings.teacher_temperature)
