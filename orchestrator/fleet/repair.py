"""Damaged vectors: the member is asked for again, and the work that met them is done once more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from muster.workers.errors import CorruptFileError, DamagedMember, MusterError

if TYPE_CHECKING:  # a trial's process imports this module, and must stay small
    from muster.workers.store.layout import Store
    from muster.workers.task import MemberTask

#: A disk that damages files so often in a row will go on doing so.
MAX_REPAIRS = 3

Found = TypeVar("Found")


class RepairError(MusterError):
    """Files are damaged again and again."""


def repaired(work: Callable[[], Found], retrain: Callable[[DamagedMember], None], root: str) -> Found:
    """What `work` returns. It reads members' vectors; each time that they prove damaged, `retrain` has those of that
    member made again, and it starts anew.

    `root` is the store's, for the message. Raises RepairError if there is no end to it.
    """
    for _ in range(MAX_REPAIRS):
        try:
            return work()
        except DamagedMember as error:
            retrain(error)
    raise RepairError(f"Files in {root} were damaged {MAX_REPAIRS} times in a row: check its disk.")


def invalidate_vectors(store: Store, task: MemberTask) -> None:
    """Takes the records of a member's damaged vectors away, so that the fleet makes them again from its weights. Others
    that met the same damage may have had them made since: those are kept."""
    from muster.workers.store.vectors import read_vectors

    for target in task.targets:
        folder = store.model(task.key).embedding(target.digest)
        try:
            read_vectors(folder)
        except CorruptFileError:
            folder.distrust()
