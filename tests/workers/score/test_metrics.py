"""What scores are called, in files and for people."""

from __future__ import annotations

import pytest

from muster.workers.score.metrics import BY_RANK, METRICS, SHOWN, is_share, title_of


@pytest.mark.parametrize(
    ("name", "share", "title"),
    [
        ("recall_at_1", True, "recall@1"),
        ("recall_at_1000", True, "recall@1000"),
        ("test_recall_at_4", True, "test_recall@4"),
        ("map_at_r", True, "MAP@R"),
        ("r_precision", True, "R-precision"),
        ("nmi", True, "NMI"),
        ("test_map_at_r", True, "test_map_at_r"),
        ("near_ties", False, "near_ties"),
        ("L", False, "L"),
        ("nmi_seconds", False, "nmi_seconds"),
    ],
)
def test_a_column_is_a_share_and_has_a_name_for_people(name: str, share: bool, title: str) -> None:
    assert (is_share(name), title_of(name)) == (share, title)


def test_tables_show_these_in_this_order() -> None:
    assert [metric.name for metric in METRICS] == ["map_at_r", "r_precision", "nmi"]
    assert [metric.name for metric in BY_RANK] == ["map_at_r", "r_precision"]
    assert [metric.name for metric in SHOWN] == ["map_at_r", "nmi"]
