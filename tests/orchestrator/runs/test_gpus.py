"""What was said of a GPU stands in the run's status, by node and UUID, the last word alone."""

from __future__ import annotations

import time
from typing import Any

import pytest

from muster.orchestrator.console.tables import status_table
from muster.orchestrator.records.events import about_gpus, event
from muster.orchestrator.runs.status import run_status
from muster.workers.store.layout import Store
from tests.orchestrator.runs.test_clocks import said, store

__all__ = ["store"]


def of_gpu(node: str, uuid: str, text: str) -> dict[str, Any]:
    return event("message", level="warning", text=text, gpu={"node": node, "uuid": uuid, "name": "H100"})


ITEMS = [
    of_gpu("a", "GPU-1", "first"),
    of_gpu("a", "GPU-2", "other"),
    event("message", text="x"),
    of_gpu("a", "GPU-1", "last"),
]
ATTEMPT = "one-20260101T000000-aa"


def test_of_each_gpu_the_last_word_is_told() -> None:
    assert about_gpus(ITEMS) == ["last", "other"]
    assert about_gpus([]) == []


def test_a_run_s_status_names_them(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    said(store, ATTEMPT, 0, *map(dict, ITEMS), written=time.time())
    found = run_status(store, "one")
    assert found["gpus"] == ["last", "other"]
    status_table(found)
    assert "last\nother\n" in capsys.readouterr().out


def test_without_any_nothing_is_said(store: Store) -> None:
    said(store, ATTEMPT, 0, *map(dict, ITEMS[2:3]), written=time.time())
    assert "gpus" not in run_status(store, "one")
