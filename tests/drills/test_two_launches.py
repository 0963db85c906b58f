"""The same run is launched twice at once, on one head and on two that share a store: one result, and both commands
end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from muster.workers.store.files import SCRATCH
from muster.workers.store.layout import Store
from tests.cli import Muster
from tests.drills.conftest import Struck
from tests.drills.test_kills import weights

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def words(small: list[object]) -> list[object]:
    return [*small, "--L", 2, "--name", "twice", "--json"]


@pytest.fixture(scope="module")
def calm(muster: Muster, words: list[object], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    store = tmp_path_factory.mktemp("calm")
    return store, muster(*words, "--storage", store).document


@pytest.fixture
def other_head(muster: Muster, tmp_path: Path) -> Muster:
    """The same command line on a head of its own, which it starts itself and which ends with its job."""
    return Muster({**muster.env, "MUSTER_STATE_DIR": str(tmp_path / "state")})


def at_once(calm: tuple[Path, Any], heads: list[Muster], words: list[object], store: Path) -> list[int]:
    """Launches on all heads at once; the exit codes, after all that must hold was looked at."""
    processes = [head.start(*words, "--storage", store) for head in heads]
    codes = []
    for process in processes:
        out, err = process.communicate(timeout=400)
        assert "Traceback" not in err, err
        codes.append(process.returncode)
        if process.returncode == 0:
            assert json.loads(out)["curve"] == calm[1]["curve"], err
        else:
            assert process.returncode == 2, err
            assert "twice is running as" in err
    assert 0 in codes
    assert weights(store) == weights(calm[0])
    assert [len(list(folder.iterdir())) for folder in store.glob("models/*/attempts")] == [1, 1]
    assert list(store.rglob(f"{SCRATCH}*")) == []
    run = Store(str(store)).run("twice")
    assert run.record()
    assert run.spoilt(run.record()) == []
    answer = heads[0]("status", "twice", "--storage", store, "--json").document
    assert (answer["state"], answer["answer"]["curve"]) == ("done", calm[1]["curve"])
    return codes


@pytest.mark.drill("a: two launches of a run at once, one head")
def test_twice_on_one_head(
    muster: Muster, calm: tuple[Path, Any], words: list[object], tmp_path: Path, struck: Struck
) -> None:
    struck.faults = 1
    at_once(calm, [muster, muster], words, tmp_path / "store")
    struck.count(tmp_path / "store", asked=2)


@pytest.mark.drill("a: two launches of a run at once, two heads")
def test_twice_on_two_heads(
    muster: Muster,
    other_head: Muster,
    calm: tuple[Path, Any],
    words: list[object],
    tmp_path: Path,
    struck: Struck,
) -> None:
    """Neither head knows of the other: the second job waits for its turn, and finds all there."""
    struck.faults = 1
    codes = at_once(calm, [muster, other_head], words, tmp_path / "store")
    assert codes == [0, 0]
    struck.count(tmp_path / "store", asked=2)
