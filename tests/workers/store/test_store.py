"""Commit records, attempts and sweeping: what a reader may trust, in every kind of store."""

from __future__ import annotations

import hashlib
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from muster.workers.errors import CorruptFileError, DamagedRunError, UsageError
from muster.workers.store.files import FileRecord
from muster.workers.store.layout import ModelFolder, Store, new_attempt_id
from muster.workers.store.parquet import table_bytes
from muster.workers.store.records import Done, to_json
from muster.workers.task import read_history

DONE = Done({"attempts/one/weights": FileRecord.of(b"weights")}, {"attempt": "one", "seconds": 1.5})


@pytest.fixture
def folder(root: str) -> ModelFolder:
    return Store(root).model("0123abcd")


def put_attempt(folder: ModelFolder, attempt: str, *names: str) -> None:
    for name in names:
        folder.files.put(f"{folder.attempt(attempt)}/{name}", name.encode())


def test_without_a_record_there_is_no_result(folder: ModelFolder) -> None:
    put_attempt(folder, "one", "weights")
    assert folder.done() is None


def test_a_record_reads_back_as_it_was(folder: ModelFolder) -> None:
    put_attempt(folder, "one", "weights")
    assert folder.commit(DONE)
    assert folder.done() == DONE
    assert folder.get("attempts/one/weights", DONE) == b"weights"


def test_the_first_commit_counts(folder: ModelFolder) -> None:
    put_attempt(folder, "one", "weights")
    put_attempt(folder, "two", "weights")
    assert folder.commit(DONE)
    late = Done({"attempts/two/weights": FileRecord.of(b"weights")}, {"attempt": "two"})
    assert not folder.commit(late)
    assert folder.done() == DONE


def test_a_promised_file_that_is_damaged_or_gone_is_told(folder: ModelFolder) -> None:
    put_attempt(folder, "one", "weights")
    folder.commit(DONE)
    folder.files.put("models/0123abcd/attempts/one/weights", b"weighte")
    with pytest.raises(CorruptFileError, match="is damaged"):
        folder.get("attempts/one/weights", DONE)
    folder.files.delete("models/0123abcd/attempts/one/weights")
    with pytest.raises(CorruptFileError, match="missing"):
        folder.get("attempts/one/weights", DONE)
    with pytest.raises(CorruptFileError, match="missing"):
        folder.get("attempts/one/never promised", DONE)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"attempt": "one"}', b'{"files": {"a": {}}}', b"\xff"]
)
def test_a_record_that_cannot_be_parsed_is_damaged(content: bytes, folder: ModelFolder) -> None:
    folder.files.put(folder / "DONE.json", content)
    with pytest.raises(CorruptFileError, match=r"DONE\.json.* is damaged"):
        folder.done()
    folder.distrust()
    assert folder.done() is None


def test_a_digit_of_a_record_that_changes_is_found(folder: ModelFolder) -> None:
    """Its numbers go into reports and estimates, and nothing else vouches for them."""
    folder.commit(DONE)
    text = folder.files.get(folder / "DONE.json")
    assert b'"seconds": 1.5' in text
    folder.files.put(folder / "DONE.json", text.replace(b'"seconds": 1.5', b'"seconds": 7.5'))
    with pytest.raises(CorruptFileError, match=r"DONE\.json.* is damaged: its content is not what it was"):
        folder.done()


def test_a_record_of_an_older_store_vouches_for_nothing_and_is_read(folder: ModelFolder) -> None:
    folder.files.put(folder / "DONE.json", b'{"attempt": "one", "files": {}}')
    assert folder.done() == Done({}, {"attempt": "one"})


def test_forgetting_weights_forgets_the_vectors_computed_with_them(folder: ModelFolder) -> None:
    folder.commit(DONE)
    for digest in ("aa", "bb"):
        folder.embedding(digest).commit(DONE)
    folder.embedding("aa").distrust()
    assert folder.done() is not None
    assert folder.embedding("bb").done() is not None
    folder.distrust()
    assert folder.done() is None
    assert folder.embedding("bb").done() is None
    folder.distrust()


def test_sweeping_keeps_what_the_record_names_and_the_vectors(folder: ModelFolder) -> None:
    put_attempt(folder, "one", "weights", "epoch-001-0123456789abcdef.safetensors")
    put_attempt(folder, "zero", "weights", "epoch-001-0123456789abcdef.safetensors")
    folder.files.put(folder / "spec.json", b"{}")
    folder.files.put(folder / "embeddings/aa/vectors.parquet", b"vectors")
    folder.commit(DONE)
    folder.sweep()
    assert folder.files.names(folder.attempts) == ["one"]
    assert folder.files.names(folder.attempt("one")) == ["weights"]
    assert folder.files.get(folder / "embeddings/aa/vectors.parquet") == b"vectors"
    assert folder.files.exists(folder / "spec.json")
    folder.sweep()
    assert folder.get("attempts/one/weights", DONE) == b"weights"


def test_nothing_is_swept_without_a_record(folder: ModelFolder) -> None:
    put_attempt(folder, "one", "epoch-001-0123456789abcdef.safetensors")
    folder.sweep()
    assert folder.files.names(folder.attempts) == ["one"]


