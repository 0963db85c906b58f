"""A Ray head on this machine: bound to loopback, guarded by a token of its own, started and stopped as one.

Owns the head's record, its temporary folder and its processes. The head outlives the command that started it
while it has work; the record (one for each host, as home folders are shared) is how the next command finds it.
Never calls `ray stop`, which ends every Ray process of the user, and never touches ~/.ray. Linux only: it reads
/proc.
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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from muster.cluster import dashboard, launch, procs
from muster.cluster.errors import ClusterError, HeadDiedError

STATE_DIR = "MUSTER_STATE_DIR"
DEFAULT_OBJECT_STORE = 512 * 2**20
"""Bytes. muster's data are mapped files; the object store carries little."""
START_S = 120.0
_CLAIMS = "users"  # a file in the head's folder, locked by whoever uses the head


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
    kept: bool = True  # up until `stop`; else it ends with its last job
    num_cpus: int | None = None  # as asked for; None: Ray counted
    num_gpus: int | None = None
    code: str = ""  # the folder of the package that its interpreter finds as ours

    @property
    def alive(self) -> bool:
        """Whether its main process is the one recorded, and runs."""
        return procs.birth(self.pid) == self.born

    def check(self) -> None:
        """Raises `HeadDiedError` with the end of its log if it has ended."""
        if not self.alive:
            raise HeadDiedError(
                f"the local head {self.dashboard_url} has ended. {launch.last_words(Path(self.temp_dir))}"
            )


def start(
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    object_store_memory: int = DEFAULT_OBJECT_STORE,
    *,
    timeout_s: float = START_S,
) -> LocalHead:
    """Start a head (None: all CPUs and GPUs that Ray finds), wait until it takes jobs, and keep it up until `stop`.

    If a recorded head is alive, that one is returned and kept up from now on. Raises `ClusterError` with the end
    of the log when the head does not come up in `timeout_s`; nothing is left running then.
    """
    resources = launch.Resources(num_cpus, num_gpus, object_store_memory)
    with _locked():
        head = _recorded() or _started(resources, timeout_s, kept=True)
        if not head.kept:
            head = dataclasses.replace(head, kept=True)
            _write_record(head)
    return head


@contextmanager
def used(starting: Callable[[], None], num_cpus: int | None = None) -> Iterator[LocalHead]:
    """The local head for as long as the block runs; `starting` is called before one is started.

    A head that was started here ends once nobody uses it and its last job is over, also if this process is
    killed: a keeper of its own sees to that. One that `start` was asked for stays.
    """
    resources = launch.Resources(num_cpus, None, DEFAULT_OBJECT_STORE)
    with ExitStack() as use:
        with _locked():
            head = _recorded()
            if head is None:
                starting()
                head = _started(resources, START_S, kept=False)
            # Taken before the lock is let go: nobody can find it unused in between.
            use.enter_context(_claim(head))
        try:
            yield head
        finally:
            use.close()
            end_if_unused(head.temp_dir)


def end_if_unused(temp_dir: str) -> bool:
    """End the head with this folder unless it is to be kept, a process uses it or a job of it runs on.

    Whether there is nothing more to wait for. Raises what `stop` does.
    """
    if not _unclaimed(temp_dir):
        return False
    with _locked():
        head = _read_record()
        if head is None or head.temp_dir != temp_dir:
            return True
        started = head.alive and head.gcs_address  # else it ended, or who started it did: we have the lock
        if started and head.kept:
            return True
        if started and not (_unclaimed(temp_dir) and _idle(head)):
            return False
        _clear(head)
        return True


def find() -> LocalHead | None:
    """The recorded head of this host, if it is alive. What a dead one left behind is cleaned away."""
    head = _read_record()
    if head is None:
        return None
    if head.alive and head.gcs_address:
        return head
    try:
        with _locked(wait=not head.alive):
            # Another command may have cleaned up and started anew while we waited.
            if _read_record() == head:
                _clear(head)
                return None
    except BlockingIOError:  # it is being started just now
        return None
    return find()


def offered() -> dict[str, float]:
    """The CPUs and GPUs of the local head, or of one that would be started now, by Ray's names and counts."""
    head = find()
    cpus, gpus = (head.num_cpus, head.num_gpus) if head else (None, None)
    return {
        "CPU": launch.counted_cpus() if cpus is None else cpus,
        "GPU": launch.counted_gpus() if gpus is None else gpus,
    }


