"""A run's own files: what its record promises is found damaged by whatever reads it, and paths move with the store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from muster.workers.errors import DamagedRunError
from muster.workers.store.files import FileRecord, Files
from muster.workers.store.layout import Store
from muster.workers.store.runs import RunFolder


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
    assert json.loads(text)["recall_at_1"] == 71.9
    with pytest.raises(DamagedRunError, match=r"metrics\.json is damaged: its content .*resume first"):
        run.read("metrics.json")
    assert run.read("answer.json") == {"state": "done"}


def test_a_document_vouches_for_itself_where_no_record_does(run: RunFolder) -> None:
    run.files.delete(run / "DONE.json")
    assert run.read("metrics.json") == {"recall_at_1": 71.7}
    run.files.put(run / "metrics.json", run.files.get(run / "metrics.json").replace(b"71.7", b"71.9"))
    with pytest.raises(
        DamagedRunError, match=r"metrics\.json is damaged: its content is not what it was when"
    ):
        run.read("metrics.json")
    run.files.put(run / "metrics.json", b'{"recall_at_1": 71.9}')  # an older release's
    assert run.read("metrics.json") == {"recall_at_1": 71.9}


@pytest.mark.parametrize("name", ["answer.json", "metrics.json"])
def test_what_is_promised_and_gone_is_named(run: RunFolder, name: str) -> None:
    run.files.delete(run / name)
    with pytest.raises(DamagedRunError, match=rf"{name} is damaged: it is gone"):
        run.read(name)
    assert run.unseal() == [name]
    assert run.read(name) is None


def test_without_a_record_what_can_t_vouch_for_itself_goes(run: RunFolder) -> None:
    for name in ("queries.parquet", "queries-val.parquet", "curves.parquet"):
        run.files.put(run / name, b"rows")
    run.seal({}, {})
    assert run.unseal() == []
    assert run.files.exists(run / "queries.parquet")
    run.unseal()
    there = [name for name in run.files.names("runs/first") if name.endswith(".parquet")]
    assert there == ["curves.parquet"]


@pytest.mark.parametrize("name", ["plan.json", "DONE.json"])
def test_a_run_is_begun_once_it_has_a_plan_or_a_record(name: str, tmp_path: Path) -> None:
    run = Store(str(tmp_path)).run("first")
    assert not run.begun
    run.files.put(run / name, b"{}")
    assert run.begun


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


def test_of_shards_the_sizes_alone_are_looked_at(run: RunFolder) -> None:
    """There may be hundreds of gigabytes of them; other tables are read."""
    names = ["gathered/test/part-00000.parquet", "gathered/test/part-00001.parquet", "queries.parquet"]
    for name in names:
        run.files.put(run / name, b"rows")
    run.seal({}, {})
    record = run.record()
    for name in names:
        run.files.put(run / name, b"ROWS")
    assert run.spoilt(record) == ["queries.parquet"]
    run.files.put(run / names[0], b"row")
    run.files.delete(run / names[1])
    assert run.spoilt(record) == names
    assert [name for name in names if run.changed(name, record)] == names
    assert not run.changed("other.json", record)


def test_a_changed_file_of_another_size_is_not_read(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    record = run.record()
    run.files.put(run / "metrics.json", b"{}")
    monkeypatch.setattr(Files, "open", None)
    assert run.changed("metrics.json", record)


def test_the_plan_stays_though_it_was_changed(run: RunFolder) -> None:
    """It says that the run was begun, and is bound to what "auto" became."""
    run.write("plan.json", {"models": 2})
    run.seal({}, {})
    run.write("plan.json", {"models": 3})
    assert run.unseal() == ["plan.json"]
    assert run.files.exists(run / "plan.json")


def test_a_record_takes_over_what_is_known_and_no_older_record_or_event(run: RunFolder) -> None:
    known = {"metrics.json": FileRecord(1, "a" * 64), "events/two.jsonl": FileRecord(2, "b" * 64)}
    run.write("turns/one.json", {})
    run.seal({}, known)
    record = run.record()
    assert set(record) == {
        "metrics.json", "answer.json", "plots/curve.png", "logs/key.log", "events/two.jsonl",
    }  # fmt: skip
    assert {name: record[name] for name in known} == known


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


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("answer.json", b"", "it is empty. Delete it: muster resume first writes it anew."),
        (
            "answer.json",
            b"{",
            "it is no JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char ",
        ),
        ("answer.json", b"[" * 100_000, "it is no JSON (it is nested too deeply). Delete it"),
        ("answer.json", b"[]", "it holds no JSON object. Delete it"),
        ("own.json", b"[]", "it holds no JSON object. Delete it"),
        ("gathered/test.json", b'{"shards": []}', "it lacks digest. Delete it"),
        ("gathered/test.json", b'{"digest": 3, "shards": []}', "digest is 3, and should be text. Delete it"),
    ],
)
def test_a_file_that_can_t_be_used_is_named_with_the_cause_and_the_cure(
    name: str, content: bytes, says: str, tmp_path: Path
) -> None:
    run = Store(str(tmp_path)).run("first")
    run.files.put(run / name, content)
    with pytest.raises(DamagedRunError) as raised:
        run.read(name, *(["digest", "shards"] if name.startswith("gathered/") else []))
    assert str(raised.value).startswith(f"{tmp_path}/runs/first/{name} is damaged: {says}")


def test_what_was_asked_is_put_back_or_asked_again(tmp_path: Path) -> None:
    run = Store(str(tmp_path)).run("first")
    run.files.put(run / "run.json", b"")
    with pytest.raises(DamagedRunError) as raised:
        run.read("run.json")
    assert str(raised.value) == (
        f"{tmp_path}/runs/first/run.json is damaged: it is empty. Put a whole copy back, or delete "
        f"{tmp_path}/runs/first and launch again: finished models are found in the store."
    )


def test_a_file_without_a_form_of_its_own_may_say_anything(tmp_path: Path) -> None:
    run = Store(str(tmp_path)).run("first")
    run.write("own.json", {"anything": [1, {"is": None}]})
    assert run.read("own.json") == {"anything": [1, {"is": None}]}
    assert run.read("other.json") is None


@pytest.mark.parametrize("broken", [b"{", b'{"digest": "d"}', b'{"shards": []}'])
def test_an_older_manifest_serves_where_the_newer_one_can_t(broken: bytes, tmp_path: Path) -> None:
    run = Store(str(tmp_path)).run("first")
    assert run.manifest("test") is None
    run.files.put(run / "gathered/test.json", broken)
    assert run.manifest("test") is None
    run.write("gathered/test/manifest.json", {"digest": "old", "shards": []})
    assert run.manifest("test") == {"digest": "old", "shards": []}
    run.write("gathered/test.json", {"digest": "new", "shards": []})
    assert run.manifest("test") == {"digest": "new", "shards": []}


def test_a_store_may_lie_below_a_folder_of_a_run_s_name(tmp_path: Path) -> None:
    run = Store(str(tmp_path)).run("first")
    assert run.kept({"x": "/runs/first/new/runs/first/plots/y"}) == {"x": "plots/y"}
    assert run.kept({"x": "plots/y"}) == {"x": "plots/y"}
