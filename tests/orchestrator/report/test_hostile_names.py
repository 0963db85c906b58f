"""Names with scripts in them on every page that muster writes, opened in a real browser: none runs, and all are shown.

The pages forbid scripts themselves; that is taken out of them here, so that the names' own escaping is what is tried.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from muster.orchestrator.jobs.reproduce.request import ReproduceOptions
from muster.orchestrator.jobs.reproduce.tables import files as table_files
from muster.orchestrator.jobs.reproduce.tables.papers import TABLES
from muster.orchestrator.jobs.reproduce.tables.rows import table_answer
from muster.orchestrator.report import plots
from muster.workers.store.layout import Store
from tests.conftest import write_classes
from tests.orchestrator.finished_run import finish, request_of
from tests.orchestrator.report.test_report_browser import DESKTOP, Page, in_browser

ROOT = Path(__file__).parents[3]
#: As names of files and folders can be: without a slash. Each would set `ran`, were it taken for HTML.
NAMES = [
    "<script>window.ran=1<script>",
    "<img src=x onerror=window.ran=1>",
    '"><svg onload=window.ran=1>',
    "'-window.ran=1-'",
    "{{ 7*7 }}<b onmouseover=window.ran=1>",
    "<!--<iframe srcdoc='<script>parent.ran=1<script>'>",
    "]]><a href=javascript:window.ran=1>",
]
NOTHING_RAN = "window.ran === undefined && frames.length === 0"
#: What a browser would run, or would run when it is touched.
LIVE = """[...document.querySelectorAll('*')].filter(
  e => ['SCRIPT', 'IFRAME', 'OBJECT', 'EMBED', 'BASE', 'FORM'].includes(e.tagName)
  || [...e.attributes].some(a => a.name.startsWith('on') || /^\\s*javascript:/i.test(a.value))).length"""
SHOWN = "document.documentElement.innerText"


def opened(folder: Path, pages: Mapping[str, bytes], shown: Mapping[str, list[str]]) -> None:
    """Opens each page in one browser; asserts that nothing ran and that it shows its words."""
    for name, page in pages.items():
        if name.endswith(".html"):
            assert b"Content-Security-Policy" in page
            page = re.sub(rb"<meta http-equiv=.Content-Security-Policy.[^\n]*\n", b"", page)  # noqa: PLW2901
            assert b"Content-Security-Policy" not in page
        (folder / name).write_bytes(page)

    (folder / "control.html").write_text(NAMES[2] + NAMES[1])

    async def visit(page: Page) -> None:
        await page.open(folder / "control.html", DESKTOP)
        assert not await page.ask(NOTHING_RAN)  # so the browser runs what is not escaped
        assert await page.ask(LIVE) > 0
        page.requests.clear()
        for name in pages:
            page._loaded = False
            await page.open(folder / name, DESKTOP)
            assert await page.ask(NOTHING_RAN), name
            assert await page.ask(LIVE) == 0, name
            text = await page.ask(SHOWN) if name.endswith(".html") else ""
            assert [word for word in shown.get(name, []) if word not in " ".join(text.split())] == [], name
        asked = {address for address in page.requests if not address.startswith("data:")}
        assert asked == {(folder / name).as_uri() for name in pages}

    in_browser(folder, visit)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[str]]:
    """The report of a launch whose data root, classes and images have such names, and those it has to show."""
    folder = tmp_path_factory.mktemp("hostile")
    images = write_classes(folder / NAMES[0], classes=8, each=3)
    for number, path in enumerate(sorted(images.iterdir())):
        path.rename(images / f"{number} {NAMES[number % len(NAMES)]}")
    (trained, *_, lone) = sorted(images.iterdir())
    bad = trained / f"{NAMES[1]}.jpg"
    bad.write_bytes(b"no image")
    for path in sorted(lone.iterdir())[1:]:
        path.unlink()
    request = request_of(str(folder / "store"), images, **{"data.skip_bad_images": True})
    finish(request)
    html = (folder / "store/runs/one/report.html").read_bytes()
    return html, [str(images), bad.name, lone.name]


def table(hostile: str, store: Path) -> bytes:
    """A reproduction's page with such a name in every text of its answer but those that choose how it is drawn."""
    options = ReproduceOptions(target="dreml-table1", data_root="/copies", datasets=("cub200",))
    found = table_answer(options, TABLES["dreml-table1"], {}, {}, Store(str(store)))
    (row, *_) = found["rows"]
    words = ("recipe", "precision", "device", "protocol", "command", "trouble", "label", "not_compared")
    row |= {
        **dict.fromkeys(words, hostile),
        "device_hours": 1.0,
        "place": hostile,
        "members": f"{hostile} of 2",
    }
    for cell in row["cells"]:
        cell |= {"source": hostile, "metric": hostile}
    target = {**found, "title": hostile, "target": f'x" {hostile}', "notes": [hostile]}
    models = dict.fromkeys(("asked", "reused", "trained", "failed"), 1)
    texts = dict.fromkeys(("run", "state", "rehearsal", "unit", "resume"), hostile)
    answer = {
        **texts,
        "scale": 0.5,
        "warnings": [hostile],
        "models": models,
        "device_hours": 1.0,
        "targets": [target],
    }
    return table_files.files(answer)["table.html"]


def test_every_page_of_muster_is_tried_here() -> None:
    """A new page has to be added to these tests."""
    named = set()
    for folder in ("orchestrator", "workers", "cluster"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".j2"}:
                named |= set(re.findall(r"[/\"]([a-z_]+\.html)\"", path.read_text()))
    assert named == {"report.html", "table.html"}


def test_no_name_runs_on_any_page(tmp_path: Path, report: tuple[bytes, list[str]]) -> None:
    html, words = report
    hostile = " ".join(NAMES)
    rows = [{"L": L, "recall_at_1": 0.5, "map_at_r": 0.5, "nmi": None} for L in (1, 2)]
    pages = {
        "report.html": html,
        "table.html": table(hostile, tmp_path),
        "curve.svg": plots.curve_svg(rows, f"--> {hostile}", others=[(f"--> {hostile}", rows)]),
        "loss.svg": plots.loss_svg({1: [1.0, 0.5]}, f"]]> {hostile}", hostile),
    }
    opened(tmp_path, pages, {"report.html": words, "table.html": [hostile]})
