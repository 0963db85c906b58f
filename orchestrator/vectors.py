"""A member's vectors from the store, and whose fault it is if they are not there."""

from __future__ import annotations

import numpy as np

from workers.embed import read_vectors
from workers.errors import CorruptFileError
from workers.store import Store


class DamagedMember(CorruptFileError):  # noqa: N818  (names the member, and crosses process borders)
    """A member's vectors are damaged or gone: its key goes back to the fleet."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(key, message)
        self.key = key

    def __str__(self) -> str:
        return str(self.args[1])


def member_vectors(
    store: Store, key: str, digest: str, start: int = 0, stop: int | None = None
) -> np.ndarray:
    """Rows of one member's vectors, float32 [n, D]. Raises DamagedMember if they can't be trusted."""
    try:
        return read_vectors(store.model(key).embedding(digest), start, stop)
    except CorruptFileError as error:
        raise DamagedMember(key, str(error)) from error
