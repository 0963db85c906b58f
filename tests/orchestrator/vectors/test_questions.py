"""Who asks whom is looked at before anything is trained: what can't be scored is refused, what is left out is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from muster.orchestrator.vectors.questions import Questions, protocols_of
from muster.workers.datasets import ImageFolder
from muster.workers.datasets.base import Item, Split
from muster.workers.errors import UsageError

NAMES = ["ant", "bee", "cow", "dog"]


TRAITS = ImageFolder(Path("pictures")).traits


def asked(*images: str, split: str = "test") -> Questions:
    """Images as "q:ant", "g:ant", or "ant" for one that asks and answers."""
    parts = [image.rpartition(":") for image in images]
    roles = [{"q": "query", "g": "gallery", "": ""}[part[0]] for part in parts]
    return Questions(split, np.array([NAMES.index(part[2]) for part in parts]), roles, NAMES)


ENOUGH = ["cow"] * 10


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (
            ["ant", "bee", "cow"],
            "no class has two images: there is nothing to retrieve. Each test class needs",
        ),
        ([], "no class has two images"),
        (
            ["q:ant", "q:bee", "g:cow"],
            "none of the 2 queries has an image of its class among the 1 gallery images",
        ),
        (
            ["q:ant", "q:ant", "q:ant"],
            "none of the 3 queries has an image of its class among the 0 gallery images",
        ),
        (["g:ant", "g:ant"], "none of the 0 queries has an image of its class among the 2 gallery images"),
        (["q:ant", "ant"], ""),
    ],
)
def test_what_nobody_could_find_is_refused(images: list[str], says: str) -> None:
    if not says:
        asked(*images).check(TRAITS)
        return
    with pytest.raises(UsageError) as raised:
        asked(*images).check(TRAITS)
    (problem,) = raised.value.problems
    assert problem.startswith("In the test split of folder pictures ")
    assert says in problem


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (["ant", "bee", *ENOUGH], ["2 test class(es) of one image are left out of the mean: ant, bee."]),
        (["q:ant", "g:ant", "g:bee", *(f"g:{name}" for name in ENOUGH)], []),
        (
            ["q:ant", "q:bee", "q:bee", "g:ant", *(f"g:{name}" for name in ENOUGH)],
            ["2 of 3 test queries have no gallery image and are left out of the mean: bee."],
        ),
        (["ant"] * 9, ["Only 8 test images can be found: recall at 8 takes all of them and says nothing."]),
        (
            ["ant"] * 3,
            ["Only 2 test images can be found: recall at 2, 4, 8 takes all of them and says nothing."],
        ),
        (
            ["q:ant", *["g:ant"] * 4],
            ["Only 4 test images can be found: recall at 4, 8 takes all of them and says nothing."],
        ),
    ],
)
def test_what_is_left_out_or_says_nothing_is_told(
    images: list[str],
    told: list[str],
) -> None:
    assert asked(*images).check(TRAITS) == told


def test_a_split_is_called_by_its_name_and_many_classes_are_counted() -> None:
    names = [f"class {number:02d}" for number in range(13)]
    many = Questions("val", np.array([*range(12), *[12] * 10]), [""] * 22, names)
    (told,) = many.check(TRAITS)
    shown = ", ".join(names[:10])
    assert told == f"12 val class(es) of one image are left out of the mean: {shown} and 2 more."


def test_a_list_asks_what_its_items_say() -> None:
    items = [Item("1", "bee", "query"), Item("2", "ant", "gallery"), Item("3", "bee", "gallery")]
    found = Questions.listed(Split("test", items, ["ant", "bee"]))
    assert (found.labels.tolist(), found.roles) == ([1, 0, 1], ["query", "gallery", "gallery"])
    (protocol,) = protocols_of(found.labels, found.roles)
    assert (protocol.query.tolist(), protocol.gallery.tolist()) == ([0], [1, 2])


def test_random_galleries_are_as_many_as_are_drawn() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    drawn = protocols_of(labels, [""] * 6, draws=3)
    assert [sorted(labels[one.gallery]) for one in drawn] == [[0, 1, 2]] * 3
    with pytest.raises(UsageError, match="no class has two images"):
        asked("ant", "bee").check(TRAITS, draws=3)
