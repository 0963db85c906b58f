"""Many trials and one GPU: nobody waits for ever, and nothing is trained twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

DEADLINE_SECONDS = 480


@pytest.mark.long
def test_fifty_trials_on_one_gpu_come_to_their_end(shapes: Path, tmp_path: Path) -> None:
    env = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    env |= {"MUSTER_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    env.pop("RAY_ADDRESS", None)
    result = tmp_path / "result.json"
    module = "tests.orchestrator.jobs.search.one_gpu"
    done = subprocess.run(
        [sys.executable, "-m", module, str(shapes), str(tmp_path / "store"), str(result)],
        env=env, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(result.read_text())
    assert sorted(found["ended"]) == ["complete"] * 2 + ["cut"] * 48
    assert sorted(found["reached"]) == [1] * 48 + [2] * 2
    assert found["groups_left"] == 0
    attempts = [len(list(folder.iterdir())) for folder in (tmp_path / "store").glob("models/*/attempts")]
    assert attempts == [1] * found["scheduled"]  # 52 members, each once
