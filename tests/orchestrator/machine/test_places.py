"""Where muster writes on this machine: looked at before a head is started, all in one message, and by `doctor`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from muster.orchestrator.machine.places import check_places, places
from muster.workers.errors import UsageError
from muster.workers.store.layout import Store
from tests.cli import Muster

#: Folders below which nothing can be made, by anybody: one is no folder, the other the kernel's.
DEAD = ["/etc/passwd", "/proc"]


@pytest.fixture
def nowhere(muster_without_cluster: Muster) -> Muster:
    """A shell whose HOME can't be written, and all that muster puts below it by default."""
    ours = ("MUSTER_", "XDG_")
    env = {name: value for name, value in muster_without_cluster.env.items() if not name.startswith(ours)}
    return Muster({**env, "HOME": "/proc/home"})


def test_all_places_that_cant_be_written_are_told_at_once_before_a_head_is_started(
    nowhere: Muster, small: list[object]
) -> None:
    began = time.monotonic()
    ran = nowhere(*small, "--L", 1, "--storage", "/proc/store", code=2)
    assert time.monotonic() - began < 10  # a head alone takes as long; two seconds on an idle machine
    for folder, moved_by in (
        ("/proc/store (store)", "--storage"),
        ("/proc/home/.local/state/muster (state)", "MUSTER_STATE_DIR"),
        ("/proc/home/.cache/muster (cache)", "MUSTER_CACHE"),
    ):
        assert f"Can't write {folder}" in ran.err
        assert f"{moved_by} moves it" in ran.err
    assert "Starting" not in ran.err


def test_doctor_looks_where_muster_writes(nowhere: Muster, tmp_path: Path) -> None:
    env = {**nowhere.env, "MUSTER_TEMP_DIR": "/etc/passwd", "RAY_ADDRESS": "auto", "PYTHONMALLOC": "malloc"}
    rows = Muster(env)("doctor", "--storage", tmp_path / "store", "--json", code=1).document
    found = {(row["check"], row["state"]): row["detail"] for row in rows}
    assert f"{tmp_path / 'store'}: " in " ".join(row["detail"] for row in rows if row["check"] == "store")
    assert "/proc/home/.local/state/muster" in found["state", "failed"]
    assert "MUSTER_CACHE moves it" in found["cache", "failed"]
    assert "MUSTER_TEMP_DIR" in found["temporary files", "failed"]
    assert "RAY_ADDRESS" in found["environment", "ok"]
    assert "PYTHONMALLOC" in found["environment", "warning"]


@pytest.mark.parametrize("variable", ["MUSTER_STATE_DIR", "MUSTER_TEMP_DIR", "MUSTER_CACHE"])
@pytest.mark.parametrize("dead", DEAD)
def test_each_place_is_named_with_what_moves_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, dead: str
) -> None:
    for name in ("MUSTER_STATE_DIR", "MUSTER_TEMP_DIR", "MUSTER_CACHE"):
        folder = tmp_path / name if name != "MUSTER_TEMP_DIR" else Path("/tmp/muster-test")
        monkeypatch.setenv(name, f"{dead}/x" if name == variable else str(folder))
    with pytest.raises(UsageError) as caught:
        check_places(Store(str(tmp_path)))
    (problem,) = caught.value.problems
    assert f"{dead}/x" in problem
    assert f"{variable} moves it" in problem


def test_a_place_says_how_much_room_there_is(tmp_path: Path) -> None:
    (store, *_) = places(Store(str(tmp_path / "new")))
    assert store.free > 0
    assert str(tmp_path / "new") in store.detail
    assert " free" in store.detail
    assert list(tmp_path.iterdir()) == []  # looking leaves nothing


@pytest.mark.parametrize("command", [["cluster", "status"], ["cluster", "up"], ["cluster", "down"]])
def test_a_state_folder_that_can_t_be_is_wrong_use(
    muster_without_cluster: Muster, command: list[str]
) -> None:
    env = {**muster_without_cluster.env, "MUSTER_STATE_DIR": "/etc/passwd"}
    ran = Muster(env)(*command, code=2)
    assert "/etc/passwd" in ran.err
    assert "MUSTER_STATE_DIR" in ran.err
