"""Entries of a store that muster did not write, or not so: each is named or passed over, and hides no other."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from muster.orchestrator.machine.places import check_places, refuse_no_store
from muster.orchestrator.methods.loading import load
from muster.orchestrator.records.events import event
from muster.orchestrator.records.log import EventLog
from muster.orchestrator.runs.status import _recorded, list_runs, member_logs, run_status
from muster.workers.errors import CorruptFileError, DamagedRunError, StoreError, UsageError
from muster.workers.store.files import Files, nearest_folder
from muster.workers.store.layout import Folder, Store
from muster.workers.store.runs import RunFolder
from tests.cli import Muster

DEEP = "[" * 200_000
EVENTS = "events/20260101T000000-abcdef-000000.jsonl"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two runs: `good`, which was asked for and no more, and `odd`, likewise."""
    store = Store(str(tmp_path))
    for name in ("good", "odd"):
        RunFolder(Files(str(tmp_path)), name).write(
            "run.json", load(None, {"method": "dreml"}, []).document()
        )
    return store


def put(store: Store, name: str, content: str) -> None:
    path = Path(store.root) / "runs/odd" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.mark.parametrize(
    "line",
    [
        '{"event":"member","t":1}',
        '{"event":"member","t":1,"key":["x"],"index":1,"state":"done"}',
        '{"event":"member","t":1,"key":"a","index":"1","state":"done"}\n'
        '{"event":"member","t":1,"key":"b","index":1,"state":"done"}',
        '{"event":"end","t":1}',
        '{"event":"trial","t":1}',
        '{"event":"ensemble","t":1}',
    ],
)
def test_an_event_that_lacks_something_makes_its_run_damaged_and_no_other(store: Store, line: str) -> None:
    put(store, EVENTS, line)
    assert {row["run"]: row["state"] for row in list_runs(store)}.pop("good") == "new"
    if '"ensemble"' not in line:  # a launch does not ask it
        assert {row["run"]: row["state"] for row in list_runs(store)}["odd"] == "damaged"
        with pytest.raises(DamagedRunError, match=r"runs/odd/events.*makes no sense.*muster resume odd"):
            run_status(store, "odd")


@pytest.mark.parametrize(
    "line",
    ['{"event":7,"t":1}', '{"event":"stage"}', '{"event":"end","t":"x"}', '{"event":"end","t":NaN}',
     '{"event":"end","t":1e300}', '{"event":"end","t":-1}', '{"event":' + "9" * 20_000 + "}", '{"event":' + DEEP],
)  # fmt: skip
def test_a_line_that_is_no_event_is_passed_over(store: Store, line: str) -> None:
    put(store, EVENTS, line)
    assert [row["state"] for row in list_runs(store)] == ["new", "new"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plan.json", '{"asks": [1]}'),
        ("plan.json", '{"asks": {"x": {}}}'),
        ("run.json", '{"kind": "launch", "ensemble": {"L": 1e400}}'),
        ("run.json", DEEP),
        ("plan.json", DEEP),
    ],
)
def test_a_file_that_is_wrong_deep_inside_makes_its_run_damaged(
    store: Store, name: str, content: str
) -> None:
    put(store, name, content)
    assert [(row["run"], row["state"]) for row in list_runs(store)] == [("good", "new"), ("odd", "damaged")]


def test_events_of_a_finished_run_that_changed_or_are_gone_make_it_damaged(store: Store) -> None:
    """A digit of a finished run's events would be shown as another member, another count."""
    run = store.run("odd")
    log = EventLog("20260101T000000-abcdef")
    log.keep_in(run)
    log.keep(event("member", index=1, key="a", state="done", epochs=2))
    log.keep(event("end", state="done", exit_code=0, message="", answer=None))
    run.seal({}, log.records)
    assert run_status(store, "odd")["members"][0]["index"] == 1
    good = run.files.get(run / EVENTS)
    run.files.put(run / EVENTS, good.replace(b'"index":1', b'"index":3'))
    with pytest.raises(DamagedRunError, match=r"events.* is damaged: .*muster resume odd"):
        run_status(store, "odd")
    put(store, EVENTS.replace("000000.jsonl", "000001.jsonl"), good.decode())
    run.files.delete(run / EVENTS)
    with pytest.raises(DamagedRunError, match=r"events/.*000000.jsonl is damaged: it is gone"):
        run_status(store, "odd")


