"""Who asks whom in a split that is to be scored: looked at before anything is trained, in the protocol itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from muster.workers.datasets import Split
from muster.workers.datasets.base import Traits
from muster.workers.errors import UsageError
from muster.workers.names import shortened
from muster.workers.packs.pack import Int64, PackIndex, Part
from muster.workers.score.protocol import Protocol, one_of_each_class

#: Classes that a message names; of more it tells how many there are.
SHOWN = 10


def protocols_of(labels: Int64, roles: Sequence[str], draws: int = 0) -> list[Protocol]:
    """Which images ask and which answer: all of them each way, or the `roles` that the data set gives; or so many
    random galleries. `labels` is int64 [N]. Raises UsageError where nothing has a right answer."""
    if draws:
        return [one_of_each_class(labels, draw) for draw in range(draws)]
    given = np.asarray(roles, dtype=object)
    return [Protocol(labels, np.flatnonzero(given != "gallery"), np.flatnonzero(given != "query"))]


def roles_of(index: PackIndex, part: Part) -> list[str]:
    """Which side of a search each image of a part is on: query, gallery, or "" for both."""
    found: list[str] = np.asarray(index.table["role"].to_pylist(), dtype=object)[part.rows].tolist()
    return found


@dataclass(frozen=True)
class Questions:
    """The images of a split, as they are listed or as they were packed."""

    split: str
    labels: Int64
    roles: list[str]
    class_names: Sequence[str]

    @classmethod
    def listed(cls, split: Split) -> Questions:
        labels = np.array([split.labels[item.class_name] for item in split.items], np.int64)
        return cls(split.name, labels, [item.role for item in split.items], split.class_names)

    @classmethod
    def packed(cls, split: str, index: PackIndex, class_ids: Sequence[int] | None, part: Part) -> Questions:
        """`part` is that of these classes in the pack."""
        names = [index.class_names[number] for number in (class_ids or range(len(index.class_names)))]
        return cls(split, part.labels, roles_of(index, part), names)

    def check(self, traits: Traits, draws: int = 0) -> list[str]:
        """What its scores leave out or can't tell, for people; with `draws`, of so many random galleries.

        Raises UsageError if nothing could be scored.
        """
        asks, answers = (sum(role != other for role in self.roles) for other in ("gallery", "query"))
        both = asks == answers == len(self.roles)
        try:
            protocol = protocols_of(self.labels, self.roles, draws)[0]
        except UsageError as error:
            start = f"In the {self.split} split of {traits.title}"
            if both:
                raise UsageError(
                    f"{start} no class has two images: there is nothing to retrieve. Each {self.split} class needs at "
                    "least two images."
                ) from error
            raise UsageError(
                f"{start} none of the {asks} queries has an image of its class among the {answers} gallery images: "
                "there is nothing to retrieve. Is the list of queries or of the gallery cut, or are classes called "
                "differently in the two?"
            ) from error
        found = []
        if protocol.lone_queries:
            names = shortened([self.class_names[label] for label in protocol.lone_classes], most=SHOWN)
            what = f"{len(protocol.lone_classes)} {self.split} class(es) of one image are"
            if not both:
                what = f"{protocol.lone_queries} of {asks} {self.split} queries have no gallery image and are"
            found.append(f"{what} left out of the mean: {names}.")
        choice = len(protocol.gallery) - both
        if sure := [k for k in traits.recall_at if k >= choice]:
            found.append(
                f"Only {choice} {self.split} images can be found: recall at {', '.join(map(str, sure))} takes all of "
                "them and says nothing."
            )
        return found
