"""Drills that are counted: how often each ran, what was done to it, what was done twice for it, and what was lost.

`pytest tests/drills --drill-times auto` runs each ten times, or three times where one takes long; `--drill-table FILE`
writes what came of them, and `python -m tests.drills.table FILE` draws it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from tests.drills.table import drawn

#: How often a drill runs in a row that takes less than a minute, and one that takes longer.
SHORT, LONG = 10, 3


@dataclass
class Struck:
    """What a drill did, filled in by the drill itself."""

    drill: str
    faults: int = 0
    "Injected."
    repeated: int = 0
    "Epochs (of BIER: checkpoints) that were trained more than once."
    lost: int = 0
    "Members that were asked for and are not in the store at the end."

    def count(self, *stores: Path, asked: int) -> None:
        """Takes what was repeated and lost from the logs and records of stores in folders."""
        done = 0
        for store in stores:
            self.repeated += repeated_epochs(store)
            done += len(list(store.glob("models/*/DONE.json")))
        self.lost += max(0, asked - done)


def repeated_epochs(store: Path) -> int:
    """Epochs that the logs of a store's runs tell more than once of the same member."""
    told: Counter[tuple[str, str]] = Counter()
    for log in store.glob("runs/*/logs/*.log"):
        key = log.name.partition("-")[0]
        told.update(
            (key, unit) for unit in re.findall(r"((?:epoch|step) \d+): loss", log.read_text(errors="replace"))
        )
    return sum(count - 1 for count in told.values())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--drill-times", default="1", help="How often each drill runs: a number, or auto.")
    parser.addoption(
        "--drill-table", default="", help="A file that gets a line of JSON for each drill that ran."
    )
    parser.addoption("--soak-members", type=int, default=8, help="Members of the soak.")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("drill")
    asked = metafunc.config.getoption("drill_times", default="1")
    if marker is None or asked == "1":
        return
    long = marker.kwargs.get("long", metafunc.definition.get_closest_marker("long") is not None)
    times = marker.kwargs.get("times") or ((LONG if long else SHORT) if asked == "auto" else int(asked))
    metafunc.fixturenames.append("again")
    metafunc.parametrize("again", range(times))


@pytest.fixture
def struck(request: pytest.FixtureRequest) -> Iterator[Struck]:
    """What this drill did; it is kept whether or not the drill passes."""
    marker = request.node.get_closest_marker("drill")
    found = Struck(marker.args[0])
    yield found
    table = request.config.getoption("drill_table", default="")
    report = getattr(request.node, "report_of_call", None)
    row = {**asdict(found), "passed": report is not None and report.passed}
    request.config.stash.setdefault(ROWS, []).append(row)
    if table:
        with open(table, "a") as file:
            print(json.dumps(row), file=file)


ROWS: pytest.StashKey[list[dict[str, object]]] = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.report_of_call = report  # type: ignore[attr-defined]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if rows := config.stash.get(ROWS, []):
        terminalreporter.section("drills")
        terminalreporter.write_line(drawn(rows))
