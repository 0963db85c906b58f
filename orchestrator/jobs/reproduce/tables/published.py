"""Every number that the papers print in the tables that `muster reproduce` makes, each with its source beside it.

In per cent, as printed. What could be confirmed neither in the papers nor in another one that repeats it is not
here: those cells stay empty. Nothing is computed, and nothing is measured here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["paper", "erratum", "other paper"]


@dataclass(frozen=True)
class Source:
    """Where a number is printed."""

    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(frozen=True)
class Cell:
    """A published number, in per cent."""

    value: float
    source: Source


#: By metric: "recall_at_1", ..., "nmi".
Cells = dict[str, Cell]

DREML_1 = Source("paper", "DREML (Xuan et al., ECCV 2018), Table 1")
DREML_1_ERRATUM = Source(
    "erratum",
    "DREML, Table 1; its first version printed 80.5, which the author corrected (littleredxh/DREML, issue 2)",
)
DREML_1_PROXY = Source("paper", "DREML, Table 1; Proxy-Anchor (Kim et al., CVPR 2020) prints 87.8")
DREML_2 = Source("paper", "DREML, Table 2")
DREML_3 = Source("paper", "DREML, Table 3")
DREML_3_INFERRED = Source(
    "paper", "DREML, Table 3, where this cell alone of its row is legible; whose row it is, is inferred"
)
BIER_1 = Source("paper", "BIER (Opitz et al., summary), Table I")
BIER_1_ABIER = Source(
    "paper", "BIER (Opitz et al., summary), Table I, where the row is called BIER; it is A-BIER's"
)
PROXY_ANCHOR = Source("other paper", "Proxy-Anchor (Kim et al., CVPR 2020)")
RAMBO = Source("other paper", "RaMBO (Rolinek et al., CVPR 2020)")
RAMBO_LIFTED = Source(
    "other paper", "RaMBO (Rolinek et al., CVPR 2020); which row of Table I it is, is inferred"
)
THREE = Source("other paper", "three later papers, RaMBO and Proxy-Anchor among them, agree")
TWO = Source("other paper", "RaMBO and Proxy-Anchor agree")
CAPSULES = Source("other paper", "README of birdortyedi/image-retrieval-with-capsules")
CAPSULES_BIER = Source(
    "other paper", "README of birdortyedi/image-retrieval-with-capsules; not legible in DREML, Table 2"
)


def _recalls(ks: tuple[int, ...], values: tuple[float, ...], source: Source) -> Cells:
    return {f"recall_at_{k}": Cell(value, source) for k, value in zip(ks, values, strict=True)}


def _row1(source: Source, *values: float) -> Cells:
    """A row of DREML's Table 1 on one data set: recall at 1, 2, 4, 8 and, where there is one, NMI."""
    nmi = {"nmi": Cell(values[4], source)} if len(values) > 4 else {}
    return _recalls((1, 2, 4, 8), values[:4], source) | nmi


#: DREML, Table 1: row -> data set -> cells.
TABLE_1: dict[str, dict[str, Cells]] = {
    "triplet": {
        "cub200": _row1(DREML_1, 42.6, 55.0, 66.4, 77.2, 55.4),
        "cars196": _row1(DREML_1, 51.5, 63.8, 73.5, 81.4, 53.4),
    },
    "npairs": {
        "cub200": _row1(DREML_1, 51.0, 63.3, 74.3, 83.2, 60.4),
        "cars196": _row1(DREML_1, 71.1, 79.7, 86.5, 91.6, 64.0),
    },
    "proxynca": {
        "cub200": _row1(DREML_1, 49.2, 61.9, 67.9, 72.4, 59.5),
        "cars196": {
            **_row1(DREML_1, 73.2, 82.4, 86.4, 88.7, 64.9),
            "recall_at_8": Cell(88.7, DREML_1_PROXY),
        },
    },
    "hdc": {
        "cub200": _row1(DREML_1, 53.6, 65.7, 77.0, 85.6),
        "cars196": _row1(DREML_1, 73.7, 83.2, 89.5, 93.8),
    },
    "bier": {
        "cub200": _row1(DREML_1, 55.3, 67.2, 76.9, 85.1),
        "cars196": _row1(DREML_1, 78.0, 85.8, 91.1, 95.1),
    },
    "dreml-i": {
        "cub200": _row1(DREML_1, 58.9, 69.6, 78.4, 85.6, 62.1),
        "cars196": _row1(DREML_1, 84.2, 89.4, 93.2, 95.5, 71.0),
    },
    "dreml-r": {
        "cub200": {
            **_row1(DREML_1, 63.9, 75.0, 83.1, 89.7, 67.8),
            "recall_at_1": Cell(63.9, DREML_1_ERRATUM),
        },
        "cars196": _row1(DREML_1, 86.0, 91.7, 95.0, 97.2, 76.4),
    },
}

