"""What of the caller's shell reaches a local head: an operator's wishes, and nothing that was meant for others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import ray

from muster.cluster import environment, launch

HARMFUL = {
    "RAY_ADDRESS": "192.0.2.1:6379",
    "RAY_AUTH_TOKEN": "of another cluster",
    "RAY_grpc_enable_http_proxy": "1",
    "RAY_USE_TLS": "1",
    "RAY_TLS_SERVER_CERT": "/nowhere",
    "RAY_RUNTIME_ENV_HOOK": "nowhere.hook",
    "RAY_START_HOOK": "nowhere.hook",
    "RAY_JEMALLOC_LIB_PATH": "/nowhere.so",
    "RAY_testing_rpc_failure": "*=1",
    "RAY_a_setting_of_a_later_release": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONINSPECT": "1",
    "PYTHONOPTIMIZE": "2",
    "PYTHONMALLOC": "debug",
    "BASH_ENV": "/nowhere",
}
WISHES = {
    "RAY_memory_usage_threshold": "0.9",
    "RAY_object_spilling_directory": "/scratch",
    "RAY_BACKEND_LOG_LEVEL": "debug",
    "PYTHONPATH": "/somewhere",
    "PYTHONHASHSEED": "0",
    "LD_PRELOAD": "",
    "AWS_PROFILE": "mine",
}


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**HARMFUL, **WISHES, "RAY_AUTH_MODE": "disabled"}.items():
        monkeypatch.setenv(name, value)


def test_a_head_gets_an_operators_wishes_and_none_of_what_was_meant_for_others(
    shell: None, tmp_path: Path
) -> None:
    found = launch._head_environment(tmp_path, tmp_path / "token", "/usr/bin/python3")
    assert {name: found[name] for name in WISHES} == WISHES
    assert not HARMFUL.keys() & found.keys()
    assert found["RAY_AUTH_MODE"] == "token"
    assert found["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] == "0"
    assert found["PYTHONUTF8"] == "1"


def test_what_is_not_passed_on_is_told_in_one_line_with_the_way_to_pass_it_on(shell: None) -> None:
    text = environment.dropped_text(environment.inherited(launch.head_settings(Path())).dropped)
    assert "\n" not in text
    assert all(name in text for name in HARMFUL)
    assert not any(name in text for name in WISHES)
    assert "MUSTER_KEEP_RAY=" in text
    assert "RAY_AUTH_MODE" in text  # it was set to something else than what the head has


def test_a_name_that_is_to_be_kept_is(shell: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUSTER_KEEP_RAY", "RAY_grpc_enable_http_proxy, PYTHONMALLOC")
    found = launch._head_environment(tmp_path, tmp_path / "token", "/usr/bin/python3")
    assert found["RAY_grpc_enable_http_proxy"] == "1"
    assert found["PYTHONMALLOC"] == "debug"
    assert "RAY_USE_TLS" not in found


def test_a_shell_with_nothing_to_drop_is_not_spoken_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"PATH": "/bin", "RAY_USAGE_STATS_ENABLED": "1", **WISHES})
    assert environment.dropped_text(environment.inherited({}).dropped) == ""


def test_a_failing_head_names_the_variables_that_may_be_to_blame(shell: None, tmp_path: Path) -> None:
    (tmp_path / "head.log").write_text("\x1b[31mboom\x1b[0m\n")
    words = launch.last_words(tmp_path)
    assert "  boom\n" in words
    assert all(name in words for name in ("RAY_USE_TLS", "PYTHONWARNINGS", "LD_PRELOAD", "BASH_ENV"))
    assert "of another cluster" not in words  # a value can be a secret


def test_every_name_on_the_list_is_one_that_the_installed_ray_reads() -> None:
    """So that the list can't rot in silence when Ray renames a setting."""
    root = Path(ray.__file__).parent
    python = {
        name for path in root.rglob("*.py") for name in re.findall(rb"RAY_\w+|[a-z]+_\w+", path.read_bytes())
    }
    raylet = (root / "core/src/ray/raylet/raylet").read_bytes()
    for name in (kept for kept in environment.KEPT if kept.startswith("RAY_")):
        short = name.removeprefix("RAY_").encode()
        assert name.encode() in python or short in raylet or name.encode() in raylet, name
