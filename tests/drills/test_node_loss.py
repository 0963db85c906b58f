"""Several nodes: a member that fails goes to another one, and a node that dies does not count against it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.cli import Muster
from tests.drills.conftest import Struck, repeated_epochs
from tests.drills.test_kills import weights
from tests.orchestrator.jobs.search.searches import outcome, small_search

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]  # see pyproject.toml


@pytest.fixture(scope="module")
def drilled(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    home = tmp_path_factory.mktemp("nodes")
    env = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    env |= {"MUSTER_CACHE": str(home / "cache"), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    env.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-m", "tests.drills.node_loss", shapes, home / "store", home / "answer.json"],
        env=env, capture_output=True, text=True, timeout=1400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return home / "store", json.loads((home / "answer.json").read_text())


def test_a_member_that_failed_on_a_node_goes_to_another(drilled: tuple[Path, dict[str, Any]]) -> None:
    found = drilled[1]["killed"]
    assert [outcome["state"] for outcome in found["outcomes"]] == ["done"]
    assert len(set(found["nodes"])) == len(found["nodes"]) == 2


def test_a_lost_node_does_not_count_against_its_members(drilled: tuple[Path, dict[str, Any]]) -> None:
    found = drilled[1]["lost"]
    assert [outcome["state"] for outcome in found["outcomes"]] == ["done", "done"]
    assert found["retries"] == ["its node was lost"]
    assert len(set(found["nodes"])) == 2


@pytest.mark.drill("e: SIGTERM to all processes of a node", times=1)
def test_members_of_a_node_that_is_taken_back_go_on_elsewhere(
    drilled: tuple[Path, dict[str, Any]], struck: Struck
) -> None:
    """What they had saved is gone on from: no attempt begins again at its first epoch."""
    found = drilled[1]["terminated"]
    assert [outcome["state"] for outcome in found["outcomes"]] == ["done", "done"]
    assert len(found["retries"]) == 1
    assert len(set(found["nodes"])) == 2
    logs = [log.read_text() for log in drilled[0].glob("runs/terminated/logs/*.log")]
    assert sum("resumed after epoch" in log for log in logs) == 1
    struck.faults = 1
    struck.repeated = repeated_epochs(drilled[0])
    struck.lost = sum(outcome["state"] != "done" for outcome in found["outcomes"])


def test_weights_do_not_depend_on_which_nodes_died(
    drilled: tuple[Path, dict[str, Any]], muster: Muster, shapes: Path, tmp_path: Path
) -> None:
    calm: dict[str, str] = {}
    for seed, members in ((5, 1), (0, 2), (9, 2)):
        muster(
            "launch", "dreml", "--dataset", "folder", "--data-root", shapes, "--image-size", 72,
            "--backbone", "conv4", "--D", 4, "--L", members, "--seed", seed, "--epochs", 12,
            "--set", "batch_size=16", "--set", "lr=0.02", "--storage", tmp_path,
        )  # fmt: skip
    calm = weights(tmp_path)
    assert len(calm) == 5
    assert weights(drilled[0]) == calm


def test_a_search_that_lost_a_node_ends_where_an_undisturbed_one_does(
    drilled: tuple[Path, dict[str, Any]], muster: Muster, shapes: Path, tmp_path: Path
) -> None:
    found = drilled[1]["sought"]
    assert found["code"] == 0
    calm = muster(*small_search(shapes), "--storage", tmp_path, "--name", "calm", "--json").document
    assert outcome(found["answer"]) == outcome(calm)
    ours, theirs = weights(drilled[0].parent / "sought"), weights(tmp_path)
    both = ours.keys() & theirs.keys()  # beyond the prefixes either may hold members that were in flight
    assert len(both) >= sum(row["L"] for row in calm["trials"])
    assert {key: ours[key] for key in both} == {key: theirs[key] for key in both}
