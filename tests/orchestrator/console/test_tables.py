"""Tables in the terminal: each value stands below its own heading, whatever the rows have."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.orchestrator.console.tables import show_rows, status_table
from muster.orchestrator.jobs.search.record import Record
from muster.orchestrator.jobs.search.request import load_search
from muster.orchestrator.records.log import EventLog
from muster.orchestrator.runs.status import run_status
from muster.workers.store.layout import Store


def cells(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


def test_rows_that_lack_a_value_show_that_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([{"a": 1, "b": 2}, {"b": 3, "c": 4.5}, {}], title="")
    assert cells(capsys.readouterr().out) == [
        ["a", "b", "c"], ["1", "2", "-"], ["-", "3", "4.5"], ["-", "-", "-"],
    ]  # fmt: skip


def test_trials_of_which_different_things_are_known_stand_below_the_right_headings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One waits, one has a score, one has failed before its first."""
    given = {"data.dataset": "glyphs", "data.val_classes": 40, "storage": str(tmp_path), "name": "one"}
    request = load_search(None, given, [], "12,25,50", [], {})
    store = Store(str(tmp_path))
    store.run("one").write("run.json", request.document())
    log = EventLog("one-a")
    log.keep_in(store.run("one"))
    record = Record(request, log)
    record.begin()
    record.row({"number": 2, "D": 25}, {"L": 1, "ended": "", "message": "", "recall_at_1": 0.5})
    record.row({"number": 3, "D": 50}, {"L": 0, "ended": "failed", "message": "broke"})
    log.close()
    capsys.readouterr()
    status_table(run_status(store, "one"))
    heading, *rows = cells(capsys.readouterr().out)[-4:]
    assert heading == ["D", "number", "state", "L", "R@1", "message"]
    assert rows == [
        ["12", "1", "waiting", "0", "-", "-"],
        ["25", "2", "reached", "1", "50.0", "-"],
        ["50", "3", "failed", "0", "-", "broke"],
    ]
