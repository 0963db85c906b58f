"""Whole files in every kind of store: a folder, S3, a file system of fsspec. The same promises for all."""

from __future__ import annotations

import errno
import os
import pickle
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from muster.workers.errors import CorruptFileError, StoreError
from muster.workers.store import patience as patience_module
from muster.workers.store import reading
from muster.workers.store.files import FileRecord, Files
from muster.workers.store.patience import PATIENCE

DATA = bytes(range(256)) * 64


@pytest.fixture
def files(root: str) -> Files:
    return Files(root)


def test_what_is_put_is_got_and_found(files: Files) -> None:
    files.put("a/b c/ü'\"#.bin", DATA)
    assert files.get("a/b c/ü'\"#.bin") == DATA
    assert files.find("a/b c/ü'\"#.bin") == DATA
    assert files.exists("a/b c/ü'\"#.bin")
    assert not files.exists("a/b c")
    assert not files.exists("a/b")
    assert files.find("a/nothing") is None


def test_putting_again_replaces_the_whole_content(files: Files) -> None:
    files.put("a.bin", DATA)
    files.put("a.bin", b"short")
    assert files.get("a.bin") == b"short"
    files.put("a.bin", b"")
    assert files.get("a.bin") == b""


def test_a_reader_of_the_old_content_is_not_disturbed(tmp_path: Path) -> None:
    files = Files(str(tmp_path))
    files.put("a.bin", b"old")
    (tmp_path / "source").write_bytes(b"newer")
    with (tmp_path / "a.bin").open("rb") as reader:
        files.put("a.bin", b"new")
        assert reader.read() == b"old"
    with (tmp_path / "a.bin").open("rb") as reader:
        files.move_in("a.bin", tmp_path / "source")
        assert reader.read() == b"new"
    assert files.get("a.bin") == b"newer"


def test_create_is_refused_where_there_is_a_file(files: Files) -> None:
    assert files.create("x/DONE.json", b"first")
    assert not files.create("x/DONE.json", b"second")
    assert files.get("x/DONE.json") == b"first"
    files.delete("x/DONE.json")
    assert files.create("x/DONE.json", b"third")


def test_names_are_those_directly_below_sorted_without_scratch(files: Files) -> None:
    for name in ("f/b", "f/a", "f/c/deep", "f/.writing-123", "other"):
        files.put(name, b"1")
    assert files.names("f") == ["a", "b", "c"]
    assert files.names("f/c") == ["deep"]
    assert files.names("nothing") == []
    assert files.names("") == ["f", "other"]


def test_an_empty_store_has_no_names(files: Files) -> None:
    assert files.names("") == []


def test_deleting_what_is_there_and_what_is_not(files: Files) -> None:
    files.put("d/a", b"1")
    files.put("d/e/b", b"2")
    files.delete("d/a")
    files.delete("d/a")
    assert files.names("d") == ["e"]
    files.delete_folder("d")
    files.delete_folder("d")
    assert files.names("d") == []
    assert files.find("d/e/b") is None


def test_a_flipped_byte_a_cut_and_a_longer_file_are_noticed(files: Files, tmp_path: Path) -> None:
    record = FileRecord.of(DATA)
    files.put("whole", DATA)
    assert files.get("whole", record) == DATA
    files.fetch("whole", tmp_path / "cache" / "whole", record)
    assert FileRecord.of_path(tmp_path / "cache" / "whole") == record
    flipped = bytearray(DATA)
    flipped[1000] ^= 1
    for number, bad in enumerate((bytes(flipped), DATA[:-1], DATA + b"\0", b"")):
        files.put(f"bad{number}", bad)
        with pytest.raises(CorruptFileError, match=f"bad{number}.* is damaged"):
            files.get(f"bad{number}", record)
        with pytest.raises(CorruptFileError, match=f"bad{number}.* is damaged"):
            files.fetch(f"bad{number}", tmp_path / "cache" / "bad", record)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["whole"]


