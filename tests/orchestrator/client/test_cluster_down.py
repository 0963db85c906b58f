"""`muster cluster down`: a local head can be ended whatever state it is in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cli import Muster


@pytest.fixture
def own(muster_without_cluster: Muster, tmp_path: Path) -> Iterator[Muster]:
    """With a head of its own, whose dashboard hangs."""
    found = Muster({**muster_without_cluster.env, "MUSTER_STATE_DIR": str(tmp_path / "state")})
    head = psutil.Process(found("cluster", "up", "--num-cpus", 1, "--json").document["pid"])
    children = head.children(recursive=True)
    (dashboard,) = [child for child in children if "dashboard/dashboard.py" in " ".join(child.cmdline())]
    dashboard.suspend()
    yield found
    for process in filter(psutil.Process.is_running, [*children, head]):
        process.kill()


@pytest.mark.cluster
def test_a_head_that_does_not_answer_is_ended_with_yes(own: Muster) -> None:
    err = own("cluster", "down", code=2).err
    assert "Which jobs are running is not known: nobody answers at" in err
    assert "give --yes" in err
    assert own("cluster", "down", "--yes", "--json").document["stopped"]
    assert not own("cluster", "status", "--json").document["up"]