def test_records_are_json_that_people_read(folder: ModelFolder) -> None:
    folder.commit(DONE)
    text = folder.files.get(folder / "DONE.json").decode()
    assert "\n" in text
    assert json.loads(text)["files"]["attempts/one/weights"] == {
        "size": 7,
        "sha256": FileRecord.of(b"weights").sha256,
    }


def test_a_runs_files_are_below_its_folder(root: str) -> None:
    store = Store(root)
    assert store.runs() == []
    run = store.run("first")
    assert run.read("run.json") is None
    run.write("run.json", {"D": 12, "names": ["ü"]})
    store.run("second").write("run.json", {})
    assert run.read("run.json") == {"D": 12, "names": ["ü"]}
    assert store.runs() == ["first", "second"]
    assert run.log("key", "attempt") == "runs/first/logs/key-attempt.log"
    assert run.gathered("test") == "runs/first/gathered/test"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"text": 1}'])
def test_a_file_of_a_run_that_cannot_be_used_is_named_with_the_cure(content: bytes, root: str) -> None:
    run = Store(root).run("first")
    for name, cure in (("run.json", "launch again"), ("plan.json", "Delete it: muster resume first")):
        run.files.put(run / name, content)
        with pytest.raises(DamagedRunError, match=rf"runs/first/{name}.* is damaged: .*{cure}"):
            run.read(name, "members")


@pytest.mark.parametrize(
    "name", [".", "..", ".hidden", "-x", "a/b", "../b", "é", "a b", "", "x" * 101, "a\n"]
)
def test_a_name_that_no_run_can_have_is_refused_wherever_it_comes_in(name: str, root: str) -> None:
    with pytest.raises(UsageError, match="begins with a letter or a digit"):
        Store(root).run(name)


def test_only_what_can_be_a_run_is_listed_as_one(root: str) -> None:
    store = Store(root)
    for name in ("x" * 100, "0.1_a-B", ".snapshots"):
        store.files.put(f"runs/{name}/run.json", b"{}")
    assert store.runs() == ["0.1_a-B", "x" * 100]


def test_attempts_have_names_of_their_own_in_the_order_of_time() -> None:
    names = [new_attempt_id() for _ in range(50)]
    assert len(set(names)) == 50
    assert all(re.fullmatch(r"\d{8}T\d{6}-[0-9a-f]{6}", name) for name in names)
    stamps = [name.partition("-")[0] for name in names]
    assert stamps == sorted(stamps)


def test_attempts_tell_the_time_of_nobody_s_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    now = datetime.now(UTC)
    told = datetime.strptime(new_attempt_id().partition("-")[0] + "+0000", "%Y%m%dT%H%M%S%z")
    monkeypatch.undo()
    time.tzset()
    assert abs(told - now).total_seconds() < 60


def test_a_model_s_history_is_its_own_attempt_s(folder: ModelFolder) -> None:
    rows = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
    records = {}
    for attempt, kept in (("one", rows), ("two", rows[:1])):
        name = f"attempts/{attempt}/history.parquet"
        data = table_bytes(kept)
        folder.files.put(folder / name, data)
        records[name] = FileRecord.of(data)
    done = Done(records, {"attempt": "one"})
    assert read_history(folder, done) == rows
    folder.files.put(folder / "attempts/one/history.parquet", b"damaged")
    with pytest.raises(CorruptFileError, match=r"history\.parquet"):
        read_history(folder, done)


def test_a_record_s_own_check_is_16_digits_of_its_content(folder: ModelFolder) -> None:
    folder.commit(DONE)
    written = json.loads(folder.files.get(folder / "DONE.json"))
    check = written.pop("check")
    assert check == hashlib.sha256((json.dumps(written, indent=1) + "\n").encode()).hexdigest()[:16]


def test_json_of_the_store_is_indented_and_holds_paths_and_times_as_text() -> None:
    assert to_json({"a": Path("x/y"), "b": [1]}) == b'{\n "a": "x/y",\n "b": [\n  1\n ]\n}\n'


def test_a_folder_knows_its_model(root: str) -> None:
    assert Store(root).model("0123abcd").key == "0123abcd"


def test_a_folder_that_belongs_to_another_key_is_damaged(root: str) -> None:
    """Copied or moved by hand: it is whole, and not what its name says."""
    store = Store(root)
    for folder, facts in (
        (store.model("0123abcd"), {"key": "4567cdef", "attempt": "one"}),
        (store.model("0123abcd").embedding("00ff"), {"key": "4567cdef"}),
        (store.model("0123abcd").embedding("00ff"), {"key": "0123abcd", "target": "11ff"}),
        (store.pack("0a0b"), {"pack": "0c0d"}),
    ):
        folder.commit(Done({}, facts))
        with pytest.raises(
            CorruptFileError, match=r"DONE\.json.* is damaged: it is that of another (key|target|pack), "
        ):
            folder.done()
        folder.distrust()
    for folder in (store.model("0123abcd"), store.model("0123abcd").embedding("00ff"), store.pack("0a0b")):
        folder.commit(Done({}, {}))  # an older release's says nothing of it
        assert folder.done() == Done({}, {})
