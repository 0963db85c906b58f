"""A Ray head on this machine: bound to loopback, guarded by a token of its own, started and stopped as one.

Owns the head's record, its temporary folder and its processes. The head outlives the command that started
it; the record (one for each host, as home folders are shared) is how the next command finds it. Never calls
`ray stop`, which ends every Ray process of the user, and never touches ~/.ray. Linux only: it reads /proc.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import platform
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster import launch, procs
from cluster.errors import ClusterError

DEFAULT_OBJECT_STORE = 512 * 2**20
"""Bytes. muster's data are mapped files; the object store carries little."""


@dataclass(frozen=True)
class LocalHead:
    """A head as recorded. `gcs_address` is empty while it is being started."""

    pid: int
    born: str  # see procs.birth
    dashboard_url: str
    gcs_address: str
    temp_dir: str
    token_path: str
    ray_version: str
    python: str  # the interpreter that it runs on, and starts workers with
    started: float  # seconds since the epoch

    @property
    def alive(self) -> bool:
        """Whether its main process is the one recorded, and runs."""
        return procs.birth(self.pid) == self.born

    def environment(self) -> dict[str, str]:
        """What a process of this machine needs in its environment to call `ray.init(address=gcs_address)`."""
        return launch.client_environment(Path(self.token_path))


def start(
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    object_store_memory: int = DEFAULT_OBJECT_STORE,
    *,
    timeout_s: float = 120.0,
) -> LocalHead:
    """Start a head (None: all CPUs and GPUs that Ray finds) and wait until it takes jobs.

    If a recorded head is alive, that one is returned, as it is. Raises `ClusterError` with the end of the
    log when the head does not come up in `timeout_s`; nothing is left running then.
    """
    if not Path("/proc/self/stat").exists():
        raise ClusterError(
            f"a local head needs Linux; this is {platform.system()}. Name a cluster: --address http://host:8265.",
            exit_code=2,
        )
    with _locked():
        recorded = _read_record()
        if recorded and recorded.alive and recorded.gcs_address:
            return recorded
        if recorded:  # dead, or left half started by a command that was killed
            _clear(recorded)
        resources = launch.Resources(num_cpus, num_gpus, object_store_memory)
        deadline = time.monotonic() + timeout_s
        for _ in range(launch.PORT_ATTEMPTS - 1):
            try:
                return _start_once(resources, deadline)
            except launch.PortTakenError:
                continue
        return _start_once(resources, deadline)


def find() -> LocalHead | None:
    """The recorded head of this host, if it is alive. What a dead one left behind is cleaned away."""
    head = _read_record()
    if head is None:
        return None
    if head.alive:
        return head if head.gcs_address else None
    with _locked():
        # Another command may have cleaned up and started anew while we waited.
        if _read_record() == head:
            _clear(head)
            return None
    return find()


def stop(head: LocalHead) -> None:
    """End all processes of `head`, jobs included, and remove its folder and record. Fine to call twice.

    Raises `ClusterError` naming the pids if some outlive SIGKILL.
    """
    with _locked():
        _clear(head)


def _start_once(resources: launch.Resources, deadline: float) -> LocalHead:
    home = launch.make_home()
    token_path = home / "token"
    token_path.touch(mode=0o600)
    token_path.write_text(secrets.token_hex(32))
    process, dashboard_url = launch.spawn(home, token_path, resources)
    head = LocalHead(
        pid=process.pid,
        born=procs.birth(process.pid) or "",
        dashboard_url=dashboard_url,
        gcs_address="",
        temp_dir=str(home),
        token_path=str(token_path),
        ray_version=launch.ray_version(),
        python=sys.executable,
        started=time.time(),
    )
    try:
        # Recorded before it is ready: if we are killed now, the next command knows what to clean away.
        _write_record(head)
        gcs_address = launch.await_ready(process, home, dashboard_url, token_path, deadline)
        head = dataclasses.replace(head, gcs_address=gcs_address)
        _write_record(head)
    except BaseException:
        _clear(head)
        raise
    return head


def _clear(head: LocalHead) -> None:
    left = procs.end(head.temp_dir, head.pid)
    if left:
        raise ClusterError(
            f"processes {left} of the local head {head.dashboard_url} outlive SIGKILL, so it still holds its "
            "memory and devices. They wait in the kernel (a dead disk or GPU?): see `ps -o pid,stat,wchan,cmd`."
        )
    launch.reap(head.pid)
    shutil.rmtree(head.temp_dir, ignore_errors=True)
    recorded = _read_record()
    if recorded and recorded.temp_dir == head.temp_dir:
        _record_path().unlink(missing_ok=True)


def _state_dir() -> Path:
    if chosen := os.environ.get("MUSTER_STATE_DIR"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "muster"


def _record_path() -> Path:
    return _state_dir() / f"head-{platform.node() or 'localhost'}.json"


def _read_record() -> LocalHead | None:
    try:
        raw = json.loads(_record_path().read_text())
        return LocalHead(**{field.name: raw[field.name] for field in dataclasses.fields(LocalHead)})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        # Damaged or of another version: of no use to anybody.
        _record_path().unlink(missing_ok=True)
        return None


def _write_record(head: LocalHead) -> None:
    path = _record_path()
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    beside.write_text(json.dumps(dataclasses.asdict(head), indent=1) + "\n")
    os.replace(beside, path)


@contextmanager
def _locked() -> Iterator[None]:
    """One command at a time starts, cleans or stops. The lock dies with its holder."""
    folder = _state_dir()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / f"{_record_path().stem}.lock").open("w")
    except OSError as error:
        raise ClusterError(
            f"cannot write to {folder}: {error}. Set MUSTER_STATE_DIR to a folder of your own."
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
