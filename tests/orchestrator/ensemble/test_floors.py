"""What is said where training was worth nothing."""

from __future__ import annotations

from typing import Any

import pytest

from muster.orchestrator.ensemble.floors import below_floors
from tests.orchestrator.ensemble.conftest import Asked

MORE = "The curve still rises with L: more members help, too."


def scores(*recalls: float, floor: float) -> dict[str, Any]:
    curve = [{"L": L, "recall_at_1": value, "recall_at_2": 1.0} for L, value in enumerate(recalls, 1)]
    return {"curve": curve, "floors": [{"name": "pixels", "curve": [{"recall_at_1": floor}]}]}


@pytest.mark.parametrize(
    ("recalls", "floor", "said", "more"),
    [
        ((0.2, 0.3), 0.29, False, False),
        ((0.2, 0.3), 0.3, True, True),
        ((0.2, 0.3, 0.304), 0.31, True, False),
        ((0.3,), 0.31, True, False),
        ((1.0,), 1.0, False, False),
    ],
)
def test_more_members_are_a_cure_where_the_last_one_still_added_something(
    asked: Asked, recalls: tuple[float, ...], floor: float, said: bool, more: bool
) -> None:
    text = " ".join(below_floors(scores(*recalls, floor=floor), asked()))
    assert ("is no better than the pixels of the images" in text) is said
    assert (MORE in text) is more
