"""A run's own files: what its record promises is found damaged by whatever reads it, and paths move with the store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from muster.workers.errors import DamagedRunError
from muster.workers.store.layout import RunFolder, Store


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = Store(str(tmp_path)).run("first")
    run.write("metrics.json", {"recall_at_1": 71.7})
    run.write("answer.json", {"state": "done"})
    run.files.put(run / "plots/curve.png", b"png")
    run.files.put(run / "events/one.jsonl", b"{}\n")
    run.files.put(run / "logs/key.log", b"log")
    run.seal({"state": "done"}, {})
    return run


def test_the_record_names_every_file(run: RunFolder) -> None:
    assert set(run.record()) == {
        "metrics.json", "answer.json", "plots/curve.png", "logs/key.log",
    }  # fmt: skip
    assert json.loads(run.files.get(run / "DONE.json"))["state"] == "done"


def test_one_flipped_digit_is_found_by_who_reads_it(run: RunFolder) -> None:
    assert run.read("metrics.json") == {"recall_at_1": 71.7}
    text = run.files.get(run / "metrics.json").replace(b"71.7", b"71.9")
    run.files.put(run / "metrics.json", text)
    assert json.loads(text) == {"recall_at_1": 71.9}
    with pytest.raises(DamagedRunError, match=r"metrics\.json is damaged: its content .*resume first"):
        run.read("metrics.json")
    assert run.read("answer.json") == {"state": "done"}


def test_nobody_goes_on_from_what_was_changed(run: RunFolder) -> None:
    run.files.put(run / "metrics.json", run.files.get(run / "metrics.json").replace(b"71.7", b"71.9"))
    run.unseal()
    assert run.read("metrics.json") is None
    assert run.read("answer.json") == {"state": "done"}
    run.files.put(run / "DONE.json", b"{")
    run.unseal()  # what it promised is not known
    assert run.read("answer.json") == {"state": "done"}


def test_a_log_or_a_listed_file_that_changes_is_found(run: RunFolder) -> None:
    record = run.record()
    assert run.spoilt(record) == []
    run.files.put(run / "logs/key.log", b"lot")
    run.files.delete(run / "plots/curve.png")
    assert run.spoilt(record) == ["logs/key.log", "plots/curve.png"]
    with pytest.raises(DamagedRunError, match=r"logs/key\.log is damaged: .*can't be written anew"):
        run.get("logs/key.log", record)
    assert run.unseal() == ["logs/key.log", "plots/curve.png"]
    assert not run.files.exists(run / "logs/key.log")


def test_what_another_command_writes_whenever_it_is_asked_is_not_promised(run: RunFolder) -> None:
    run.write("correlation-test.json", {"rows": []})
    run.seal({}, {})
    assert "correlation-test.json" not in run.record()


def test_a_run_that_is_written_anew_promises_nothing_meanwhile(run: RunFolder) -> None:
    run.unseal()
    run.write("metrics.json", {"recall_at_1": 80.0})
    assert run.read("metrics.json") == {"recall_at_1": 80.0}
    assert run.record() == {}
    run.seal({}, {})
    assert run.read("metrics.json") == {"recall_at_1": 80.0}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"files": 3}', b'{"files": {"a": {"size": 1}}}'])
def test_a_record_that_is_damaged_itself_is_named(run: RunFolder, content: bytes) -> None:
    run.files.put(run / "DONE.json", content)
    with pytest.raises(DamagedRunError, match=r"DONE\.json is damaged"):
        run.read("answer.json")


def test_paths_are_kept_relative_and_found_where_the_store_lies_now(run: RunFolder, tmp_path: Path) -> None:
    kept = run.kept({"report": str(tmp_path / "runs/first/report.html")})
    assert kept == {"report": "report.html"}
    moved = Store(str(tmp_path / "elsewhere")).run("first")
    here = str(tmp_path / "elsewhere/runs/first/report.html")
    assert moved.found(kept) == {"report": here}
    assert moved.found({"report": "/old/place/runs/first/report.html"}) == {
        "report": here
    }  # an older store's


def test_files_below_a_folder_are_listed_whole(run: RunFolder) -> None:
    found = set(run.files.below("runs/first"))
    assert {"plots/curve.png", "events/one.jsonl", "DONE.json"} <= found
    assert list(run.files.below("runs/nobody")) == []
    assert (run.files.size(run / "plots/curve.png"), run.files.size(run / "plots")) == (3, None)
