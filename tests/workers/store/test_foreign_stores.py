"""Stores behind packages of fsspec, whose errors are of kinds of their own."""

from __future__ import annotations

import socketserver
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from muster.workers.errors import StoreError
from muster.workers.store.files import Files
from muster.workers.store.patience import PATIENCE


class NoLogin(socketserver.StreamRequestHandler):
    """An FTP server that lets nobody in."""

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            self.wfile.write(b"331 go on\r\n" if line.startswith(b"USER") else b"530 Login incorrect.\r\n")


@pytest.fixture
def ftp() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), NoLogin) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"ftp://somebody@127.0.0.1:{server.server_address[1]}/store"
        server.shutdown()


def test_a_server_that_lets_nobody_in_is_told_in_a_message(ftp: str) -> None:
    with pytest.raises(StoreError, match=r"Can't open ftp://somebody@.*530 Login incorrect"):
        Files(ftp)


class Trouble(Exception):  # noqa: N818  (as paramiko's and adlfs's are: no OSError)
    """What a package calls its own."""


class Ailing(MemoryFileSystem):
    """A file system whose answers are troubles, so many times."""

    protocol = "ailing"
    cachable = False
    times = 0
    asked = 0

    def info(self, path: str, **kwargs: Any) -> Any:
        cls = type(self)
        cls.asked += 1
        if cls.times > 0:
            cls.times -= 1
            raise Trouble("the session\nis gone")
        return super().info(path, **kwargs)


@pytest.fixture
def ailing() -> Iterator[Files]:
    fsspec.register_implementation("ailing", Ailing, clobber=True)
    files = Files(f"ailing://{uuid.uuid4().hex}")
    files.put("a", b"1")
    Ailing.times = Ailing.asked = 0
    yield files
    Ailing.times = 0


@pytest.mark.parametrize("ask", [Files.exists, Files.size, Files.info, Files.find])
def test_trouble_of_any_kind_is_told_in_a_message(
    ask: Callable[[Files, str], Any], ailing: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE, "0")
    Ailing.times = 9
    with pytest.raises(StoreError, match=r"Can't read ailing://.*/a: Trouble: the session\. Check --storage"):
        ask(ailing, "a")
    assert Ailing.times == 8


def test_trouble_that_passes_is_waited_for(ailing: Files) -> None:
    Ailing.times = 2
    assert ailing.get("a") == b"1"
    assert ailing.size("a") == 1
    assert Ailing.asked == 3


def test_what_leads_out_of_the_store_is_refused_at_once(ailing: Files) -> None:
    with pytest.raises(StoreError, match="leads out of the store"):
        ailing.size("../b")
    assert Ailing.asked == 0


def test_what_is_a_fault_of_the_program_is_no_message(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        Files(str(tmp_path)).put("a", None)  # type: ignore[arg-type]