def test_a_local_file_is_moved_in(files: Files, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(DATA * 100)
    files.move_in("p/pixels.bin", tmp_path / "source")
    assert files.get("p/pixels.bin", FileRecord.of(DATA * 100)) == DATA * 100
    assert files.names("p") == ["pixels.bin"]
    assert not (tmp_path / "source").exists()


def test_reading_what_is_not_there_names_the_file_and_the_option(files: Files, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        files.get("runs/none.json")
    assert files.path("runs/none.json") in str(caught.value)
    assert "--storage" in str(caught.value)
    with pytest.raises(StoreError, match=r"none\.bin"):
        files.fetch("none.bin", tmp_path / "none.bin", FileRecord.of(b""))


def test_a_file_that_is_deleted_while_it_is_looked_for_is_not_there(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def known_and_gone(self: Files, name: str) -> object:
        found = known(self, name)
        self.delete(name)
        return found

    known = Files._info
    monkeypatch.setattr(Files, "_info", known_and_gone)
    for look in (files.find, files.record):
        files.put("turns/1", b"mine")
        assert look("turns/1") is None


def test_a_probe_of_a_writable_store_leaves_nothing(files: Files) -> None:
    files.check_writable()
    assert files.names("") == []
    if files.local_root is not None:
        assert not list(files.local_root.glob("*"))


def test_a_probe_of_a_store_that_is_not_there_yet_makes_no_folder(tmp_path: Path) -> None:
    Files(str(tmp_path / "new" / "store")).check_writable()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError, match=r"Can't write /proc/store.*--storage"):
        Files("/proc/store").check_writable()


def test_a_store_crosses_process_borders(files: Files) -> None:
    files.put("a", b"1")
    again = pickle.loads(pickle.dumps(files))
    assert again.root == files.root
    assert again.get("a") == b"1"


def test_the_path_of_a_file_is_an_address_that_opens_it(root: str) -> None:
    files = Files(root)
    files.put("runs/a/report.html", b"<html>")
    folder, _, name = files.path("runs/a/report.html").rpartition("/")
    _, _, query = files.path("").partition("?")
    opened = Files(f"{folder}?{query}" if query else folder)
    assert opened.get(name.partition("?")[0]) == b"<html>"


def test_a_path_never_shows_a_password() -> None:
    files = Files("s3://key:pass@bucket/p?region=us-east-1&endpoint_override=127.0.0.1:9&scheme=http")
    assert files.path("a/b") == "s3://bucket/p/a/b?region=us-east-1&endpoint_override=127.0.0.1:9&scheme=http"


def test_a_folder_below_a_file_is_not_writable_and_is_named_with_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(StoreError, match=rf"Can't write {root}.*--storage"):
            Files(str(root)).check_writable()


def test_a_bucket_that_is_not_there_is_named_with_the_option(s3_bucket: str) -> None:
    with pytest.raises(StoreError, match=r"Can't write s3://absent/.*--storage"):
        Files(s3_bucket.replace("bucket?", "absent/p?")).check_writable()


@pytest.mark.parametrize("root", ["nosuch://bucket/path", "s3://bucket/path?nosuch=1"])
def test_an_address_that_nothing_opens_is_named(root: str) -> None:
    with pytest.raises(StoreError, match="nosuch"):
        Files(root)


def test_a_file_uri_a_home_and_a_relative_path_are_local(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Files(f"file://{tmp_path}/x/").local_root == tmp_path / "x"
    assert Files("x").local_root == tmp_path / "x"
    assert Files("~/x").local_root == tmp_path / "home" / "x"
    monkeypatch.chdir("/")
    assert Files(str(tmp_path / "x")).path("a") == str(tmp_path / "x" / "a")


def test_a_failed_write_leaves_the_old_content_and_no_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(str(tmp_path))
    files.put("a", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (files.put, files.create):
        with pytest.raises(StoreError, match="No space left on device"):
            write("a", b"new")
    monkeypatch.undo()
    assert files.get("a") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_error_without_words_is_told_by_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wordless(descriptor: int) -> None:
        raise TimeoutError

    monkeypatch.setattr(os, "fsync", wordless)
    with pytest.raises(StoreError, match="TimeoutError"):
        Files(str(tmp_path)).put("a", b"new")


def test_of_many_creators_at_once_one_succeeds(tmp_path: Path) -> None:
    files, won = Files(str(tmp_path)), []
    gate = threading.Barrier(8)

    def attempt(number: int) -> None:
        gate.wait()
        if files.create("DONE.json", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert files.get("DONE.json") == str(won[0]).encode()


def test_a_disk_without_hard_links_is_a_store_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    files = Files(str(tmp_path))
    assert files.create("DONE.json", b"first")
    assert not files.create("DONE.json", b"second")
    assert files.get("DONE.json") == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["DONE.json"]


class Moody:
    """A file system that fails in some way, so many times."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times, self.asked = error, times, 0

    def get_file_info(self, name: str) -> pafs.FileInfo:
        self.asked += 1
        if self.asked <= self.times:
            raise self.error
        return pafs.FileInfo(name, pafs.FileType.File, size=7)


LOST = "When getting information for key 'x': AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7"
REFUSED = "When getting information for key 'x': AWS Error ACCESS_DENIED during HeadObject operation: No response body."


class Clock:
    """In place of the module `time`: sleeping takes none."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setenv(PATIENCE, "60")
    monkeypatch.setattr(patience_module, "time", found)
    return found


def moody(root: str, error: Exception, times: int) -> tuple[Files, Moody]:
    files, system = Files(root), Moody(error, times)
    files._fs = system
    return files, system


@pytest.mark.parametrize(
    "error", [OSError(LOST), ConnectionResetError(104, "Connection reset"), TimeoutError()]
)
def test_a_store_behind_a_network_is_asked_again(error: Exception, clock: Clock) -> None:
    files, system = moody("memory://moody", error, 3)
    assert files.size("x") == 7
    assert system.asked == 4


@pytest.mark.parametrize("error", [OSError(REFUSED), PermissionError(13, "x"), pa.ArrowInvalid("x")])
def test_what_a_store_refuses_is_not_asked_again(error: Exception, clock: Clock) -> None:
    files, system = moody("memory://moody", error, 3)
    with pytest.raises(StoreError, match="Can't read memory://"):
        files.size("x")
    assert system.asked == 1


def test_nobody_waits_for_ever_for_a_store(clock: Clock) -> None:
    files, system = moody("memory://moody", OSError(LOST), 1000)
    with pytest.raises(StoreError, match="NETWORK_CONNECTION"):
        files.size("x")
    assert 1060 <= clock.now < 1070
    assert 10 < system.asked < 30


def test_a_disk_is_asked_once(clock: Clock, tmp_path: Path) -> None:
    files, system = moody(str(tmp_path), OSError(errno.ENOSPC, "No space left on device"), 9)
    with pytest.raises(StoreError, match="No space left on device"):
        files.size("x")
    assert system.asked == 1


def test_google_s_client_is_not_left_to_ask_for_a_quarter_of_an_hour() -> None:
    assert reading._in_time("gs://b/x") == "gs://b/x?retry_limit_seconds=10"
    assert reading._in_time("gcs://b/x?project_id=p") == "gcs://b/x?project_id=p&retry_limit_seconds=10"
    for address in ("gs://b/x?retry_limit_seconds=3", "s3://b/x", "abfs://b/x"):
        assert reading._in_time(address) == address
