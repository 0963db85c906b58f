"""A rank, or the driver, of a BIER run is killed with -9: the result is the one that would have come out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli import Muster
from tests.drills.test_kills import processes, saved_epochs, weights

pytestmark = pytest.mark.long  # see pyproject.toml
EVERY = 20


@pytest.fixture(scope="module")
def slow_bier(shapes: Path) -> list[object]:
    """Flags of a launch whose two ranks take some seconds."""
    return [
        "launch", "bier", "--dataset", "folder", "--data-root", shapes, "--image-size", 72, "--backbone", "conv4",
        "--preset", "glyphs", "--learners", "4,8", "--P", 8, "--K", 4, "--steps", 200, "--ranks", 2,
        "--checkpoint-steps", EVERY,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(
    muster: Muster, slow_bier: list[object], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    store = tmp_path_factory.mktemp("undisturbed")
    muster(*slow_bier, "--storage", store)
    return weights(store)


def resumed_after(store: Path, run: str) -> list[int]:
    logs = [file.read_text() for file in store.glob(f"runs/{run}/logs/*.log")]
    return [int(match[1]) for log in logs if (match := re.search(r"resumed after step (\d+)", log))]


def test_a_killed_rank_costs_at_most_the_steps_since_the_last_checkpoint(
    muster: Muster,
    slow_bier: list[object],
    undisturbed: dict[str, str],
    tmp_path: Path,
    until: Callable[..., Any],
) -> None:
    process = muster.start(*slow_bier, "--storage", tmp_path, "--name", "killed", "--json")
    until(lambda: max(saved_epochs(tmp_path).values(), default=0) >= 3 * EVERY)
    ranks = processes(muster, "ray::RayTrainWorker")
    assert len(ranks) == 2
    ranks[-1].kill()
    reached = max(saved_epochs(tmp_path).values())
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert json.loads(out)["models"]["trained"] == 1
    (resumed,) = resumed_after(tmp_path, "killed")
    # What was saved by then, or one more that was on its way.
    assert resumed in (reached, reached + EVERY)
    assert weights(tmp_path) == undisturbed


def test_a_killed_driver_is_resumed_from_the_store(
    muster: Muster,
    slow_bier: list[object],
    undisturbed: dict[str, str],
    tmp_path: Path,
    until: Callable[..., Any],
) -> None:
    process = muster.start(*slow_bier, "--storage", tmp_path, "--name", "orphan", "--json")
    until(lambda: max(saved_epochs(tmp_path).values(), default=0) >= 2 * EVERY)
    (driver,) = processes(muster, "muster.orchestrator.jobs.entry launch")[-1:]
    driver.kill()
    process.communicate(timeout=240)
    assert process.returncode == 1
    muster("resume", "orphan", "--storage", tmp_path)
    assert resumed_after(tmp_path, "orphan")[-1] >= 2 * EVERY
    assert weights(tmp_path) == undisturbed
