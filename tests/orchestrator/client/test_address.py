"""A cluster that is only reached by its address: paths are its own, and muster's code travels with the job."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.cluster import local
from tests.cli import Muster
from tests.orchestrator.jobs.search.searches import tiny_members

pytestmark = pytest.mark.long  # see pyproject.toml

#: On a cluster that others run nothing trains on CPUs unless this is said.
ON_CPUS = ["--gpus-per-member", 0]


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory, muster_without_cluster: Muster) -> Iterator[Muster]:
    """The command line of somebody who has the cluster's address and its token, and no local head."""
    home = tmp_path_factory.mktemp("far")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUSTER_STATE_DIR", str(home / "state"))
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        head = local.start(num_cpus=2)
        env = {**muster_without_cluster.env, "MUSTER_STATE_DIR": str(home / "elsewhere")}
        env |= {
            "RAY_AUTH_TOKEN_PATH": head.token_path,
            "MUSTER_ADDRESS": head.dashboard_url,
            "FAR": head.temp_dir,
        }
        yield Muster(env)
        local.stop(head)


def test_a_launch_by_address_sends_the_code_and_runs(
    far: Muster, small: list[object], tmp_path: Path
) -> None:
    answer = far(*small, *ON_CPUS, "--L", 2, "--storage", tmp_path, "--name", "sent", "--json").document
    assert answer["models"] == {"asked": 2, "reused": 0, "trained": 2, "failed": 0}
    sent = [path.parent.name for path in Path(far.env["FAR"]).rglob("orchestrator/jobs/entry.py")]
    assert sent  # unpacked by the cluster, beside the installed copy


def test_what_only_the_cluster_can_check_comes_back_with_its_message_and_code(
    far: Muster, small: list[object], tmp_path: Path
) -> None:
    ran = far(*small, *ON_CPUS, "--D", 50, "--storage", tmp_path, code=2)
    assert "D = 50" in ran.err
    assert "2..12" in ran.err
    assert not (tmp_path / "models").exists()


def test_relative_paths_are_refused_with_an_address(far: Muster, small: list[object]) -> None:
    assert "absolute path" in far(*small, "--storage", "here", code=2).err


def test_without_the_token_the_cluster_refuses(far: Muster, small: list[object], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("wrong")
    stranger = Muster({**far.env, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")})
    ran = stranger(*small, "--L", 1, "--storage", tmp_path / "store", code=2)
    assert "RAY_AUTH_TOKEN" in ran.err


def test_a_search_by_address_runs_on_the_cluster(far: Muster, shapes: Path, tmp_path: Path) -> None:
    flags = [
        "search",
        *tiny_members(shapes),
        *ON_CPUS,
        "--max-L",
        2,
        "--val-classes",
        4,
        "--storage",
        tmp_path,
    ]
    answer = far(*flags, "--D", "2,3", "--name", "sent", "--json").document
    assert answer["state"] == "done"
    assert answer["cost"]["trained"] == 4
    assert (tmp_path / "runs/sent/plots/by_L.png").stat().st_size > 0
    ran = far(*flags, "--D", "2,50", "--name", "wrong", code=2)
    assert "D = 50" in ran.err
