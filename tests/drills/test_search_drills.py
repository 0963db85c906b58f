"""A search is disturbed in every way an operator knows; it must end where an undisturbed one does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli import Muster, interrupt
from tests.drills.test_kills import processes
from tests.orchestrator.jobs.search.searches import attempts, outcome, small_search, trained

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def search(shapes: Path) -> list[object]:
    return small_search(shapes)


@pytest.fixture(scope="module")
def undisturbed(
    muster: Muster, search: list[object], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any]:
    store = tmp_path_factory.mktemp("undisturbed")
    answer = muster(*search, "--storage", store, "--name", "calm", "--json").document
    return store, outcome(answer)


def with_torch(found: list[psutil.Process]) -> list[bool]:
    """Whether each process has loaded torch's libraries; those that are gone by now are left out."""
    loaded = []
    for process in found:
        try:
            loaded.append(any("libtorch" in region.path for region in process.memory_maps()))
        except psutil.Error:
            continue
    return loaded


def test_trials_hold_no_torch_and_a_killed_desk_comes_back(
    muster: Muster,
    search: list[object],
    undisturbed: tuple[Path, Any],
    tmp_path: Path,
    until: Callable[..., Any],
) -> None:
    process = muster.start(*search, "--storage", tmp_path, "--name", "desk", "--json")
    until(lambda: any(with_torch(processes(muster, "ray::MemberActor"))), 120)  # or the test could not fail
    trials = with_torch(processes(muster, "ray::ImplicitFunc"))
    assert trials == [False] * 3
    until(lambda: len(trained(tmp_path)) >= 4, 120)
    (desk,) = processes(muster, "ray::Prefixes")
    desk.kill()
    assert with_torch(processes(muster, "ray::ImplicitFunc")) in ([False], [False] * 2, [False] * 3)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert outcome(document(out)) == undisturbed[1]
    assert attempts(tmp_path) == {1}


def test_a_killed_trial_is_started_again_and_changes_nothing(
    muster: Muster,
    search: list[object],
    undisturbed: tuple[Path, Any],
    tmp_path: Path,
    until: Callable[..., Any],
) -> None:
    process = muster.start(*search, "--storage", tmp_path, "--name", "trial", "--json")
    until(lambda: len(trained(tmp_path)) >= 2, 120)
    processes(muster, "ray::ImplicitFunc")[0].kill()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert outcome(document(out)) == undisturbed[1]
    assert attempts(tmp_path) == {1}


def test_damaged_vectors_are_made_again_from_the_weights(
    muster: Muster, search: list[object], undisturbed: tuple[Path, Any], tmp_path: Path
) -> None:
    """The vectors that steer and those of the test split, of members that every trial needs first."""
    store = tmp_path / "store"
    shutil.copytree(undisturbed[0], store)
    files = sorted(file for file in store.glob("models/*/embeddings/*/*") if file.name != "DONE.json")
    assert len(files) >= 2 * 11
    for file in files[::3]:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 0xFF
        file.write_bytes(bytes(data))
    answer = muster(*search, "--storage", store, "--name", "damaged", "--json").document
    assert outcome(answer) == undisturbed[1]
    assert answer["cost"]["trained"] == 0
    assert attempts(store) == {1}


def test_a_search_is_left_stopped_and_resumed(
    muster: Muster,
    search: list[object],
    undisturbed: tuple[Path, Any],
    tmp_path: Path,
    until: Callable[..., Any],
) -> None:
    where = ["--storage", tmp_path]
    process = muster.start(*search, *where, "--name", "left", "--parallel", 1)
    until(lambda: len(trained(tmp_path)) >= 1, 120)
    interrupt(process)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "it goes on without this terminal" in err
    there = len(trained(tmp_path))
    until(lambda: len(trained(tmp_path)) > there, 120)
    assert "is running as left-" in muster("resume", "left", *where, code=2).err
    assert "running members finish, queued ones are dropped" in muster("stop", "left").out
    status = until(lambda: ended(muster, "left", where), 120)
    assert status["state"] == "partial"
    assert status["answer"]["cost"]["trained"] == len(trained(tmp_path)) < 11
    assert "stopped" in {row["ended"] for row in status["answer"]["trials"]}
    until(lambda: "is not running" in muster("stop", "left").out, 60)
    answer = muster("resume", "left", *where, "--json").document
    assert outcome(answer) == undisturbed[1]
    assert answer["cost"]["trained"] == 11
    assert attempts(tmp_path) == {1}


def test_a_search_stops_when_its_device_hours_are_spent_and_goes_on_with_more(
    muster: Muster, search: list[object], undisturbed: tuple[Path, Any], tmp_path: Path
) -> None:
    """A member's cost is not known before the first one: that one is the overshoot."""
    poor = [*search, "--storage", tmp_path, "--name", "poor", "--parallel", 1]
    ran = muster(*poor, "--budget-gpu-hours", 1e-6, "--json", code=3)
    assert ran.document["cost"]["trained"] == len(trained(tmp_path)) == 1
    assert ran.document["cost"]["overshoot"].endswith("device-hours")
    assert "overshot" in ran.err
    assert {row["ended"] for row in ran.document["trials"]} == {"budget"}
    assert "device-hours are spent" in ran.document["trials"][0]["message"]
    again = muster(*poor, "--budget-gpu-hours", 1e-6, "--json", code=3)
    assert again.document["cost"]["trained"] == len(trained(tmp_path)) == 1
    rich = muster(*poor, "--budget-gpu-hours", 1, "--json").document
    assert outcome(rich) == undisturbed[1]
    assert rich["cost"]["overshoot"] == ""
    assert rich["cost"]["trained"] == len(trained(tmp_path)) == 11


def document(out: str) -> Any:
    return json.loads(out)


def ended(muster: Muster, run: str, where: list[object]) -> Any:
    """The run's status, once it has an end."""
    status = muster("status", run, *where, "--json").document
    return status if status["state"] not in {"running", "new", "lost"} else None
