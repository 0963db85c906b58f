"""A member's vectors from the store, ready to be compared, and whose fault it is if they are not there."""

from __future__ import annotations

import numpy as np

from muster.workers.errors import CorruptFileError
from muster.workers.score.combine import Combination, combine
from muster.workers.store.layout import Store
from muster.workers.store.vectors import read_vectors


class DamagedMember(CorruptFileError):  # noqa: N818  (names the member, and crosses process borders)
    """A member's vectors are damaged or gone: its key goes back to the fleet."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(key, message)
        self.key = key

    def __str__(self) -> str:
        return str(self.args[1])


def member_vectors(
    store: Store,
    key: str,
    digest: str,
    start: int = 0,
    stop: int | None = None,
    combination: Combination | None = None,
) -> np.ndarray:
    """Rows of one member's vectors, float32 [n, D]: as stored, or its learners combined.

    Raises DamagedMember if they can't be trusted.
    """
    try:
        vectors = read_vectors(store.model(key).embedding(digest), start, stop)
    except CorruptFileError as error:
        raise DamagedMember(key, str(error)) from error
    return vectors if combination is None else combine(vectors, combination.sizes, combination.how)


MENDINGS = 3
