"""Ray's Jobs API, as much of it as muster uses: submit, look, follow the log, stop.

Every wait on the network is bounded, every failure is a `ClusterError`. Knows nothing of what a job does,
and keeps nothing between calls but the connection's address. Ray is imported at the first connection.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muster.cluster import address as addresses
from muster.cluster import dashboard
from muster.cluster.errors import ClusterError, UnreachableError
from muster.cluster.follow import follow
from muster.cluster.text import without_colours

_CONNECT_S, _ANSWER_S = 5.0, 60.0
_SUBMIT_PATIENCE_S = 60.0


@dataclass(frozen=True)
class JobInfo:
    """What the cluster says of one job. Times are seconds since the epoch."""

    submission_id: str
    status: str  # PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED
    message: str = ""  # for a failed job: the reason, with the last lines of its log
    exit_code: int | None = None  # of the entrypoint; None until it ended by itself
    started: float | None = None
    ended: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether the status is final."""
        return self.status in dashboard.FINAL


@dataclass(frozen=True)
class ClusterNode:
    """A machine of the cluster."""

    host: str
    address: str
    cpus: int
    memory: int
    "Bytes."
    memory_free: int
    gpus: list[dict[str, Any]]
    "Of each, by the driver: name, uuid, memory_mb, used_mb and busy_percent, the last two of a moment ago."


def connect(address: str = "auto", *, token_path: Path | None = None) -> Jobs:
    """Reach the cluster at `address`: http://host:8265, https://host, host:8265, or auto for the local head.

    The token comes from `token_path`, else from the local head's record if it is that head, else from
    RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token. Raises within about ten seconds:
    `UnreachableError` when nobody answers, `ClusterError` when authentication fails, is missing on a
    cluster that others can reach, or the address is of another form.
    """
    door = addresses.resolve(address, token_path)
    try:
        ray_version = dashboard.knock(door.url, door.token)
    except UnreachableError:
        if door.head:
            door.head.check()
        raise
    return Jobs(door, ray_version)


