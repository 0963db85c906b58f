"""A member that hangs without an exception is found, ended, and tried again elsewhere; its weights are the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.drills.test_kills import weights

pytestmark = pytest.mark.long  # see pyproject.toml


@pytest.fixture(scope="module")
def drilled(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    home = tmp_path_factory.mktemp("hangs")
    env = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    env |= {
        "MUSTER_CACHE": str(home / "cache"),
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src"))),
    }
    env.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-m", "tests.drills.hangs", shapes, home],
        env=env, capture_output=True, text=True, timeout=560, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return home, json.loads((home / "answer.json").read_text())


@pytest.mark.parametrize("what", ["member", "ranks"])
def test_what_hangs_is_ended_and_goes_on_elsewhere_to_the_same_weights(
    drilled: tuple[Path, dict[str, Any]], what: str
) -> None:
    home, found = drilled[0], drilled[1][what]
    assert found["stopped"] == 1
    assert (found["outcome"]["state"], found["outcome"]["attempts"]) == ("done", 2)
    (retry,) = found["retries"]
    assert retry.startswith("it hung: no step for ")
    assert "its process was ended" in retry
    assert len(set(found["nodes"].values())) == 2
    assert found["left"] == []
    assert len(weights(home / what)) == 1
    assert weights(home / what) == weights(home / f"calm {what}")
