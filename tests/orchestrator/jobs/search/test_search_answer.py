"""What a search's answer says beside its numbers; no cluster is needed for it."""

from __future__ import annotations

from muster.orchestrator.jobs.search.answer import tie_warnings


def row(trial: int, L: int, near_ties: int) -> dict[str, int]:
    return {"trial": trial, "L": L, "near_ties": near_ties}


def test_near_ties_that_rounding_would_not_show_are_not_told() -> None:
    assert tie_warnings([row(0, 1, 900), row(0, 2, 0), row(1, 1, 1)], 2000) == []


def test_trials_whose_scores_rounding_decides_are_named_with_the_worst() -> None:
    points = [row(2, 2, 1500), row(0, 1, 0), row(2, 1, 3), row(1, 1, 20)]
    (text,) = tie_warnings(points, 2000)
    assert text.startswith("trials 1, 2: of the worst: 1,500 of 2,000 queries are near ties")
    (text,) = tie_warnings(points[1:2] + points[3:], 2000)
    assert text.startswith("trial 1: 20 of 2,000 queries are near ties")
    assert "1.0 points" in text
