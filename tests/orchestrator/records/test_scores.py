"""How scores and times are written, for the terminal and the report alike."""

from __future__ import annotations

import math
from typing import Any

import pytest

from muster.orchestrator.records.scores import (
    SHOWN_ROWS,
    curve_table,
    duration,
    near_tie_text,
    percent,
    recall_ks,
    spread_text,
    thinned,
)


@pytest.mark.parametrize(
    ("share", "plain", "signed"),
    [
        (0.717, "71.7", "+71.7"), (0.0, "0.0", "+0.0"), (1.0, "100.0", "+100.0"), (-0.0123, "-1.2", "-1.2"),
        (None, "-", "-"), (math.nan, "-", "-"), (math.inf, "-", "-"),
    ],
)  # fmt: skip
def test_a_share_is_per_cent_with_one_decimal(share: Any, plain: str, signed: str) -> None:
    assert (percent(share), percent(share, sign=True)) == (plain, signed)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"), (-5, "0:00"), (0.4, "0:00"), (0.6, "0:01"), (42, "0:42"), (60, "1:00"), (725, "12:05"),
        (3599, "59:59"), (3600, "1:00:00"), (11220, "3:07:00"), (48 * 3600 - 1, "47:59:59"), (48 * 3600, "2d 00h"),
        (99.9 * 3600, "4d 03h"),
        (None, "-:--"), (math.nan, "-:--"), (math.inf, "-:--"),
    ],
)  # fmt: skip
def test_times_are_written_as_clocks_do(seconds: Any, text: str) -> None:
    assert duration(seconds) == text


def test_every_k_of_any_row_is_a_column_ascending() -> None:
    rows = [
        {"L": 1, "recall_at_10": 0, "xrecall_at_3": 0, "recall_at_5_spread": 0},
        {"recall_at_2": 0, "recall_at_1": 0},
    ]
    assert recall_ks(rows) == [1, 2, 10]
    assert recall_ks([]) == []


def test_the_curve_s_cells_stand_below_their_heads() -> None:
    rows = [{"L": 2, "recall_at_1": 0.5, "recall_at_10": 0.75, "map_at_r": 0.25, "nmi": None}]
    head, cells = curve_table(rows, (1, 10))
    assert head == ["L", "recall@1", "@10", "MAP@R", "NMI"]
    assert cells == [["2", "50.0", "75.0", "25.0", "-"]]
    assert curve_table(rows, (10, 3))[0][1:3] == ["recall@10", "@3"]
    assert curve_table(rows, (3,))[1] == [["2", "-", "25.0", "-"]]


@pytest.mark.parametrize(
    ("count", "kept"),
    [(0, []), (1, [1]), (16, [*range(1, 17)]), (17, [1, 2, 4, 8, 16, 17]), (48, [1, 2, 4, 8, 16, 32, 48]),
     (64, [1, 2, 4, 8, 16, 32, 64])],
)  # fmt: skip
def test_long_curves_keep_powers_of_two_and_the_last(count: int, kept: list[int]) -> None:
    assert [row["L"] for row in thinned([{"L": size} for size in range(1, count + 1)])] == kept
    assert SHOWN_ROWS == 16


@pytest.mark.parametrize(
    ("row", "queries", "said"),
    [
        ({"near_ties": 5924}, 5924, "5,924 of 5,924 queries are near ties: rounding decides them"),
        ({"near_ties": 1}, 1000, "1 of 1,000 queries are near ties: rounding decides them"),
        ({"near_ties": 1}, 1001, ""),
        ({"near_ties": 0}, 5, ""),
        ({}, 5, ""),
        ({"near_ties": 0}, 0, ""),
        ({"near_ties": 1}, 0, "1 of 0 queries"),
    ],
)  # fmt: skip
def test_near_ties_are_told_where_they_would_be_seen(row: Any, queries: int, said: str) -> None:
    found = near_tie_text([row], queries)
    assert found.startswith(said)
    assert bool(found) == bool(said)
    share = 100 * row.get("near_ties", 0) / max(queries, 1)
    assert not found or f"recall could be {share:.1f} points otherwise" in found


def test_near_ties_are_told_of_the_size_that_has_the_most() -> None:
    curve = [{"L": 1, "near_ties": 48}, {"L": 2, "near_ties": 3}, {"L": 3, "near_ties": 0}]
    assert near_tie_text(curve, 48).startswith("At L = 1, 48 of 48 queries are near ties")
    assert near_tie_text(curve[1:], 48).startswith("At L = 2, 3 of 48 queries")
    assert near_tie_text([*curve[2:], {"L": 4, "near_ties": 3}], 48).startswith("3 of 48 queries")
    assert near_tie_text(curve[2:], 48) == ""


def test_spreads_are_told_where_anything_was_drawn() -> None:
    row = {
        "L": 3, "recall_at_1": 0.5, "recall_at_1_spread": 0.0123, "recall_at_5": 0.75, "recall_at_5_spread": 0.0,
        "map_at_r": 0.1, "map_at_r_spread": 0.2,
    }  # fmt: skip
    assert spread_text(row) == (
        "At L = 3: recall@1 50.0 (spread 1.23), recall@5 75.0 (spread 0.00); "
        "the spread is the draws' standard deviation."
    )
    assert spread_text({"L": 3, "recall_at_1": 0.5}) == ""