#: DREML, Table 2, whose columns are recall at 1, 10, 20, 30; at 40 and 50 from other papers.
TABLE_2: dict[str, dict[str, Cells]] = {
    "fashionnet": {
        "inshop": {
            **_recalls((1, 10, 20, 30), (53.0, 73.0, 76.0, 77.0), DREML_2),
            **_recalls((40,), (79.0,), PROXY_ANCHOR),
            **_recalls((50,), (80.0,), RAMBO),
        }
    },
    "hdc": {
        "inshop": {
            **_recalls((1, 10, 20, 30), (62.1, 84.9, 89.0, 91.2), DREML_2),
            **_recalls((40, 50), (92.3, 93.1), CAPSULES),
        }
    },
    "bier": {
        "inshop": {
            **_recalls((1, 20, 30, 40, 50), (76.9, 95.2, 96.2, 96.7, 97.1), CAPSULES_BIER),
            **_recalls((10,), (92.8,), DREML_2),
        }
    },
    "dreml-r": {"inshop": _recalls((1, 10, 20, 30), (78.4, 93.7, 95.8, 96.7), DREML_2)},
}

#: DREML, Table 3, recall at 1 and 5, by VehicleID's test list.
TABLE_3: dict[str, dict[str, Cells]] = {
    "gs-trs": {"vehicleid-small": _recalls((5,), (83.0,), DREML_3_INFERRED)},
    "bier": {"vehicleid-large": _recalls((5,), (86.4,), DREML_3_INFERRED)},
    "dreml-r": {
        "vehicleid-small": _recalls((1, 5), (88.5, 94.8), DREML_3),
        "vehicleid-medium": _recalls((1, 5), (87.2, 94.2), DREML_3),
        "vehicleid-large": _recalls((1, 5), (83.1, 92.4), DREML_3),
    },
}

#: BIER (summary), Table I, which prints recall@1; the rest of its rows from other papers.
BIER_TABLE_1: dict[str, dict[str, Cells]] = {
    "lifted": {
        "cub200": _recalls((1,), (47.2,), RAMBO_LIFTED),
        "sop": _recalls((1,), (62.1,), RAMBO_LIFTED),
    },
    "proxynca": {
        "cub200": _recalls((1,), (49.2,), BIER_1),
        "sop": _recalls((1,), (73.7,), TWO),
    },
    "baseline-512": {
        "cub200": _recalls((1,), (51.8,), BIER_1),
        "sop": _recalls((1,), (66.2,), BIER_1),
    },
    "bier": {"cub200": _recalls((1, 2, 4, 8), (55.3, 67.2, 76.9, 85.1), DREML_1)},
    "a-bier": {
        "cub200": {
            **_recalls((1,), (57.5,), BIER_1_ABIER),
            **_recalls((2, 4, 8), (68.7, 78.3, 86.2), TWO),
        },
        "sop": {
            **_recalls((1,), (74.2,), BIER_1_ABIER),
            **_recalls((10, 100, 1000), (86.9, 94.0, 97.8), THREE),
        },
    },
}

#: Of the target -> row -> place -> cells.
PUBLISHED: dict[str, dict[str, dict[str, Cells]]] = {
    "dreml-table1": TABLE_1,
    "dreml-table2": TABLE_2,
    "dreml-table3": TABLE_3,
    "bier-table1": BIER_TABLE_1,
}


def cell(target: str, row: str, place: str, metric: str) -> Cell | None:
    """What is printed there, or None: nothing, or nothing that could be confirmed."""
    return PUBLISHED[target].get(row, {}).get(place, {}).get(metric)
