"""The published numbers against a second copy, typed from the papers' own pages as far as they are legible."""

from __future__ import annotations

import re

import pytest

from muster.orchestrator.jobs.reproduce.tables.papers import TABLES, places
from muster.orchestrator.jobs.reproduce.tables.published import PUBLISHED, cell

#: DREML, Table 1, as printed: CUB R@1, 2, 4, 8, NMI, then Cars the same.
TABLE_1 = """
triplet  42.6 55.0 66.4 77.2 55.4  51.5 63.8 73.5 81.4 53.4
npairs   51.0 63.3 74.3 83.2 60.4  71.1 79.7 86.5 91.6 64.0
proxynca 49.2 61.9 67.9 72.4 59.5  73.2 82.4 86.4 88.7 64.9
hdc      53.6 65.7 77.0 85.6 -     73.7 83.2 89.5 93.8 -
bier     55.3 67.2 76.9 85.1 -     78.0 85.8 91.1 95.1 -
dreml-i  58.9 69.6 78.4 85.6 62.1  84.2 89.4 93.2 95.5 71.0
dreml-r  63.9 75.0 83.1 89.7 67.8  86.0 91.7 95.0 97.2 76.4
"""
#: DREML, Table 2: R@1, 10, 20, 30. Of the row between HDC and DREML one cell is legible.
TABLE_2 = """
fashionnet 53.0 73.0 76.0 77.0
hdc        62.1 84.9 89.0 91.2
bier       -    92.8 -    -
dreml-r    78.4 93.7 95.8 96.7
"""
#: DREML, Table 3: R@1, R@5 for the small, the medium and the large list.
TABLE_3 = """
gs-trs  -    83.0 -    -    -    -
bier    -    -    -    -    -    86.4
dreml-r 88.5 94.8 87.2 94.2 83.1 92.4
"""
#: BIER (summary), Table I: R@1 on CUB and on SOP. Of its first two rows one cell is legible.
BIER_TABLE_1 = """
proxynca     49.2 -
baseline-512 51.8 66.2
a-bier       57.5 74.2
"""
#: Cells from other papers that repeat a table, where it is not legible or prints no such column.
ELSEWHERE = """
dreml-table2 fashionnet inshop 40 79.0
dreml-table2 fashionnet inshop 50 80.0
dreml-table2 hdc inshop 40 92.3
dreml-table2 hdc inshop 50 93.1
dreml-table2 bier inshop 1 76.9
dreml-table2 bier inshop 20 95.2
dreml-table2 bier inshop 30 96.2
dreml-table2 bier inshop 40 96.7
dreml-table2 bier inshop 50 97.1
bier-table1 lifted cub200 1 47.2
bier-table1 lifted sop 1 62.1
bier-table1 proxynca sop 1 73.7
bier-table1 bier cub200 1 55.3
bier-table1 bier cub200 2 67.2
bier-table1 bier cub200 4 76.9
bier-table1 bier cub200 8 85.1
bier-table1 a-bier cub200 2 68.7
bier-table1 a-bier cub200 4 78.3
bier-table1 a-bier cub200 8 86.2
bier-table1 a-bier sop 10 86.9
bier-table1 a-bier sop 100 94.0
bier-table1 a-bier sop 1000 97.8
"""
RECALLS = [f"recall_at_{k}" for k in (1, 2, 4, 8)]
COLUMNS = {
    "dreml-table1": [(place, metric) for place in ("cub200", "cars196") for metric in [*RECALLS, "nmi"]],
    "dreml-table2": [("inshop", f"recall_at_{k}") for k in (1, 10, 20, 30)],
    "dreml-table3": [
        (f"vehicleid-{size}", f"recall_at_{k}") for size in ("small", "medium", "large") for k in (1, 5)
    ],
    "bier-table1": [("cub200", "recall_at_1"), ("sop", "recall_at_1")],
}
PRINTED = {
    "dreml-table1": TABLE_1, "dreml-table2": TABLE_2, "dreml-table3": TABLE_3, "bier-table1": BIER_TABLE_1,
}  # fmt: skip


@pytest.mark.parametrize("target", PRINTED)
def test_every_legible_cell_of_the_papers_is_in_the_code(target: str) -> None:
    for line in PRINTED[target].strip().splitlines():
        row, *values = line.split()
        assert len(values) == len(COLUMNS[target])
        for (place, metric), value in zip(COLUMNS[target], values, strict=True):
            found = cell(target, row, place, metric)
            if value != "-":
                assert found is not None, (row, place, metric)
                assert (found.value, found.source.kind) == (
                    float(value),
                    found.source.kind if found.source.kind == "erratum" else "paper",
                ), (row, place, metric)


def test_every_number_is_on_the_second_copy() -> None:
    """Both ways: two digits that are swapped anywhere in the code differ from what is typed here."""
    second = {
        (target, row, *column): float(value)
        for target, text in PRINTED.items()
        for row, *values in map(str.split, text.strip().splitlines())
        for column, value in zip(COLUMNS[target], values, strict=True)
        if value != "-"
    }
    for target, row, place, k, value in map(str.split, ELSEWHERE.strip().splitlines()):
        second[target, row, place, f"recall_at_{k}"] = float(value)
    first = {
        (target, row, place, metric): one.value
        for target, rows in PUBLISHED.items()
        for row, found in rows.items()
        for place, cells in found.items()
        for metric, one in cells.items()
    }
    assert first == second


@pytest.mark.parametrize("target", PRINTED)
def test_a_cell_of_the_paper_that_is_not_legible_has_another_source(target: str) -> None:
    """Whatever the code ascribes to a paper's table must be on the list above."""
    legible = {
        (row, *column)
        for row, *values in map(str.split, PRINTED[target].strip().splitlines())
        for column, value in zip(COLUMNS[target], values, strict=True)
        if value != "-"
    }
    own = "BIER (Opitz" if target == "bier-table1" else "DREML"
    for row, found in PUBLISHED[target].items():
        for place, cells in found.items():
            for metric, one in cells.items():
                here = one.source.text.startswith(own)
                assert (row, place, metric) in legible or not here, (row, place, metric)


@pytest.mark.parametrize("target", PRINTED)
def test_every_cell_has_a_source_a_row_and_a_column(target: str) -> None:
    table = TABLES[target]
    known = {place.name for place in places((*table.datasets, *table.extra_datasets))}
    for row, found in PUBLISHED[target].items():
        assert row in table.row_names
        assert set(found) <= known
        for cells in found.values():
            for metric, one in cells.items():
                assert re.fullmatch(r"recall_at_\d+|nmi", metric)
                assert 0 < one.value < 100
                assert one.source.text


def test_the_corrected_cell_says_so() -> None:
    found = cell("dreml-table1", "dreml-r", "cub200", "recall_at_1")
    assert found is not None
    assert found.value == 63.9
    assert found.source.kind == "erratum"
    assert "80.5" in found.source.text
