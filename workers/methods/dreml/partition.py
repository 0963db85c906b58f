"""The random grouping of class labels into meta-classes (DREML, section 3)."""

from __future__ import annotations

import numpy as np

from muster.workers.rng import Int64, permutation

#: The rule's name is part of every member's key: other public codes use other rules (an unbalanced one).
BALANCED = "balanced"


def meta_classes(classes: int, D: int, seed: int, index: int) -> Int64:
    """The meta-class of each training class for ensemble member `index`: int64 [classes], values 0 .. D-1.

    Every meta-class gets floor(classes / D) or ceil(classes / D) classes. A pure function of its
    arguments, and never of the ensemble's size: the ensembles of one (seed, D) are nested.
    Source: DREML section 3 ("each meta-class is roughly the same size"); ceil(classes / D) independent
    permutations of 0 .. D-1 are joined, cut to length and shuffled.

    Raises ValueError if D is not in 2 .. classes.
    """
    if not 2 <= D <= classes:
        raise ValueError(
            f"D = {D} meta-classes can't be made of {classes} classes: D must be in 2..{classes}"
        )
    rounds = -(-classes // D)
    joined = np.concatenate([permutation(("partition", seed, D, index, r), D) for r in range(rounds)])
    return joined[:classes][permutation(("partition-shuffle", seed, D, index), classes)]
