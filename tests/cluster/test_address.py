"""Whose door an address is: nobody else is shown the local head's token, and it is shown nobody else's."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.cluster import address, launch, local

HEAD = "http://127.0.0.1:8265"


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> local.LocalHead:
    """A head on record with a token of its own, in a shell that has another cluster's. Nothing is started."""
    token = tmp_path / "token"
    token.write_text("ours")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "theirs")
    recorded = local.LocalHead(
        pid=1, born="", dashboard_url=HEAD, gcs_address="127.0.0.1:6379", temp_dir=str(tmp_path),
        token_path=str(token), ray_version="2.60.0", python="python", started=0.0,
    )  # fmt: skip
    monkeypatch.setattr(local, "find", lambda: recorded)
    return recorded


@pytest.mark.parametrize(
    "typed", ["auto", HEAD, f"{HEAD}/", "127.0.0.1:8265", "localhost:8265", "http://LOCALHOST:8265"]
)
def test_the_local_head_is_known_by_each_of_its_names(ours: local.LocalHead, typed: str) -> None:
    found = address.resolve(typed)
    assert (found.head, found.token) == (ours, "ours")


@pytest.mark.parametrize(
    "typed",
    [
        "127.0.0.1:8266",  # another head of this machine
        "localhost:8266",
        "127.0.0.2:8265",
        "10.0.0.1:8265",
        "host:8265",
        "localhost.example.org:8265",
        "http://127.0.0.1.example.org:8265",
        "http://127.0.0.1",
    ],
)
def test_an_address_of_another_cluster_is_not_taken_for_the_local_head_s(
    ours: local.LocalHead, typed: str
) -> None:
    found = address.resolve(typed)
    assert (found.head, found.token) == (None, "theirs")


def test_a_head_on_another_loopback_name_is_itself_alone(
    ours: local.LocalHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert address.resolve("auto").url == HEAD
    monkeypatch.setattr(local, "find", lambda: None)
    assert address.resolve(HEAD) == (HEAD, "theirs", None)


def test_tokens_are_taken_in_rays_order(
    ours: local.LocalHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    named, by_path, usual = tmp_path / "named", tmp_path / "by path", tmp_path / ".ray/auth_token"
    usual.parent.mkdir()
    for path in (named, by_path, usual):
        path.write_text(f"\ufeff{path.name}\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(by_path))
    assert address.resolve("auto", named).token == "named"
    assert address.resolve("host:1", named).token == "named"
    assert address.resolve("host:1").token == "theirs"
    monkeypatch.setenv("RAY_AUTH_TOKEN", " ")
    assert address.resolve("host:1").token == "by path"
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    assert address.resolve("host:1").token == "auth_token"
    usual.unlink()
    assert address.resolve("host:1").token is None


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose name is short enough for a head's."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="m") as folder:
        yield Path(folder)


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755, 0o711])
def test_a_folder_that_others_can_only_read_may_hold_heads(short: Path, mode: int) -> None:
    short.chmod(mode)
    assert launch.temp_problem(short) == ""


@pytest.mark.parametrize("mode", [0o720, 0o770, 0o702, 0o707, 0o777, 0o1777, 0o2770])
def test_a_folder_that_its_group_or_others_may_write_holds_no_head(short: Path, mode: int) -> None:
    short.chmod(mode)
    assert "closed to others' writing" in launch.temp_problem(short)


def test_what_is_no_folder_of_ours_holds_no_head(short: Path) -> None:
    (short / "file").touch()
    (short / "link").symlink_to(short)
    for name in ("file", "link"):
        assert "not a folder that is yours" in launch.temp_problem(short / name)
    seen = short.lstat()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getuid", lambda: seen.st_uid + 1)
        assert "not a folder that is yours" in launch.temp_problem(short)


def test_a_head_s_folder_is_new_and_closed(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSTER_TEMP_DIR", str(short / "base"))
    homes = [launch.make_home() for _ in range(2)]
    assert len(set(homes)) == 2
    for folder in (short / "base", *homes):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
