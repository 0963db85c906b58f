"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli import Muster, Ran


@pytest.fixture(params=["--address", "MUSTER_ADDRESS"])
def auto(
    request: pytest.FixtureRequest, muster_without_cluster: Muster, tmp_path: Path
) -> Callable[..., Ran]:
    """Commands that are to use the local head, of which there is none, as the flag or the shell says."""
    named = {"MUSTER_ADDRESS": "auto"} if request.param == "MUSTER_ADDRESS" else {}
    found = Muster({**muster_without_cluster.env, **named, "MUSTER_STATE_DIR": str(tmp_path / "state")})
    flags = [] if named else ["--address", "auto"]

    def run(*words: object, code: int = 0) -> Ran:
        ran = found(*words, *flags, code=code)
        assert "Starting a local Ray head" not in ran.err
        return ran

    return run


def test_the_address_of_the_local_head_is_no_address(auto: Callable[..., Ran], tmp_path: Path) -> None:
    assert "No local Ray head runs" in auto("stop", "one", "--storage", tmp_path, code=2).err
    assert not auto("cluster", "status", "--json").document["up"]
    launch = ["launch", "dreml", "--dataset", "glyphs", "--storage", tmp_path / "store"]
    assert auto(*launch, "--dry-run", "--json").document["rows"]
    (tmp_path / "store").write_text("a file")
    assert f"{tmp_path / 'store'}" in auto(*launch, code=2).err
