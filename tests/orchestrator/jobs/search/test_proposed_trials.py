"""Searches whose trials nobody knows before they begin: Optuna proposes them one by one. It need not be installed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from muster.orchestrator.jobs.search.record import Record
from muster.orchestrator.jobs.search.request import SearchRequest, load_search
from muster.workers.errors import UsageError

PROPOSED = {"algorithm": "optuna", "scheduler": "none"}


def proposed() -> SearchRequest:
    given = {"data.val_classes": 40, "data.dataset": "glyphs", "ensemble.L": 3}
    request = load_search(None, given, [], "12..50", [], {})
    return dataclasses.replace(request, search=dataclasses.replace(request.search, **PROPOSED))


@pytest.mark.parametrize(
    ("cause", "said"),
    [("", "its process died"), ("Traceback:\n  line 1\nOSError: no memory", "OSError: no memory")],
)
def test_a_trial_whose_process_fails_before_its_first_row_is_a_failed_trial(cause: str, said: str) -> None:
    told: list[dict[str, Any]] = []
    record = Record(proposed(), told.append)
    record.begin()
    assert told == []
    record.row({"number": 2, "D": 30}, {"L": 1, "ended": "", "message": "", "recall_at_1": 0.5})
    record.failed({"number": 1, "D": 20}, cause)
    first, second = record.in_order()
    assert (first.settings, first.ended, first.reached, first.message) == ({"D": 20}, "failed", 0, said)
    assert (second.settings, second.ended, second.reached) == ({"D": 30}, "running", 1)
    assert (told[-1]["number"], told[-1]["state"], told[-1]["message"]) == (1, "failed", said)


def refused(*axes: str, method: str = "baseline", D: str | None = None, **flags: Any) -> list[str]:
    """Why it is refused, without what is said of an Optuna that is not installed."""
    own = {"baseline.loss": "triplet"} if method == "baseline" else {}
    given = {"method": method, "data.dataset": "glyphs", "data.val_classes": 40, **own, **flags}
    try:
        load_search(None, given, [], D, list(axes), PROPOSED)
    except UsageError as error:
        return [text for text in error.problems if "is not installed" not in text]
    return []


def test_values_that_can_not_meet_are_refused_before_the_search_begins() -> None:
    assert refused("images=2,4", "loss=triplet") == []
    assert refused("loss=npairs", "images=2") == []
    (problem,) = refused("images=2,4", "loss=triplet,npairs")
    assert "npairs" in problem


def test_of_ranges_the_ends_are_tried_together_and_a_large_space_is_tried_in_part() -> None:
    assert refused("lr=0.001..0.1:log", "dim=16..64", "loss=triplet,proxynca") == []
    many = ",".join(str(1 + number / 1000) for number in range(1500))
    assert refused(f"lr={many}", "loss=triplet,npairs", "images=4") != []
