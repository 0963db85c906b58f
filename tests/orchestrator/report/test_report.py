"""The report as text: what it says, that it is well formed, and that nothing hostile gets through."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from muster.orchestrator.report import plots
from muster.orchestrator.report.page import DataSet, Figure, ReportData, key_figures, render_report

VOID = {"meta", "link", "img", "br", "hr", "input", "source", "col", "wbr"}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> & {{ 7 * 7 }}"


def curve_rows(count: int, ks: tuple[int, ...] = (1, 2, 4, 8), nmi: bool = True) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for L in range(1, count + 1):
        grown = 1 - math.exp(-L / 5)
        row: dict[str, Any] = {
            f"recall_at_{k}": 0.40 + 0.09 * i + grown * (0.2 - 0.03 * i) for i, k in enumerate(ks)
        }
        measured = nmi and (L.bit_count() == 1 or count == L)
        row |= {"L": L, "map_at_r": 0.15 + 0.1 * grown, "nmi": 0.55 + 0.1 * grown if measured else None}
        rows.append(row)
    return rows


def a_member(index: int, word: str) -> dict[str, Any]:
    known = {"index": index, "key": f"{index:02x}" * 32, "state": "reused" if index % 3 == 0 else "trained"}
    known |= {"epochs": 12, "final_loss": 0.4321, "seconds": 471.0, "images_per_s": 1412.4, "attempts": 1}
    return known | {"device": "NVIDIA H200", "node": f"gpu-{index % 4}-{word}"}


def a_report(members: int = 4, word: str = "words", **changes: Any) -> ReportData:
    """A report of a run as large as asked, with `word` wherever a user's text gets in."""
    failed = {"index": members - 1, "key": "f" * 64, "state": "failed", "attempts": 3}
    failed |= {
        "message": f"member {members - 1} on gpu-7: CUDA out of memory in epoch 3.\n{word}\nTry --batch-size 64."
    }
    data = ReportData(
        name=f"cub-d12 {word}",
        created="2024-05-17 09:12 UTC",
        state=f"partial {members - 1} of {members}",
        command=f"muster launch dreml --data {word} --meta-classes 12 --members {members} --name cub-d12",
        request={"method": "dreml", "D": 12, "L": members, "seed": 0, word: word, "train classes": None},
        dataset=DataSet(
            name=f"CUB-200-2011 {word}",
            digest="sha256:" + "0a" * 32,
            splits=[
                {"split": "train", "images": 5864, "classes": 100},
                {"split": word, "images": 5924, "classes": 100},
            ],
        ),
        members=[*(a_member(i, word) for i in range(members - 1)), failed],
        curve=curve_rows(members - 1),
        title=f"CUB-200-2011 {word}, D = 12, L = {members - 1}, seed 0",
        notes=["The last partial batch is kept.", f"A note about {word}."],
        near_ties=12,
        gathered=[
            {"path": f"runs/{word}/gathered/test/part-{i:05}.parquet", "rows": 2962, "bytes": 6_823_451}
            for i in (0, 1)
        ],
        examples={
            "DuckDB": f"SELECT label, count(*) FROM '{word}/part-*.parquet' GROUP BY label",
            "Polars": f"pl.scan_parquet('{word}/part-*.parquet').collect()",
        },
        versions={"muster": "0.1.0", "torch": "2.11.0", "ray": "2.60.0", word: None},
        warnings=[f"{members - 1} of {members} members: one failed.", f"3 bad images were skipped: {word}"],
        losses={i: [3.5 * math.exp(-e / 4) + 0.02 * (i % 5) for e in range(12)] for i in range(members - 1)},
    )
    return replace(data, **changes)