def test_pipes_and_names_that_are_no_text_are_passed_over(store: Store) -> None:
    put(store, "events/20260101T000000-abcdef-000000.jsonl", '{"event":"alive","t":1}\n')
    put(store, "logs/0000-20260101T000000-abcdef.log", "a line\n")
    run = Path(store.root) / "runs/odd"
    os.mkfifo(run / "events/99991231T000000-abcdef-000000.jsonl")  # its reader would wait for ever
    os.mkfifo(run / "logs/zzz-1.log")
    for folder in (Path(store.root) / "runs", run / "logs", run / "events"):
        os.mkdir(os.fsencode(folder) + b"/b\xffd")
    assert [row["run"] for row in list_runs(store)] == ["good", "odd"]
    assert [lines for _, lines in member_logs(store, "odd", None, 5)] == [["a line"]]
    assert [lines for _, lines in member_logs(store, "odd", None, 0)] == [[]]


@pytest.mark.parametrize("content", [DEEP, "", "[]", '{"files": 3}'])
def test_a_commit_record_that_can_t_be_parsed_is_damaged(store: Store, content: str) -> None:
    put(store, "x/DONE.json", content)
    with pytest.raises(CorruptFileError, match="damaged"):
        Folder(store.files, "runs/odd/x").done()


def test_a_record_that_may_not_be_read_is_not_called_damaged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise StoreError("Can't read models/x/DONE.json: Permission denied.")

    assert _recorded(store, "x")["state"] == "lost"
    monkeypatch.setattr(Folder, "done", refused)
    assert _recorded(store, "x") == {
        "state": "unreadable", "message": "Can't read models/x/DONE.json: Permission denied.",
    }  # fmt: skip


@pytest.fixture
def finished(muster: Muster, small: list[object], tmp_path: Path) -> tuple[list[object], Path]:
    words = [*small, "--L", 1, "--name", "one", "--storage", tmp_path / "store"]
    muster(*words)
    return words, tmp_path / "store"


def test_odd_records_beside_and_of_a_finished_run_stop_nothing(
    muster_without_cluster: Muster, finished: tuple[list[object], Path]
) -> None:
    words, store = finished
    (model,) = (store / "models").iterdir()
    strange = store / "models" / ("0" * 32)
    strange.mkdir()
    (strange / "spec.json").write_bytes((model / "spec.json").read_bytes())
    longer = [4 if word == 1 else word for word in words if word not in ("--name", "one")]
    for record in ('{"files":{},"seconds":"x"}', '{"files":{},"seconds":1e999}', DEEP):
        (strange / "DONE.json").write_text(record)
        plan = muster_without_cluster(*longer, "--dry-run", "--json").document
        assert (plan["to_train"], plan["device_seconds"] > 0) == (3, True)
    (model / "DONE.json").rename(model / "kept")
    (model / "DONE.json").mkdir()  # what is no record is a lost member, and the run is shown
    status = muster_without_cluster("status", "one", "--storage", store, "--json").document
    assert [member["state"] for member in status["members"]] == ["lost"]
    (model / "DONE.json").rmdir()
    (model / "kept").rename(model / "DONE.json")


def test_an_answer_that_makes_no_sense_is_not_given_again(
    finished_once: tuple[list[object], Path], muster: Muster
) -> None:
    """Other such files: tests/orchestrator/jobs/launch/test_answer.py."""
    words, store = finished_once
    (store / "runs/one/answer.json").write_text('{"precision": 7, "paths": {"a": 3}}')
    (store / "runs/one/metrics.json").write_text('{"identity": [], "splits": 7}')
    again = muster(*words, "--json").document
    assert again["models"] == {"asked": 1, "reused": 1, "trained": 0, "failed": 0}
    assert json.loads((store / "runs/one/answer.json").read_text())["precision"] == "fp32"
    assert json.loads((store / "runs/one/metrics.json").read_text())["splits"]["test"]


@pytest.fixture(scope="module")
def finished_once(
    muster: Muster, small: list[object], tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[object], Path]:
    store = tmp_path_factory.mktemp("once")
    words = [*small, "--L", 1, "--name", "one", "--storage", store]
    muster(*words)
    return words, store


def test_a_path_that_can_t_be_followed_is_no_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to(tmp_path / "other")
    (tmp_path / "other").symlink_to(tmp_path / "one")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert nearest_folder(tmp_path / "new/folder") == tmp_path
    for folder in (tmp_path / "one/x", tmp_path / "dangling", tmp_path / ("x" * 300)):
        with pytest.raises(OSError, match=r"Too many|No such|too long"):
            nearest_folder(folder)
        with pytest.raises(UsageError, match="--storage moves it"):
            check_places(Store(str(folder)))


@pytest.mark.parametrize("part", ["packs", "runs", "models", "weights"])
def test_a_file_where_a_store_has_a_folder_is_told_before_a_head(tmp_path: Path, part: str) -> None:
    (tmp_path / part).touch()
    with pytest.raises(UsageError, match=f"Can't write {tmp_path / part}"):
        check_places(Store(str(tmp_path)))
    with pytest.raises(UsageError, match=f"{tmp_path / part} is no folder"):
        refuse_no_store(Store(str(tmp_path)))