class Jobs:
    """The jobs of one cluster. Made by `connect`."""

    def __init__(self, door: addresses.Door, ray_version: str) -> None:
        self.url = door.url
        self.ray_version = ray_version  # the cluster's
        self._token, self._head = door.token, door.head
        with self._asking("connect"):
            self._client = _client(door.url, door.token)

    def submit(
        self,
        entrypoint: str,
        submission_id: str,
        env_vars: Mapping[str, str],
        py_modules: Sequence[Path] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Start `entrypoint` (a shell command: begin it with `exec` to get signals) as job `submission_id`.

        `py_modules` are folders of packages that travel with the job, 100 MiB in all. Waits while the
        cluster has no agent to take the job yet. Raises `ClusterError` if the id was used before, or holds
        other than letters, digits, dots, dashes and underscores (it becomes a file name and part of a URL).
        """
        if not re.fullmatch(r"[\w.-]+", submission_id, re.ASCII):
            raise ClusterError(
                f"{submission_id!r} cannot name a job: use letters, digits, '.', '-' and '_'.", 2
            )
        runtime_env: dict[str, Any] = {"env_vars": dict(env_vars)}
        if py_modules:
            runtime_env["py_modules"] = [str(module) for module in py_modules]
        deadline = time.monotonic() + _SUBMIT_PATIENCE_S
        lost = False
        while True:
            try:
                with self._asking(f"submit {submission_id}"):
                    found: str = self._client.submit_job(
                        entrypoint=entrypoint,
                        submission_id=submission_id,
                        runtime_env=runtime_env,
                        metadata=dict(metadata or {}),
                    )
                    return found
            except UnreachableError:
                # The answer was lost, or the request: asking again is safe, as the id is ours.
                lost = True
                if time.monotonic() > deadline:
                    raise
            except ClusterError as error:
                if lost and _USED_BEFORE in str(error):
                    return submission_id
                if _NO_AGENT not in str(error) or time.monotonic() > deadline:
                    raise
                if self._head:
                    self._head.check()
            time.sleep(0.5)

    def info(self, submission_id: str) -> JobInfo:
        """All that is known of one job. Raises `ClusterError` if there is none of this name."""
        with self._asking(f"look up {submission_id}"):
            return _info(self._client.get_job_info(submission_id))

    def list(self, prefix: str = "") -> list[JobInfo]:
        """The submitted jobs whose id begins with `prefix`, in the order of their start."""
        with self._asking("list jobs"):
            found = self._client.list_jobs()
        ours = [
            _info(job) for job in found if (job.submission_id or "").startswith(prefix) and job.submission_id
        ]
        return sorted(ours, key=lambda job: job.started or float("inf"))

    def tail(self, submission_id: str) -> Iterator[str]:
        """The lines of the job's log from its beginning, as they are written, until the job ends.

        Lines come whole, once each, without their newline; a broken connection is taken up again where it
        ended. Cannot be used inside a running event loop. Raises `ClusterError` for an unknown job, at
        once, and `UnreachableError` when the cluster is gone for two minutes.
        """
        self.info(submission_id)
        return follow(self, submission_id)

    def wait(self, submission_id: str, timeout_s: float | None = None) -> JobInfo:
        """Wait until the job ended, asking less and less often. Raises `ClusterError` after `timeout_s`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        pause = 0.1
        while not (info := self.info(submission_id)).done:
            if deadline is not None and time.monotonic() > deadline:
                raise ClusterError(f"job {submission_id} is still {info.status} after {timeout_s:g} s.")
            time.sleep(pause)
            pause = min(pause * 1.5, 5.0)
        return info

    def stop(self, submission_id: str) -> bool:
        """Ask the cluster to stop a job (SIGTERM, later SIGKILL) without waiting; False if it ran no more."""
        if self.info(submission_id).done:  # Ray says True until the job's supervisor is gone, a moment later
            return False
        with self._asking(f"stop {submission_id}"):
            return bool(self._client.stop_job(submission_id))

    def log(self, submission_id: str) -> str:
        """The whole log so far."""
        with self._asking(f"read the log of {submission_id}"):
            return str(self._client.get_job_logs(submission_id))

    def nodes(self) -> Sequence[ClusterNode]:
        """The nodes that are alive, by what their agents told the dashboard last."""
        with self._asking("list the nodes"):
            answer = dashboard.get(f"{self.url}/nodes?view=summary", self._token, timeout_s=10.0)
            if answer.status != 200:
                raise ValueError(f"HTTP {answer.status}")
            rows = json.loads(answer.body)["data"]["summary"]
        return [_node(row) for row in rows if row.get("raylet", {}).get("state", "ALIVE") == "ALIVE"]

    @property
    def headers(self) -> dict[str, str]:
        """What identifies us to the cluster; holds the token."""
        return dashboard.auth_headers(self._token)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Turn what Ray's client raises into errors that say what was asked, of whom, and what to do."""
        import requests
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise ClusterError(
                f"cannot {what}: {self.url} refuses the token. Set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH.",
                exit_code=2,
            ) from error
        except (requests.ConnectionError, requests.Timeout, ConnectionError) as error:
            if self._head:  # one that has ended will not answer later
                self._head.check()
            raise UnreachableError(
                f"cannot {what}: {self.url} does not answer any more ({type(error).__name__})."
            ) from error
        except (RuntimeError, ValueError, requests.RequestException) as error:
            if re.search(r"status code 50[234]", str(error)):  # a gateway speaks for a dashboard that is away
                raise UnreachableError(f"cannot {what}: {self.url} is not there for now.") from error
            raise ClusterError(f"cannot {what} at {self.url}: {_explain(str(error))}") from error


_NO_AGENT = "No available agent"
_USED_BEFORE = "was used before on this cluster"


def _explain(text: str) -> str:
    """Ray answers with a traceback of its own; its last line is what a reader needs."""
    if "already exists" in text:
        return f"this id {_USED_BEFORE}. Choose another."
    if "status code 413" in text:
        return (
            "the code that travels with the job is larger than the cluster takes (100 MiB). Send less of it."
        )
    if "status code 404" in text:
        return "there is no such job."
    lines = [line for line in without_colours(text).splitlines() if re.search(r"\w", line)]
    return lines[-1].strip() if lines else "Ray gave no reason."


def _node(row: Any) -> ClusterNode:
    memory = row.get("mem") or (0, 0)
    gpus = [
        {
            "name": gpu["name"],
            "uuid": gpu["uuid"],
            "memory_mb": gpu["memoryTotal"],
            "used_mb": gpu["memoryUsed"],
            "busy_percent": gpu["utilizationGpu"],
        }
        for gpu in row.get("gpus") or []
    ]
    cpus = (row.get("cpus") or (0,))[0]
    return ClusterNode(
        row.get("hostname", ""), row.get("ip", ""), int(cpus), int(memory[0]), int(memory[1]), gpus
    )


def _info(job: Any) -> JobInfo:
    def seconds(ms: int | None) -> float | None:
        return ms / 1000 if ms else None

    return JobInfo(
        submission_id=job.submission_id,
        status=str(getattr(job.status, "value", job.status)),
        message=without_colours(job.message or ""),
        exit_code=job.driver_exit_code,
        started=seconds(job.start_time),
        ended=seconds(job.end_time),
        metadata=job.metadata or {},
    )


def _client(url: str, token: str | None) -> Any:
    """Ray's client, quiet, with time limits on each request, and bound to `url` whatever the environment says."""
    # Explicit, as an unset mode makes Ray warn; but a choice that was made for this process stands.
    # Our requests do not depend on it: their header is given.
    os.environ.setdefault("RAY_AUTH_MODE", "token" if token else "disabled")
    from ray.job_submission import JobSubmissionClient

    for name in ("ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk", "ray._private"):
        logging.getLogger(name).setLevel(logging.WARNING)
    defaults: dict[str, Any] = {"timeout": (_CONNECT_S, _ANSWER_S)}
    if dashboard.is_loopback(url):
        defaults["proxies"] = {"http": None, "https": None, "all": None}

    class BoundedClient(JobSubmissionClient):
        def _do_request(self, method: str, endpoint: str, **kwargs: Any) -> Any:
            return super()._do_request(method, endpoint, **{**defaults, **kwargs})

    with _without("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):  # these would override the address given
        return BoundedClient(
            url, headers=dashboard.auth_headers(token), verify=os.environ.get("SSL_CERT_FILE") or True
        )


@contextmanager
def _without(*names: str) -> Iterator[None]:
    taken = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(taken)
