"""Who asks and who may be found: the retrieval protocol as plain row numbers.

Owns the check that a protocol makes sense, the count of right answers for each query, and the queries that have
none. It never sees a vector, and never decides which protocol a data set has.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from muster.workers.errors import UsageError
from muster.workers.rng import uniforms


@dataclass(frozen=True, eq=False)
class Protocol:
    """Which images ask, and among which images the answers are looked for.

    `labels` int64 [N]: the class of each row of the table. `query` int64 [Q] and `gallery` int64 [G]: rows of
    that table. A query that is itself in the gallery is excluded from its own results. Raises UsageError, with
    all the mistakes, for ids or labels that make no sense and when no query has a right answer.
    """

    labels: np.ndarray
    query: np.ndarray
    gallery: np.ndarray

    def __post_init__(self) -> None:
        problems = []
        for name in ("labels", "query", "gallery"):
            value = np.asarray(getattr(self, name))
            if value.ndim != 1 or not np.issubdtype(value.dtype, np.integer):
                what = f"{value.dtype} of shape {list(value.shape)}"
                problems.append(f"protocol: {name} must be a flat list of integers, and it is {what}.")
            else:
                object.__setattr__(self, name, value.astype(np.int64))
        if not problems:
            n = len(self.labels)
            for name in ("query", "gallery"):
                ids = getattr(self, name)
                if len(ids) and (ids.min() < 0 or ids.max() >= n):
                    problems.append(f"protocol: {name} ids must be rows 0 to {n - 1} of the table.")
            if len(np.unique(self.gallery)) != len(self.gallery):
                problems.append("protocol: the gallery names an image twice; give each row once.")
        if not problems and not self.references.any():
            problems.append(
                f"protocol: no query is left: none of the {len(self.query)} queries has another image of its class "
                f"among the {len(self.gallery)} gallery images. Give classes of two images or more, or check that "
                "query and gallery use the same labels."
            )
        if problems:
            raise UsageError(problems)

    @cached_property
    def references(self) -> np.ndarray:
        """R, int64 [Q]: the gallery images of each query's class, itself not counted."""
        start, stop = self.class_ranges
        found: np.ndarray = stop - start - (self.own_column >= 0)
        return found

    @property
    def lone_queries(self) -> int:
        """Queries without any right answer. They are left out of every mean."""
        return int((self.references == 0).sum())

    @property
    def lone_classes(self) -> tuple[int, ...]:
        """The classes of the lone queries, ascending."""
        return tuple(np.unique(self.labels[self.query[self.references == 0]]).tolist())

    @cached_property
    def columns_by_class(self) -> np.ndarray:
        """int64 [G]: the gallery's columns, the classes one after another."""
        return np.argsort(self.labels[self.gallery], kind="stable")

    @cached_property
    def class_ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """(start, stop), int64 [Q] each: the part of `columns_by_class` that has the query's class."""
        ordered = self.labels[self.gallery][self.columns_by_class]
        wanted = self.labels[self.query]
        return np.searchsorted(ordered, wanted, "left"), np.searchsorted(ordered, wanted, "right")

    @cached_property
    def own_column(self) -> np.ndarray:
        """int64 [Q]: the gallery column that is the query itself, or -1."""
        column = np.full(len(self.labels), -1)
        column[self.gallery] = np.arange(len(self.gallery))
        found: np.ndarray = column[self.query]
        return found


def leave_one_out(labels: np.ndarray) -> Protocol:
    """Every image asks all others: the protocol of CUB, Cars, SOP and VehicleID in DREML section 4.2."""
    rows = np.arange(np.size(labels))
    return Protocol(labels, rows, rows)


def one_of_each_class(labels: np.ndarray, draw: int) -> Protocol:
    """One random image of each class is the gallery, and the others are looked for in it: re-identification.

    A function of the labels and of `draw` alone, so that all models are asked the same. A class of one image is in
    the gallery and asks nothing. Source: the protocol of the VehicleID data set, as in fast-reid and TransReID.
    """
    order = np.lexsort((uniforms(("reid-gallery", draw), np.size(labels))[:, 0], labels))
    first = np.diff(np.asarray(labels)[order], prepend=-1) != 0
    return Protocol(labels, np.sort(order[~first]), np.sort(order[first]))
