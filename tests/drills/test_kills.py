"""Processes are killed with -9 in the middle of their work; what comes out must be what would have come out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli import Muster
from tests.drills.conftest import Struck

EPOCHS = 12


@pytest.fixture(scope="module")
def slow(shapes: Path) -> list[object]:
    """Flags of a launch whose members take some seconds and a dozen epochs."""
    return [
        "launch", "dreml", "--dataset", "folder", "--data-root", shapes, "--image-size", 72, "--backbone", "conv4",
        "--D", 4, "--epochs", EPOCHS, "--set", "batch_size=16", "--set", "lr=0.02", "--L", 2, "--no-floors",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(
    muster: Muster, slow: list[object], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    store = tmp_path_factory.mktemp("undisturbed")
    muster(*slow, "--storage", store)
    return weights(store)


def weights(store: Path) -> dict[str, str]:
    found = {}
    for done in sorted(store.glob("models/*/DONE.json")):
        attempt = json.loads(done.read_text())["attempt"]
        file = done.parent / "attempts" / attempt / "weights.safetensors"
        found[done.parent.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def processes(muster: Muster, title: str) -> list[psutil.Process]:
    """Processes of the tests' own head with a title, e.g. ray::MemberActor."""
    head = json.loads(next(Path(muster.env["MUSTER_STATE_DIR"]).rglob("*.json")).read_text())
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if title in line and _belongs(process, head["temp_dir"], head["pid"]):
            found.append(process)
    return found


def _belongs(process: psutil.Process, temp_dir: str, head: int) -> bool:
    try:
        parents = {parent.pid for parent in process.parents()}
        return head in parents or temp_dir in str(process.environ())
    except psutil.Error:
        return False


def saved_epochs(store: Path) -> dict[str, int]:
    """The newest checkpoint of each member in training, by key."""
    found: dict[str, int] = {}
    for file in store.glob("models/*/attempts/*/epoch-*.safetensors"):
        key = file.parent.parent.parent.name
        found[key] = max(found.get(key, 0), int(file.name.split("-")[1]))
    return found


@pytest.mark.long
@pytest.mark.drill("a member killed", long=True)
def test_a_killed_member_loses_at_most_an_epoch_and_ends_with_the_same_weights(
    muster: Muster,
    slow: list[object],
    undisturbed: dict[str, str],
    tmp_path: Path,
    until: Callable[..., Any],
    struck: Struck,
) -> None:
    struck.faults = 1
    process = muster.start(*slow, "--storage", tmp_path, "--name", "killed", "--parallel", 1, "--json")
    until(lambda: max(saved_epochs(tmp_path).values(), default=0) >= 3)
    (victim,) = processes(muster, "ray::MemberActor")
    victim.kill()
    reached = max(saved_epochs(tmp_path).values())
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "its process died" in err
    assert weights(tmp_path) == undisturbed
    struck.count(tmp_path, asked=2)
    logs = [file.read_text() for file in tmp_path.glob("runs/killed/logs/*.log")]
    resumed = [int(match[1]) for log in logs if (match := re.search(r"resumed after epoch (\d+)", log))]
    assert resumed == [reached] or resumed == [reached + 1]  # an epoch may have been saved as it was killed
    assert json.loads(out)["models"]["trained"] == 2
    attempts = [len(list(folder.iterdir())) for folder in tmp_path.glob("models/*/attempts")]
    assert attempts == [1, 1]  # what the dead attempt left was swept


@pytest.mark.long
@pytest.mark.drill("the fleet killed", long=True)
def test_a_killed_fleet_is_started_again_and_the_members_go_on(
    muster: Muster,
    slow: list[object],
    undisturbed: dict[str, str],
    tmp_path: Path,
    until: Callable[..., Any],
    struck: Struck,
) -> None:
    struck.faults = 1
    process = muster.start(*slow, "--storage", tmp_path, "--name", "headless", "--json")
    until(lambda: max(saved_epochs(tmp_path).values(), default=0) >= 2)
    (fleet,) = processes(muster, "ray::Fleet")
    fleet.kill()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert weights(tmp_path) == undisturbed
    struck.count(tmp_path, asked=2)
    assert json.loads(out)["state"] == "done"


@pytest.mark.long
@pytest.mark.drill("the driver killed; a resume", long=True)
def test_a_killed_driver_is_resumed_from_the_store(
    muster: Muster,
    slow: list[object],
    undisturbed: dict[str, str],
    tmp_path: Path,
    until: Callable[..., Any],
    struck: Struck,
) -> None:
    struck.faults = 1
    process = muster.start(*slow, "--storage", tmp_path, "--name", "orphan")
    until(lambda: max(saved_epochs(tmp_path).values(), default=0) >= 2)
    for driver in processes(muster, "muster.orchestrator.jobs.entry launch"):
        driver.kill()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "without a result" in err
    ran = muster("resume", "orphan", "--storage", tmp_path, "--json")
    assert ran.document["state"] == "done"
    assert weights(tmp_path) == undisturbed
    struck.count(tmp_path, asked=2)


@pytest.mark.long
def test_a_member_that_always_dies_is_given_up_and_the_run_ends_as_k_of_l(
    muster: Muster, slow: list[object], tmp_path: Path, until: Callable[..., Any]
) -> None:
    """The lowest index trains first: the first three processes are member 1's."""
    process = muster.start(*slow, "--storage", tmp_path, "--name", "doomed", "--parallel", 1, "--json")
    for _ in range(3):
        (victim,) = until(lambda: processes(muster, "ray::MemberActor.run"))
        victim.kill()
        victim.wait(30)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 3, err
    answer = json.loads(out)
    assert answer["models"] == {"asked": 2, "reused": 0, "trained": 1, "failed": 1}
    assert answer["state"] == "partial 1 of 2"
    assert len(answer["curve"]) == 1
    assert "given up after 3 attempt(s)" in err
    assert "1 of 2 members: without 1." in (tmp_path / "runs/doomed/report.html").read_text()
    status = muster("status", "doomed", "--storage", tmp_path, "--json").document
    assert [member["state"] for member in status["members"]] == ["failed", "done"]
    resumed = muster("resume", "doomed", "--storage", tmp_path, "--json").document
    assert resumed["models"] == {"asked": 2, "reused": 1, "trained": 1, "failed": 0}
