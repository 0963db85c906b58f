"""The life of a local head: found, private, confined to loopback, gone without a trace."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from muster.cluster import jobs, launch, local, procs
from muster.cluster.errors import ClusterError

SMALL_STORE = 100 * 2**20
LOOPBACK_HEX = {
    "0100007F",  # 127.0.0.1
    "0000000000000000FFFF00000100007F",  # ::ffff:127.0.0.1
    "00000000000000000000000001000000",  # ::1
}


def test_the_head_is_found_and_started_only_once(head: local.LocalHead) -> None:
    assert local.find() == head
    assert local.start() == head


def test_token_and_folder_are_closed_to_others(head: local.LocalHead) -> None:
    assert stat.S_IMODE(Path(head.token_path).stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(head.temp_dir).stat().st_mode) == 0o700
    assert len(head.temp_dir) <= 40


def test_the_dashboard_is_where_the_record_says(head: local.LocalHead) -> None:
    port = urlsplit(head.dashboard_url).port
    assert port in {where[1] for where in listeners().values()}


def test_everything_listens_on_loopback_only(cluster: jobs.Jobs, head: local.LocalHead) -> None:
    # An actor too: workers open ports of their own.
    code = "import ray; ray.init(); print(ray.get(ray.remote(lambda: 41).remote()) + 1)"
    cluster.submit(f'exec python -c "{code}"', "listen-1", {})
    assert "42" in list(cluster.tail("listen-1"))
    pids = processes_of(head.temp_dir)
    ours = [where for inode, where in listeners().items() if inode in sockets_of(pids)]
    assert len(ours) > 5  # gcs, raylet, agents, dashboard, workers
    assert [where for where in ours if where[0] not in LOOPBACK_HEX] == []


def test_a_head_outlives_its_starter_beside_another_and_stops_without_a_trace(
    head: local.LocalHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSTER_STATE_DIR", str(tmp_path))
    code = f"from muster.cluster import local; local.start(num_cpus=1, num_gpus=0, object_store_memory={SMALL_STORE})"
    # With pipes: a head that held on to them would keep `run` waiting for ever.
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=100)
    second = local.find()
    assert second is not None
    assert head.alive
    # A job in a session of its own that ignores SIGTERM, with a child that does too.
    cluster = jobs.connect("auto")
    cluster.submit("trap '' TERM; (trap '' TERM; sleep 600) & sleep 600", "stubborn-1", {})
    while cluster.info("stubborn-1").status == "PENDING":
        time.sleep(0.1)
    sockets = sockets_of(processes_of(second.temp_dir)) & set(listeners())
    assert sockets

    local.stop(second)

    assert processes_of(second.temp_dir) == []
    assert not sockets & set(listeners())
    assert not Path(second.temp_dir).exists()
    assert local.find() is None
    assert head.alive
    local.stop(second)  # once more does no harm


def test_a_failed_start_shows_the_log_and_leaves_nothing(elsewhere: Path, homes: list[Path]) -> None:
    with pytest.raises(ClusterError, match=r"(?s)exit code.*object_store_memory|object store"):
        local.start(object_store_memory=1)
    assert_nothing_left(homes)


def test_a_start_that_takes_too_long_leaves_nothing(elsewhere: Path, homes: list[Path]) -> None:
    with pytest.raises(ClusterError, match="did not come up in time"):
        local.start(num_cpus=1, object_store_memory=SMALL_STORE, timeout_s=0.7)
    assert_nothing_left(homes)


def test_a_taken_port_is_tried_again(
    elsewhere: Path, homes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(*args: object) -> str:
        raise launch.PortTakenError("taken")

    monkeypatch.setattr(launch, "await_ready", taken)
    with pytest.raises(launch.PortTakenError):
        local.start(num_cpus=1, object_store_memory=SMALL_STORE)
    assert len(homes) == launch.PORT_ATTEMPTS
    assert_nothing_left(homes)


def test_a_stale_record_is_cleaned_with_what_its_head_left(elsewhere: Path, tmp_path: Path) -> None:
    home = tmp_path / "left"
    home.mkdir()
    gone = subprocess.Popen(["true"])
    gone.wait()
    orphan = subprocess.Popen(["sleep", "600"], env={**os.environ, procs.MARK: str(home)})
    record = write_record(elsewhere, home, pid=gone.pid, born="long ago")
    assert local.find() is None
    assert orphan.wait(timeout=10) != 0
    assert not home.exists()
    assert not record.exists()


def test_a_reused_pid_is_not_taken_for_the_head(elsewhere: Path, tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "600"], start_new_session=True)
    write_record(elsewhere, tmp_path / "left", pid=bystander.pid, born="another boot:1")
    assert local.find() is None
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_a_head_left_half_started_is_cleaned_away(elsewhere: Path, tmp_path: Path) -> None:
    home = tmp_path / "half"
    home.mkdir()
    half = subprocess.Popen(
        ["sleep", "600"], start_new_session=True, env={**os.environ, procs.MARK: str(home)}
    )
    write_record(elsewhere, home, pid=half.pid, born=procs.birth(half.pid) or "")
    with local._locked():  # somebody is about to bring it up, so it is let be
        assert local.find() is None
    assert half.poll() is None
    assert local.find() is None  # nobody is
    assert half.wait(timeout=10) != 0
    assert not home.exists()


def test_a_damaged_record_is_dropped(elsewhere: Path, tmp_path: Path) -> None:
    record = write_record(elsewhere, tmp_path, pid=1, born="")
    record.write_text('{"pid": 1')
    assert local.find() is None
    assert not record.exists()


def test_a_long_or_shared_temp_folder_is_refused(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSTER_TEMP_DIR", str(tmp_path / ("x" * 40)))
    with pytest.raises(ClusterError, match="too long"):
        launch.make_home()
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("MUSTER_TEMP_DIR", str(shared))
    with pytest.raises(ClusterError, match="closed to others"):
        launch.make_home()
    for odd in (tmp_path / "a blank", tmp_path / "ü", Path("relative")):
        monkeypatch.setenv("MUSTER_TEMP_DIR", str(odd))
        with pytest.raises(ClusterError, match=r"plain letters.*MUSTER_TEMP_DIR"):
            launch.make_home()


@pytest.fixture
def homes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders of all heads that a test tries to start."""
    made: list[Path] = []
    make = launch.make_home

    def remembering() -> Path:
        made.append(make())
        return made[-1]

    monkeypatch.setattr(launch, "make_home", remembering)
    return made


