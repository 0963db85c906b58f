"""Jobs on a real head: sent, followed, ended, found again."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from muster.cluster import follow, jobs, local
from muster.cluster.errors import ClusterError, UnreachableError


def test_a_job_carries_code_and_variables_and_its_lines_come_back(cluster: jobs.Jobs, tmp_path: Path) -> None:
    package = tmp_path / "travelling"
    package.mkdir()
    (package / "__init__.py").write_text("ANSWER = 42\n")
    code = "import os, travelling; print(travelling.ANSWER, os.environ['WHO']); print('no newline', end='')"
    sent = cluster.submit(
        f'exec python -c "{code}"',
        "trip-1",
        {"WHO": "me and you"},
        py_modules=[package],
        metadata={"run": "trip"},
    )
    assert sent == "trip-1"
    assert list(cluster.tail("trip-1"))[-2:] == ["42 me and you", "no newline"]
    info = cluster.info("trip-1")
    assert (info.status, info.exit_code, info.metadata) == ("SUCCEEDED", 0, {"run": "trip"})
    assert info.started
    assert info.ended
    assert info.done
    assert [job.submission_id for job in cluster.list("trip-")] == ["trip-1"]
    with pytest.raises(ClusterError, match="was used before"):
        cluster.submit("true", "trip-1", {})


def test_a_failed_jobs_exit_code_and_words_are_told(cluster: jobs.Jobs) -> None:
    cluster.submit("echo disk full; exit 7", "fail-1", {})
    info = cluster.wait("fail-1", timeout_s=60)
    assert (info.status, info.exit_code) == ("FAILED", 7)
    assert "disk full" in info.message


def test_a_running_job_is_stopped(cluster: jobs.Jobs) -> None:
    cluster.submit("exec sleep 600", "stop-1", {})
    with pytest.raises(ClusterError, match=r"still .* after"):
        cluster.wait("stop-1", timeout_s=0)
    while cluster.info("stop-1").status == "PENDING":
        time.sleep(0.1)
    assert cluster.stop("stop-1") is True
    assert cluster.wait("stop-1", timeout_s=30).status == "STOPPED"
    assert cluster.stop("stop-1") is False


def test_an_unknown_job_is_told_as_such(cluster: jobs.Jobs) -> None:
    for ask in (cluster.info, cluster.stop, cluster.tail, cluster.log):
        with pytest.raises(ClusterError, match=r"nobody-1.*there is no such job") as caught:
            ask("nobody-1")
        assert caught.value.exit_code == 1


@pytest.mark.parametrize("name", ["", "a/b", "a b", "../up", "é"])
def test_names_that_cannot_be_a_path_are_refused(cluster: jobs.Jobs, name: str) -> None:
    with pytest.raises(ClusterError, match="cannot name a job"):
        cluster.submit("true", name, {})


def test_following_survives_broken_connections(
    head: local.LocalHead, cluster: jobs.Jobs, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_PAUSES_S", (0.1,))
    through = jobs.connect(gate.url, token_path=Path(head.token_path))
    count = 6000  # so many that a cut falls into the middle of them
    cluster.submit(f"sleep 1; seq 1 {count}; sleep 3; echo last", "cut-1", {})
    lines = []
    for line in through.tail("cut-1"):
        lines.append(line)
        if line in ("10", "1000", str(count)):
            gate.cut()
    assert lines[-count - 1 :] == [*(str(i) for i in range(1, count + 1)), "last"]
    assert gate.cuts == 3


def test_a_follower_may_leave_early(cluster: jobs.Jobs) -> None:
    cluster.submit("echo one; exec sleep 600", "leave-1", {})
    for line in cluster.tail("leave-1"):
        if line == "one":
            break
    assert cluster.info("leave-1").status == "RUNNING"
    cluster.stop("leave-1")


def test_a_cluster_that_went_away_is_told_in_time(
    head: local.LocalHead, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "PATIENCE_S", 0.5)
    monkeypatch.setattr(follow, "_PAUSES_S", (0.1,))
    through = jobs.connect(gate.url, token_path=Path(head.token_path))
    through.submit("exec sleep 600", "away-1", {})
    lines = through.tail("away-1")
    gate.close()
    with pytest.raises(UnreachableError, match="does not answer any more") as caught:
        list(lines)
    assert caught.value.exit_code == 2
    jobs.connect("auto").stop("away-1")


class Gate:
    """A relay in front of the dashboard whose connections can be cut."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "", parts.port or 0)
        self._door = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.cuts = 0
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        self.cuts += 1
        while self._open:
            try:
                self._open.pop().shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        # A blocked accept() keeps a closed socket listening, so wake it first.
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self.cut()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._door.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return


@pytest.fixture
def gate(head: local.LocalHead) -> Iterator[Gate]:
    made = Gate(head.dashboard_url)
    yield made
    made.close()
