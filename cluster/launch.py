"""The one place that knows how `ray start` is called so that a head is quick, private and confined.

Owns the command line, the environment, the ports and the signs of readiness. Keeps no record and decides
nothing about heads that exist already: that is `local`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import random
import re
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

from muster.cluster import dashboard, procs
from muster.cluster.environment import inherited, suspects
from muster.cluster.errors import ClusterError, HeadDiedError
from muster.cluster.text import printable, without_colours

PORT_ATTEMPTS = 3
LOOPBACK = "127.0.0.1"
_USUAL_DASHBOARD_PORT = 8265
_HOME_LIMIT = 40  # characters; Ray's socket names below it must stay within AF_UNIX's 107
_LOG_LINES = 25
_children: dict[int, subprocess.Popen[bytes]] = {}  # a dropped Popen complains; a kept one can be reaped

#: A path of these alone survives Ray's command lines: the raylet splits those of its agents at blanks.
_PLAIN = re.compile(r"[A-Za-z0-9@%+=,./_-]+")


class Resources(NamedTuple):
    """What the head offers; None lets Ray count."""

    num_cpus: int | None
    num_gpus: int | None
    object_store_memory: int  # bytes


class PortTakenError(ClusterError):
    """A port was free when it was chosen and taken when Ray came to bind it."""


def ray_version() -> str:
    """The installed Ray's version, without importing Ray."""
    return importlib.metadata.version("ray")


def counted_cpus() -> int:
    """This machine's CPUs, as a head counts them that is not told."""
    from ray._private.utils import get_num_cpus

    return int(get_num_cpus())


def counted_gpus() -> int:
    """This machine's GPUs, as a head counts them that is not told."""
    from ray._private.accelerators import get_accelerator_manager_for_resource

    manager = get_accelerator_manager_for_resource("GPU")
    assert manager is not None
    visible = manager.get_current_process_visible_accelerator_ids()
    there = int(manager.get_current_node_num_accelerators())
    return there if visible is None else min(there, len(visible))


def head_settings(token_path: Path) -> dict[str, str]:
    """Variables that every process of a loopback head has, whatever the caller's shell says."""
    return {
        # Never left to a default: an unset mode means "on" in a server and "send nothing" in a client.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path),
        # Despite its name: 0 keeps Ray on the loopback address, on Linux too. Otherwise it replaces
        # 127.0.0.1 by the machine's address and binds its servers to every interface.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Else a process below `uv run` asks Ray to build an environment by uv again, on a head that can't.
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        # Names of files are UTF-8 to us; under a locale that is not, Python would take them for something else.
        "PYTHONUTF8": "1",
        # By default SIGTERM waits up to 30 s for a busy node to drain. Who stops a head has decided.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    }


def temp_base() -> Path:
    """Where the folders of local heads are."""
    return Path(os.environ.get("MUSTER_TEMP_DIR", "").strip() or f"/tmp/muster-{os.getuid()}").expanduser()


def make_home() -> Path:
    """A new folder for one head, short and closed to others: Ray makes what is below world-writable."""
    base = temp_base()
    if problem := temp_problem(base):
        raise ClusterError(problem, exit_code=2)
    with told(base, "MUSTER_TEMP_DIR"):
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="", dir=base))


def temp_problem(base: Path) -> str:
    """Why no head's folder can be below `base`, "" if one can; whether it can be written is not asked."""
    if not base.is_absolute() or not _PLAIN.fullmatch(str(base)):
        return (
            f"{base}: Ray's command lines take a folder for temporary files only by an absolute path of plain letters, "
            "digits and ./_-. Set MUSTER_TEMP_DIR to such a folder."
        )
    try:
        seen = base.lstat()
    except OSError:  # it is not there yet, or its maker will say why not
        seen = None
    if seen and (not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid() or seen.st_mode & 0o022):
        return (
            f"{base} is not a folder that is yours and closed to others' writing. "
            "Set MUSTER_TEMP_DIR to one that is."
        )
    if len(str(base)) > _HOME_LIMIT - 9:
        return (
            f"{base} is too long: Ray's socket names below it would pass the system's limit. "
            f"Set MUSTER_TEMP_DIR to a folder of at most {_HOME_LIMIT - 9} characters."
        )
    return ""