def stop(head: LocalHead) -> None:
    """End all processes of `head`, jobs included, and remove its folder and record. Fine to call twice.

    Raises `ClusterError` naming the pids if some outlive SIGKILL.
    """
    with _locked():
        _clear(head)


def _recorded() -> LocalHead | None:
    """The head that is up; what is left of a dead one, or of a start that was killed, is cleaned away."""
    recorded = _read_record()
    if recorded is None or (recorded.alive and recorded.gcs_address):
        return recorded
    _clear(recorded)
    return None


def _started(resources: launch.Resources, timeout_s: float, *, kept: bool) -> LocalHead:
    if not Path("/proc/self/stat").exists():
        raise ClusterError(
            f"a local head needs Linux; this is {platform.system()}. Name a cluster: --address http://host:8265.",
            exit_code=2,
        )
    deadline = time.monotonic() + timeout_s
    for _ in range(launch.PORT_ATTEMPTS - 1):
        try:
            return _start_once(resources, deadline, kept)
        except launch.PortTakenError:
            continue
    return _start_once(resources, deadline, kept)


def _start_once(resources: launch.Resources, deadline: float, kept: bool) -> LocalHead:
    home = launch.make_home()
    token_path = home / "token"
    try:
        with launch.told(home, "MUSTER_TEMP_DIR"):
            token_path.touch(mode=0o600)
            token_path.write_text(secrets.token_hex(32))
        process, dashboard_url = launch.spawn(home, token_path, resources)
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
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
        kept=kept,
        num_cpus=resources.num_cpus,
        num_gpus=resources.num_gpus,
        code=launch.code_folder(),
    )
    try:
        # Recorded before it is ready: if we are killed now, its keeper or the next command cleans it away.
        _write_record(head)
        launch.spawn_keeper(home, {STATE_DIR: str(state_dir())})
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


@contextmanager
def _claim(head: LocalHead) -> Iterator[None]:
    """A lock on the head's folder, shared by those who use it. It ends with its holder, however that ends."""
    with (Path(head.temp_dir) / _CLAIMS).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def _unclaimed(temp_dir: str) -> bool:
    try:
        with (Path(temp_dir) / _CLAIMS).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except OSError:  # the folder is gone
        return True


def _idle(head: LocalHead) -> bool:
    """Whether it has no job that is not over. One that does not answer just now may have."""
    try:
        return not dashboard.unfinished_jobs(head.dashboard_url, Path(head.token_path).read_text().strip())
    except (OSError, HTTPException, ValueError):
        return False


def state_dir() -> Path:
    """Where local heads are recorded."""
    if chosen := os.environ.get(STATE_DIR, "").strip():
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_STATE_HOME", "").strip() or Path.home() / ".local" / "state") / "muster"


def _record_path() -> Path:
    return state_dir() / f"head-{platform.node() or 'localhost'}.json"


def _read_record() -> LocalHead | None:
    path = _record_path()
    try:
        raw = json.loads(path.read_text())
        known = {field.name: raw[field.name] for field in dataclasses.fields(LocalHead) if field.name in raw}
        return LocalHead(**known)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        # Damaged or of another version: of no use to anybody.
        with launch.told(path.parent, STATE_DIR):
            path.unlink(missing_ok=True)
        return None
    except OSError as error:
        raise ClusterError(
            f"cannot read {path}, where the local head is recorded: {error.strerror}. Set {STATE_DIR} to a folder of "
            "your own.",
            exit_code=2,
        ) from error


def _write_record(head: LocalHead) -> None:
    path = _record_path()
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    with launch.told(path.parent, STATE_DIR):
        beside.write_text(json.dumps(dataclasses.asdict(head), indent=1) + "\n")
        os.replace(beside, path)


@contextmanager
def _locked(*, wait: bool = True) -> Iterator[None]:
    """One command at a time starts, cleans or stops. The lock dies with its holder.

    Raises BlockingIOError if another has it and we are not to wait.
    """
    folder = state_dir()
    with launch.told(folder, STATE_DIR):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / f"{_record_path().stem}.lock").open("w")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
