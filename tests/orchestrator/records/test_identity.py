"""Whether two requests are the same one, and what differs between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from muster.orchestrator.records.identity import KNOWN_SHOWN, differences, known_runs
from muster.workers.store.layout import Store

OLD: dict[str, Any] = {
    "method": "dreml",
    "ensemble": {"D": 12, "sizes": [96, 160], "deep": {"mean": (0.1, 0.2)}},
    "ks": [1, 2],
    "none": None,
}


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ({**OLD, "method": "bier"}, ["method was dreml, is bier"]),
        ({**OLD, "ks": [1, 3]}, ["ks was [1, 2], is [1, 3]"]),
        ({**OLD, "ks": [2, 1]}, ["ks was [1, 2], is [2, 1]"]),
        ({**OLD, "ks": [1]}, ["ks was [1, 2], is [1]"]),
        ({**OLD, "ks": [1, 2, 4]}, ["ks was [1, 2], is [1, 2, 4]"]),
        ({**OLD, "ks": (1, 3)}, ["ks was [1, 2], is (1, 3)"]),
        ({**OLD, "ks": None}, ["ks was [1, 2], is None"]),
        ({**OLD, "none": 0}, ["none was None, is 0"]),
        ({**OLD, "ensemble": {**OLD["ensemble"], "D": 3}}, ["ensemble.D was 12, is 3"]),
        (
            {**OLD, "ensemble": {**OLD["ensemble"], "deep": {"mean": (0.1, 0.3)}}},
            ["ensemble.deep.mean was (0.1, 0.2), is (0.1, 0.3)"],
        ),
        ({**OLD, "ensemble": None}, [f"ensemble was {OLD['ensemble']}, is None"]),
        ({**OLD, "later": 5}, ["later was None, is 5"]),
        ({**OLD, "ks": [], "method": "x"}, ["method was dreml, is x", "ks was [1, 2], is []"]),
    ],
)
def test_each_difference_is_told_by_its_name(new: dict[str, Any], said: list[str]) -> None:
    assert differences(OLD, new) == said
    back = differences(new, OLD)
    assert len(back) == len(said)
    assert {text.partition(" was ")[0] for text in back} == {text.partition(" was ")[0] for text in said}


def test_lists_that_json_made_of_tuples_are_the_same() -> None:
    new = {**OLD, "ks": (1, 2), "ensemble": {"D": 12.0, "sizes": (96, 160), "deep": {"mean": [0.1, 0.2]}}}
    assert differences(OLD, new) == differences(new, OLD) == []


def test_a_missing_field_is_one_that_is_none() -> None:
    """A request of an older release lacks what came later, where nothing was done."""
    assert differences(OLD, {name: value for name, value in OLD.items() if name != "none"}) == []


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "There are none: is --storage right?"),
        (2, "There are: run00, run01."),
        (KNOWN_SHOWN, f"There are: {', '.join(f'run{n:02}' for n in range(10))}."),
        (KNOWN_SHOWN + 3, f"There are: {', '.join(f'run{n:02}' for n in range(10))} and 3 more."),
    ],
)
def test_known_runs_are_named_up_to_ten(tmp_path: Path, count: int, said: str) -> None:
    store = Store(str(tmp_path))
    for number in range(count):
        store.run(f"run{number:02}").write("run.json", {})
    assert known_runs(store) == said
