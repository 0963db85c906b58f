"""When a local head ends: with its last job, not with its terminal; and what is said if it ends by itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.cluster import jobs, local
from muster.cluster.errors import HeadDiedError

USER = """
import sys, time
from muster.cluster import local
from muster.cluster.jobs import connect
with local.used(lambda: None, 1):
    connect("auto").submit("exec sleep 8", "work-1", {})
    print("submitted", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def user(elsewhere: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that started a head for itself and has a job of eight seconds running on it."""
    process = subprocess.Popen([sys.executable, "-c", USER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "submitted\n"
    yield process
    process.kill()
    process.wait()
    if head := local.find():
        local.stop(head)


def test_a_head_outlives_a_killed_terminal_until_its_last_job_is_over(
    user: subprocess.Popen[str], until
) -> None:
    head = local.find()
    assert head is not None
    assert not head.kept
    user.kill()
    user.wait()
    time.sleep(3)  # the keeper has looked
    assert head.alive
    with local.used(lambda: pytest.fail("there is one")) as found:  # another user comes and goes
        assert found.pid == head.pid
        assert jobs.connect("auto").info("work-1").status == "RUNNING"
    assert head.alive
    until(lambda: not Path(head.temp_dir).exists(), 60)
    assert not head.alive
    assert local.find() is None


@pytest.mark.cluster
def test_a_starter_that_is_killed_leaves_no_head(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, until
) -> None:
    """Also with a state folder that is named from where the terminal stands: the keeper stands elsewhere."""
    monkeypatch.chdir(elsewhere.parent)
    monkeypatch.setenv("MUSTER_STATE_DIR", "state")
    process = subprocess.Popen([sys.executable, "-c", USER], stdout=subprocess.DEVNULL)
    until(lambda: list(elsewhere.glob("head-*.json")), 30)
    (record,) = elsewhere.glob("head-*.json")
    home = Path(json.loads(record.read_text())["temp_dir"])
    process.kill()
    process.wait()
    until(lambda: not home.exists() and not record.exists(), 30)


def test_a_head_that_dies_is_told_at_once_with_the_end_of_its_log(user: subprocess.Popen[str]) -> None:
    head = local.find()
    assert head is not None
    cluster = jobs.connect("auto")
    os.kill(head.pid, signal.SIGKILL)
    began = time.monotonic()
    while head.alive:
        time.sleep(0.05)
    time.sleep(2)  # its parts follow it within a moment
    with pytest.raises(HeadDiedError, match=r"(?s)has ended.*end of its log.*Ray runtime started"):
        cluster.list()
    for ask in (lambda: cluster.submit("true", "late-1", {}), lambda: list(cluster.tail("work-1"))):
        with pytest.raises(HeadDiedError):
            ask()
    assert time.monotonic() - began < 30


def test_a_head_that_was_asked_for_stays_when_its_last_user_leaves(head: local.LocalHead) -> None:
    with local.used(lambda: pytest.fail("there is one")) as found:
        assert found == head
    assert local.end_if_unused(head.temp_dir)  # nothing to wait for
    assert head.alive
