"""Scores of a run from the store alone, where not all of its members are there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli import Muster
from tests.orchestrator.finished_run import finish, request_of


@pytest.mark.parametrize("as_json", [True, False])
def test_scores_of_a_part_of_the_members_are_shown_and_end_as_partial(
    muster_without_cluster: Muster, image_folder: Path, tmp_path: Path, as_json: bool
) -> None:
    store = tmp_path / "store"
    finish(request_of(str(store), image_folder))
    words = ["evaluate", "one", "--storage", store, *(["--json"] if as_json else [])]
    assert "2 of 2 members" in muster_without_cluster(*words).out
    first, _ = json.loads((store / "runs/one/plan.json").read_text())["members"]
    shutil.rmtree(store / "models" / first)
    ran = muster_without_cluster(*words, code=3)
    assert "1 of 2 members" in ran.out
    if as_json:
        assert (ran.document["state"], len(ran.document["curve"])) == ("partial 1 of 2", 1)
