"""The one place that knows how `ray start` is called so that a head is quick, private and confined.

Owns the command line, the environment, the ports and the signs of readiness. Keeps no record and decides
nothing about heads that exist already: that is `local`.
"""

from __future__ import annotations

import importlib.metadata
import os
import random
import re
import socket
import stat
import subprocess
import sys
import tempfile
import time
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

from cluster import dashboard, procs
from cluster.errors import ClusterError

PORT_ATTEMPTS = 3
LOOPBACK = "127.0.0.1"
_USUAL_DASHBOARD_PORT = 8265
_HOME_LIMIT = 40  # characters; Ray's socket names below it must stay within AF_UNIX's 107
_LOG_LINES = 25
_children: dict[int, subprocess.Popen[bytes]] = {}  # a dropped Popen complains; a kept one can be reaped

# Ray would obey these of our caller: another cluster's address or token, or the traits of a job we run in.
_FOREIGN = (
    "RAY_ADDRESS",
    "RAY_API_SERVER_ADDRESS",
    "RAY_AUTH_TOKEN",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "RAY_NAMESPACE",
    "RAY_REDIS_ADDRESS",
    "RAY_TMPDIR",
)


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


def client_environment(token_path: Path) -> dict[str, str]:
    """Variables that make a process of this machine speak to a loopback head; Ray needs each of them."""
    return {
        # Never left to a default: an unset mode means "on" in a server and "send nothing" in a client.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path),
        # Despite its name: 0 keeps Ray on the loopback address, on Linux too. Otherwise it replaces
        # 127.0.0.1 by the machine's address and binds its servers to every interface.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def make_home() -> Path:
    """A new folder for one head, short and closed to others: Ray makes what is below world-writable."""
    base = Path(os.environ.get("MUSTER_TEMP_DIR") or f"/tmp/muster-{os.getuid()}")
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        seen = base.lstat()
    except OSError as error:
        raise ClusterError(f"cannot make {base}: {error}. Set MUSTER_TEMP_DIR to another folder.") from error
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid() or seen.st_mode & 0o022:
        raise ClusterError(
            f"{base} is not a folder that is yours and closed to others' writing. "
            "Set MUSTER_TEMP_DIR to one that is."
        )
    home = Path(tempfile.mkdtemp(prefix="", dir=base))
    if len(str(home)) > _HOME_LIMIT:
        home.rmdir()
        raise ClusterError(
            f"{base} is too long: Ray's socket names below it would pass the system's limit. "
            f"Set MUSTER_TEMP_DIR to a folder of at most {_HOME_LIMIT - 9} characters."
        )
    return home


def spawn(home: Path, token_path: Path, resources: Resources) -> tuple[subprocess.Popen[bytes], str]:
    """Start the head in a session of its own; returns its process and its dashboard's URL at once."""
    port, client_port = _free_ports()
    command = [
        # Not the `ray` on the PATH, which may be of another installation.
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head"),
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
    with (home / "head.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=_head_environment(home, token_path),
            cwd=home,  # else the head would hold on to the caller's folder, and jobs would import from it
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children[process.pid] = process
    return process, f"http://{LOOPBACK}:{port}"


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
            raise ClusterError(
                f"the local head did not come up in time. The end of its log:\n{_log_end(home)}"
            )
        time.sleep(0.05)
    log = _log_end(home)
    if re.search(r"already occupied|[Aa]ddress already in use|Failed to bind", log):
        raise PortTakenError(f"the local head found its port taken. The end of its log:\n{log}")
    raise ClusterError(
        f"the local head ended at once, with exit code {process.returncode}. The end of its log:\n{log}"
    )


def reap(pid: int) -> None:
    """Take the exit status of a head that this very process started, so that no zombie stays."""
    if process := _children.pop(pid, None):
        process.wait()


def _head_environment(home: Path, token_path: Path) -> dict[str, str]:
    scratch = home / "tmp"
    scratch.mkdir(mode=0o700)
    kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    return {
        "RAY_JOB_STOP_WAIT_TIME_S": "10",  # from SIGTERM to SIGKILL of a stopped job; Ray's 3 s are few
        **kept,
        **client_environment(token_path),
        procs.MARK: str(home),
        # Jobs that say `python` get the one that muster runs in.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        # Inside the home, so that it goes with it; a long one would also break the dashboard's sockets.
        "TMPDIR": str(scratch),
        # By default SIGTERM waits up to 30 s for a busy node to drain. Who stops a head has decided.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
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


def _log_end(home: Path) -> str:
    try:
        lines = (home / "head.log").read_text(errors="replace").splitlines()
    except OSError as error:
        return f"(no log: {error})"
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    return "\n".join(f"  {line}" for line in plain[-_LOG_LINES:]) or "  (it is empty)"
