"""Commands that people are told can be pasted, whatever the folder of the store is called."""

from __future__ import annotations

import contextlib
import html
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from muster.orchestrator.client import session, submit
from muster.orchestrator.jobs.reproduce.answer import answer_of
from muster.orchestrator.jobs.reproduce.plan import Draft
from muster.orchestrator.jobs.reproduce.targets import load_options
from muster.orchestrator.methods.loading import load
from muster.workers.store.layout import Store
from tests.orchestrator.finished_run import finish, request_of

ADDRESS = "http://host:8265"


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "my store; it's ü")


def test_how_to_go_on_with_a_run_that_was_submitted(
    store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs: Any = SimpleNamespace(list=lambda prefix: [], submit=lambda *call: call[1])

    @contextlib.contextmanager
    def reached(*_: Any) -> Iterator[submit.Cluster]:
        yield submit.Cluster(jobs, "python", local=False)

    monkeypatch.setattr(submit, "reached", reached)
    request = load(None, {"name": "mine", "storage": store}, [])
    assert session._submitted(request, ADDRESS, True, False) is None
    told = [line.partition(": ")[2] for line in capsys.readouterr().err.splitlines() if "  muster " in line]
    where = ["mine", "--storage", store]
    assert [shlex.split(line) for line in told] == [
        ["muster", "status", *where],
        ["muster", "stop", *where, "--address", ADDRESS],
        ["muster", "resume", *where, "--address", ADDRESS],
    ]


def test_a_report_s_command(store: str, image_folder: Path) -> None:
    request = replace(request_of(store, image_folder), name="one")
    finish(request)
    report = (Path(store) / "runs/one/report.html").read_text()
    found = re.search(r"makes the run again;.*?<code>(.*?)</code>", report, re.DOTALL)
    assert found
    assert shlex.split(html.unescape(found[1])) == ["muster", "resume", "one", "--storage", store]


def test_a_reproduction_s_command(store: str) -> None:
    options = load_options(
        "dreml-table1", {"reproduce.datasets": ("glyphs",), "storage": store, "name": "one"}
    )
    client: Any = SimpleNamespace(store=Store(store), outcomes={}, trained=set())
    found = answer_of(options, Draft([], []), {}, {}, {}, client)
    assert shlex.split(found["resume"]) == ["muster", "resume", "one", "--storage", store]
