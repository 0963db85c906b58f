"""One real head for the whole folder, with a record of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.cluster import jobs, local


@pytest.fixture(scope="package")
def package_patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        # What the developer's own shell says about Ray must not decide what is tested.
        for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            patch.delenv(name, raising=False)
        # `connect` chooses a mode if there is none; noted here, so that other folders' tests get theirs back.
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.delenv("RAY_AUTH_MODE")
        yield patch


@pytest.fixture(scope="package")
def head(
    tmp_path_factory: pytest.TempPathFactory, package_patch: pytest.MonkeyPatch
) -> Iterator[local.LocalHead]:
    package_patch.setenv("MUSTER_STATE_DIR", str(tmp_path_factory.mktemp("state")))
    started = local.start(num_cpus=2, num_gpus=0, object_store_memory=100 * 2**20)
    yield started
    local.stop(started)


@pytest.fixture(scope="package")
def cluster(head: local.LocalHead) -> jobs.Jobs:
    return jobs.connect("auto")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder in which no head is recorded, a home without a token, and no token in the environment."""
    monkeypatch.setenv("MUSTER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    return tmp_path / "state"
