"""A member's vectors and the images they are of, from the store, and whose fault it is if they are not there."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from muster.orchestrator.vectors.questions import roles_of
from muster.workers.errors import CorruptFileError, DamagedMember, StoreError
from muster.workers.packs.pack import PackIndex, Part, read_index
from muster.workers.score.combine import Combination, combine
from muster.workers.store.layout import Store
from muster.workers.store.vectors import VECTORS, read_vectors
from muster.workers.task import Target


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


def content_of(store: Store, target: Target, keys: Iterable[str]) -> str:
    """16 hex digits of what the members' vectors are, by their records, and of which images ask and which answer: a
    member that is trained again on another machine keeps its key, and has others; and the same pictures may be listed
    with other roles. Raises DamagedMember."""
    found = hashlib.sha256()
    for key in keys:
        try:
            done = store.model(key).embedding(target.digest).done()
        except CorruptFileError as error:
            raise DamagedMember(key, str(error)) from error
        if done is None:
            raise DamagedMember(key, f"The vectors of {key} are gone.")
        found.update(done.files[VECTORS].sha256.encode())
    with contextlib.suppress(CorruptFileError):  # whoever reads its images says so
        index = read_index(store.pack(target.images.pack), target.images.pack)
        if index is not None and any(roles := roles_of(index, index.part(target.images.class_ids))):
            found.update("\n".join(roles).encode())
    return found.hexdigest()[:16]


def images_of(store: Store, target: Target) -> tuple[PackIndex, Part]:
    """The index of a split's pack, and the part of it that is meant. Raises CorruptFileError if it is gone."""
    index = read_index(store.pack(target.images.pack), target.images.pack)
    if index is None:
        raise CorruptFileError(
            f"The pack {target.images.pack} is gone from {store.root}: launch again to build it."
        )
    return index, index.part(target.images.class_ids)


def has_vectors(store: Store, key: str, digest: str) -> bool:
    """Whether a member's vectors were finished. Raises DamagedMember if what says so is damaged."""
    try:
        return store.model(key).embedding(digest).done() is not None
    except CorruptFileError as error:
        raise DamagedMember(key, str(error)) from error


@contextlib.contextmanager
def forgetting(store: Store, digest: str, run: str) -> Iterator[None]:
    """For commands that only read: where a member's vectors prove damaged the store forgets them, so that the run makes
    them again when it is resumed. Raises CorruptFileError, which says so."""
    try:
        yield
    except DamagedMember as error:
        try:
            store.model(error.key).embedding(digest).distrust()
        except StoreError as refused:
            raise StoreError(f"{error} It has to be forgotten, and that is refused: {refused}") from error
        raise CorruptFileError(
            f"{error} The store has forgotten it: muster resume {run} makes it again from the member's weights."
        ) from error
