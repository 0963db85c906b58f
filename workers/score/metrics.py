"""The metrics that scores hold beside recall@K: what they are called, and where they are shown.

A metric of every ensemble size is computed in `ranking.Block` from the ranks of the right images; its entry here is all
that tables, plots, searches and files need to know of it. Loads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

RECALL = "recall_at_"


@dataclass(frozen=True)
class Metric:
    """A share in 0..1 of each row of scores."""

    name: str
    "In rows and files."
    title: str
    "For people."
    shown: bool = True
    "In tables and plots, and not in files alone."
    added: bool = False
    "It came after the first scores were kept: those that lack it are computed again."


#: Musgrave et al. 2020, "A Metric Learning Reality Check".
MAP_AT_R = Metric("map_at_r", "MAP@R")
R_PRECISION = Metric("r_precision", "R-precision", shown=False)
#: Of every size, from ranks.
BY_RANK = (MAP_AT_R, R_PRECISION)
#: Of a few sizes: it takes a clustering each.
NMI = Metric("nmi", "NMI")
METRICS = (*BY_RANK, NMI)
#: Those that tables and plots show after recall.
SHOWN = tuple(metric for metric in METRICS if metric.shown)


def is_share(name: str) -> bool:
    """Whether a column of scores, or one made of it ("test_map_at_r"), is a metric's."""
    return RECALL in name or any(name.endswith(metric.name) for metric in METRICS)


def title_of(name: str) -> str:
    """A column's name for people: "recall@1", "MAP@R"."""
    titles = {metric.name: metric.title for metric in METRICS}
    return titles.get(name, name.replace(RECALL, "recall@"))