class Parsed(HTMLParser):
    """What the page holds; fails on a tag that is closed out of turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag in names]


def words(data: ReportData) -> str:
    return " ".join(Parsed(render_report(data)).text.split())


@pytest.mark.parametrize("members", [1, 2, 3, 4, 49])
def test_the_page_is_well_formed_and_accessible(members: int) -> None:
    page = Parsed(render_report(a_report(members)))
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    assert all(image["alt"] for image in page.all("img"))
    assert all(th.get("scope") in ("col", "row") for th in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(svg.get("aria-label") for svg in page.all("svg"))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {link["href"] for link in page.all("a")} <= {f"#{name}" for name in ids}


def test_a_hostile_name_stays_text() -> None:
    html = render_report(a_report(word=HOSTILE))
    page = Parsed(html)
    assert page.all("script") == []
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert all((image["src"] or "").startswith("data:image/svg+xml;base64,") for image in page.all("img"))
    assert page.text.count(HOSTILE) > 10
    assert "49" not in page.text.split("Near ties")[0].split("alert")[1]


def test_nothing_outside_the_file_is_named() -> None:
    html = render_report(a_report())
    page = Parsed(html)
    addresses = [
        v
        for _, attrs in page.tags
        for n, v in attrs.items()
        if n in ("src", "srcset", "href", "action", "data")
    ]
    assert all(address and address.startswith(("data:", "#")) for address in addresses)
    assert page.all("link", "script", "iframe", "object", "embed", "base") == []
    assert not re.search(r"https?://|url\(|@import", html)
    assert "default-src 'none'" in html


def test_the_first_lines_hold_what_counts() -> None:
    text = words(a_report(members=49, state="done"))
    top = text[: text.index("Scores against L")]
    for part in (
        "cub-d12",
        "done",
        "Before you use these numbers",
        "recall@1",
        "60.0 %",
        "gain",
        "+16.4 points",
    ):
        assert part in top
    assert text.index("3 bad images were skipped") < text.index("gain")


def test_key_figures() -> None:
    rows = curve_rows(48)
    rows[-1] |= {"recall_at_1": 0.639, "map_at_r": 0.27, "nmi": None}
    rows[0]["recall_at_1"] = 0.4604
    assert key_figures(rows, [1, 2]) == [
        Figure("recall@1", "63.9", "%", "at L = 48"),
        Figure("recall@1", "46.0", "%", "at L = 1"),
        Figure("gain", "+17.9", "points", "by the ensemble"),
        Figure("MAP@R", "27.0", "%", "at L = 48"),
        Figure("NMI", "-", "", "not measured"),
    ]
    assert [figure.label for figure in key_figures(rows[:1], [1])] == ["recall@1", "MAP@R", "NMI"]
    assert key_figures([], [1]) == []


def test_a_partial_run_says_so_and_keeps_the_failed_members_message() -> None:
    text = words(a_report(members=4))
    assert "partial 3 of 4" in text
    assert "2 trained, 1 reused, 1 failed" in text
    assert "CUDA out of memory in epoch 3. words Try --batch-size 64." in text


@pytest.mark.parametrize(("several", "unit"), [(True, "epoch"), (False, "checkpoint")])
def test_a_loss_is_told_by_what_it_is_the_mean_over(several: bool, unit: str) -> None:
    """One model of several learners has its losses from checkpoint to checkpoint."""
    learners = [{**curve_rows(1)[0], "learner": number, "dimension": 4} for number in (1, 2)]
    page = Parsed(render_report(a_report(2, learners=() if several else learners)))
    assert f"loss by {unit}" in page.text
    labels = [str(svg["aria-label"]) for svg in page.all("svg") if "loss from" in str(svg["aria-label"])]
    assert [label.split()[-2:] for label in labels] == [["12", f"{unit}s"]]


def test_a_run_without_any_result_still_has_a_report() -> None:
    bare = ReportData(
        name="empty",
        created="today",
        state="failed",
        command="muster launch dreml",
        request={},
        dataset=DataSet("cub", "0" * 64),
        members=[{"index": 0, "key": "ab", "state": "failed"}],
    )
    text = words(bare)
    assert "there is no curve" in text
    assert "1 failed" in text


def test_a_long_curve_is_thinned_with_the_whole_of_it_folded_in() -> None:
    text = words(a_report(members=49))
    assert "at L = 1, 2, 4, ... and the last" in text
    assert "All 48 rows" in text
    assert "All" not in words(a_report(members=9, notes=()))


def test_other_ks_and_no_nmi() -> None:
    rows = curve_rows(3, ks=(1, 10, 20, 30, 40, 50), nmi=False)
    text = words(a_report(curve=rows, ks=(1, 10, 20, 30, 40, 50)))
    assert "recall@1@10@20@30@40@50MAP@RNMI" in text
    assert "not measured" in text


@pytest.mark.parametrize("count", [1, 2, 16, 17, 48])
def test_plots_are_the_same_bytes_each_time(count: int) -> None:
    rows = curve_rows(count)
    title = "a $x^{ -- > & <b>"
    svg = plots.curve_svg(rows, title)
    assert svg == plots.curve_svg(rows, title)
    assert plots.curve_png(rows, title) == plots.curve_png(rows, title)
    assert plots.curve_png(rows, title).startswith(b"\x89PNG")
    assert b"<dc:date>" not in svg
    assert b"<text" not in svg  # outlines: no font is needed to read it


def test_plots_bear_what_is_missing() -> None:
    rows: list[dict[str, Any]] = [{"L": 1, "recall_at_1": 0.0, "map_at_r": None, "nmi": math.nan}]
    assert plots.curve_svg(rows, "")
    assert plots.loss_svg({0: [1.0, None, math.nan], 1: []})
    assert plots.loss_svg({0: [None]})


def test_labels_are_moved_apart_but_not_out() -> None:
    at = plots._apart([5.0, 5.0, 6.0, 100.0, 199.0, 200.0], height=200.0)
    gaps = [b - a for a, b in pairwise(at)]
    assert min(gaps) >= plots.LABEL_POINTS - 1e-9
    assert at[3] == 100.0
    assert at[-1] == 200.0


@pytest.mark.parametrize(
    ("share", "text"), [(0.5126, "51.3"), (0.0, "0.0"), (1.0, "100.0"), (None, "-"), (math.nan, "-")]
)
def test_shares_are_shown_in_percent(share: float | None, text: str) -> None:
    assert plots.percent(share) == text
