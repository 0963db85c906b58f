"""Two jobs on one cluster that want the same members: each is trained once."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli import Muster


def test_members_that_two_jobs_want_are_trained_once(
    muster: Muster, small: list[object], tmp_path: Path
) -> None:
    jobs = [
        muster.start(*small, "--L", 3, "--storage", tmp_path, "--name", name, "--parallel", 1, "--json")
        for name in ("one", "two")
    ]
    answers = []
    for job in jobs:
        out, err = job.communicate(timeout=240)
        assert job.returncode == 0, err
        answers.append(json.loads(out))
    assert answers[0]["curve"] == answers[1]["curve"]
    assert sum(answer["models"]["trained"] for answer in answers) == 3
    assert all(answer["models"]["failed"] == 0 for answer in answers)
    attempts = [len(list(folder.iterdir())) for folder in tmp_path.glob("models/*/attempts")]
    assert attempts == [1, 1, 1]