@contextmanager
def told(folder: Path, variable: str) -> Iterator[None]:
    """Turns what the system says about one of muster's own folders into an error that names the cure."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or str(error)
        if isinstance(error, FileExistsError | NotADirectoryError):
            cause = "something that is no folder is in its way"
        raise ClusterError(
            f"cannot write to {folder}: {cause}. Free some space there, or set {variable} to a folder of your own.",
            exit_code=2,
        ) from error


def spawn(home: Path, token_path: Path, resources: Resources) -> tuple[subprocess.Popen[bytes], str]:
    """Start the head in a session of its own; returns its process and its dashboard's URL at once."""
    port, client_port = _free_ports()
    with told(home, "MUSTER_TEMP_DIR"):
        (home / "tmp").mkdir(mode=0o700)
        python, path = _plain_names(home)
        log = (home / "head.log").open("wb")
    command = [
        # Not the `ray` on the PATH, which may be of another installation.
        *(python, "-m", "ray.scripts.scripts", "start", "--head"),
        # --block keeps the parent: Ray then ties its children's lives to it, in the kernel.
        "--block",
        f"--node-ip-address={LOOPBACK}",
        f"--dashboard-host={LOOPBACK}",
        f"--dashboard-port={port}",
        # Ray Train and the Jobs API need it; True also makes a dashboard that fails to start an error.
        "--include-dashboard=true",
        # 0: bound by the kernel's choice. The fixed defaults (6379, 52365) would clash with a second head.
        *("--port=0", "--dashboard-agent-listen-port=0"),
        f"--ray-client-server-port={client_port}",  # cannot be turned off, nor be 0
        "--no-monitor",  # the autoscaler's monitor: there is nothing to scale
        f"--temp-dir={home / 'ray'}",
        f"--object-store-memory={resources.object_store_memory}",
        *([] if resources.num_cpus is None else [f"--num-cpus={resources.num_cpus}"]),
        *([] if resources.num_gpus is None else [f"--num-gpus={resources.num_gpus}"]),
    ]
    with log:
        process = subprocess.Popen(
            command,
            env={**_head_environment(home, token_path, python), **path},
            cwd=home,  # else the head would hold on to the caller's folder, and jobs would import from it
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children[process.pid] = process
    return process, f"http://{LOOPBACK}:{port}"


def spawn_keeper(home: Path, settings: dict[str, str]) -> None:
    """Start the process that ends a head once nobody needs it: it outlives whoever started the head."""
    with (home / "keeper.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", procs.KEEPER, str(home)],
            env={**os.environ, **settings, procs.MARK: str(home)},
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children[process.pid] = process


def _plain_names(home: Path) -> tuple[str, dict[str, str]]:
    """This interpreter by a path that Ray's command lines can hold, and the variables that its Ray is found with.

    Where either lies below a folder with blanks or non-ASCII letters, a link in the head's own folder stands for
    the whole environment: Python and Ray then take the link's name for their own.
    """
    ray = importlib.util.find_spec("ray")  # without importing it
    assert ray is not None
    assert ray.origin is not None
    python, site = Path(sys.executable), Path(ray.origin).parent.parent
    if all(_PLAIN.fullmatch(str(path)) for path in (python, site)):
        return str(python), {}
    environment = Path(sys.prefix) if python.is_relative_to(sys.prefix) else python.parent.parent
    (home / "env").symlink_to(environment)
    python = home / "env" / python.relative_to(environment)
    if site.is_relative_to(environment):
        return str(python), {}
    (home / "site").symlink_to(site)  # as of a user's own packages, which lie elsewhere
    known = os.environ.get("PYTHONPATH")
    return str(python), {"PYTHONPATH": os.pathsep.join([str(home / "site"), *([known] if known else [])])}


def await_ready(
    process: subprocess.Popen[bytes], home: Path, url: str, token_path: Path, deadline: float
) -> str:
    """Wait until the head takes jobs; returns the address of its GCS.

    Raises `PortTakenError`, or `ClusterError` with the end of the log, when it ends or `deadline` passes first.
    """
    token = token_path.read_text()
    while process.poll() is None:
        if gcs_address := _ready(home, url, token):
            return gcs_address
        if time.monotonic() > deadline:
            raise ClusterError(f"the local head did not come up in time. {last_words(home)}")
        time.sleep(0.05)
    log = last_words(home)
    if re.search(r"already occupied|[Aa]ddress already in use|Failed to bind", log):
        raise PortTakenError(f"the local head found its port taken. {log}")
    raise HeadDiedError(f"the local head ended at once, with exit code {process.returncode}. {log}")


def reap(pid: int) -> None:
    """Take the exit status of a head that this very process started, so that no zombie stays."""
    if process := _children.pop(pid, None):
        process.wait()


def code_folder() -> str:
    """The folder of this very code: two checkouts can share an interpreter."""
    return str(Path(__file__).resolve().parents[1])


def _head_environment(home: Path, token_path: Path, python: str) -> dict[str, str]:
    ours = head_settings(token_path)
    return {
        "RAY_JOB_STOP_WAIT_TIME_S": "10",  # from SIGTERM to SIGKILL of a stopped job; Ray's 3 s are few
        **inherited(ours).passed_on,
        **ours,
        procs.MARK: str(home),
        # Jobs that say `python` get the one that muster runs in.
        "PATH": os.pathsep.join([str(Path(python).parent), os.environ.get("PATH", os.defpath)]),
        # Inside the home, so that it goes with it; a long one would also break the dashboard's sockets.
        "TMPDIR": str(home / "tmp"),
    }


def _ready(home: Path, url: str, token: str) -> str | None:
    """The GCS address once `ray start` has written it, its job agent listens and its Jobs API answers."""
    try:
        gcs_address = (home / "ray" / "ray_current_cluster").read_text().strip()
        agent_port = next((home / "ray" / "session_latest").glob("dashboard_agent_listen_port_*")).read_text()
        socket.create_connection((LOOPBACK, int(agent_port)), timeout=1).close()
        jobs_api = dashboard.get(f"{url}/api/jobs/", token, timeout_s=2)
    except (OSError, HTTPException, StopIteration, ValueError):
        return None
    return gcs_address if gcs_address and jobs_api.status == 200 else None


def _free_ports() -> list[int]:
    """Ports for the dashboard (8265 if it is free) and the client server, free right now.

    Below the range from which the kernel takes ports for outgoing connections: those change by the second.
    """
    tried = [_USUAL_DASHBOARD_PORT, *random.Random(os.urandom(8)).sample(range(20000, 32000), 200)]
    free = []
    for port in tried:
        with socket.socket() as probe:
            # As Ray binds: a port whose last connections are still dying away counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        free.append(port)
        if len(free) == 2:
            return free
    raise ClusterError(f"no two free ports on {LOOPBACK} among {len(tried)}; see `ss -ltn`.")


def last_words(home: Path) -> str:
    """The end of a head's log, and the variables of the shell that can decide how a head comes up."""
    try:
        lines = (home / "head.log").read_text(errors="replace").splitlines()
    except OSError as error:
        lines = [f"(no log: {error.strerror})"]
    shown = [printable(without_colours(line)) for line in lines if line.strip()][-_LOG_LINES:]
    end = "\n".join(f"  {line}" for line in shown or ["(it is empty)"])
    return f"The end of its log:\n{end}\n  Set in this shell, and read by Ray, Python or the loader: {suspects()}."