def assert_nothing_left(homes: list[Path]) -> None:
    assert homes
    for home in homes:
        assert not home.exists()
        assert processes_of(str(home)) == []
    assert local.find() is None


def write_record(state: Path, home: Path, *, pid: int, born: str) -> Path:
    state.mkdir(exist_ok=True)
    record = local._record_path()
    assert record.parent == state
    head = local.LocalHead(
        pid=pid,
        born=born,
        dashboard_url="http://127.0.0.1:1",
        gcs_address="",
        temp_dir=str(home),
        token_path=str(home / "token"),
        ray_version="2.60.0",
        python=sys.executable,
        started=0.0,
    )
    record.write_text(json.dumps(asdict(head)))
    return record


def processes_of(home: str) -> list[int]:
    """Every process that mentions the head's folder in its command, environment or open files.

    Found without the code under test, which looks for other signs.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            files = [str(link.readlink()) for link in (entry / "fd").iterdir()]
        except OSError:
            continue
        if home.encode() in told or any(name.startswith(home) for name in files):
            found.append(int(entry.name))
    return found


def listeners() -> dict[str, tuple[str, int]]:
    """Socket inode -> (address in hex, port) of every listening TCP socket of this machine."""
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            host, port = fields[1].split(":")
            if fields[3] == "0A":
                found[fields[9]] = (host, int(port, 16))
    return found


def sockets_of(pids: list[int]) -> set[str]:
    """Inodes of all sockets that these processes hold open."""
    inodes = set()
    for pid in pids:
        try:
            links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        inodes |= {name[len("socket:[") : -1] for name in links if name.startswith("socket:[")}
    return inodes
