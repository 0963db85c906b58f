"""The door of a Ray cluster: is there a dashboard at this URL, which Ray is it, does it let us in.

Plain bounded HTTP from the standard library, so that a wrong address is told in seconds and without
importing Ray. Submits nothing and keeps no connection. Never follows a redirect: it would carry the token.
"""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import NamedTuple
from urllib.parse import urlsplit

from muster.cluster.errors import ClusterError, UnreachableError

ALLOW_OPEN = "MUSTER_ALLOW_OPEN_CLUSTER"
FINAL = frozenset({"STOPPED", "SUCCEEDED", "FAILED"})
"""The states in which a job is over."""
_PATIENCE_S = 9.0
_REFUSED = (401, 403)


class Answer(NamedTuple):
    status: int
    body: bytes


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine and no other."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def get(url: str, token: str | None = None, *, timeout_s: float = 5.0) -> Answer:
    """One GET; any HTTP status is an answer. Raises OSError or HTTPException when there is none."""
    # A proxy from the environment is for the world outside; it could not reach our loopback.
    proxies = urllib.request.ProxyHandler({}) if is_loopback(url) else urllib.request.ProxyHandler()
    opener = urllib.request.build_opener(proxies, _NoRedirect)
    request = urllib.request.Request(url, headers=auth_headers(token))
    try:
        with opener.open(request, timeout=timeout_s) as response:
            return Answer(response.status, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read())


def auth_headers(token: str | None) -> dict[str, str]:
    """The header by which Ray knows a client; empty without a token."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def knock(url: str, token: str | None) -> str:
    """Check that a Ray dashboard at `url` lets us in, within about ten seconds; returns its Ray version.

    Raises `UnreachableError` when nobody answers, and `ClusterError` when what answers is no Ray dashboard,
    refuses the token, or (off this machine) asks for none at all.
    """
    mode = _json(url, "/api/authentication_mode", None).get("authentication_mode")
    if mode == "disabled":
        if not is_loopback(url) and os.environ.get(ALLOW_OPEN) != "1":
            raise ClusterError(
                f"{url} runs without authentication: whoever reaches it can run code on the cluster. "
                f"Start Ray with RAY_AUTH_MODE=token, or set {ALLOW_OPEN}=1 if you mean to use it as it is.",
                exit_code=2,
            )
        token = None  # not asked for, so not shown
    elif token is None:
        raise ClusterError(
            f"{url} asks for a token and none was found. Set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a "
            "file that holds it (on the head: `ray get-auth-token`).",
            exit_code=2,
        )
    return str(_json(url, "/api/version", token).get("ray_version", "unknown"))


def unfinished_jobs(url: str, token: str | None) -> int:
    """How many jobs of the cluster, drivers of other programs among them, are not over.

    Raises OSError, HTTPException or ValueError where that can't be learnt.
    """
    answer = get(f"{url}/api/jobs/", token)
    if answer.status != 200:
        raise ValueError(f"{url} answers with HTTP {answer.status}")
    return sum(job["status"] not in FINAL for job in json.loads(answer.body))


def _json(url: str, path: str, token: str | None) -> dict[str, object]:
    answer = _in_time(lambda: get(url + path, token), url)
    if answer.status in _REFUSED:
        raise ClusterError(
            f"{url} refuses the token (HTTP {answer.status}). It must be the one that the head was started "
            "with: set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to its file.",
            exit_code=2,
        )
    try:
        parsed = json.loads(answer.body) if answer.status == 200 else None
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise ClusterError(
            f"{url} answers (HTTP {answer.status} at {path}), but not like the dashboard of Ray 2.52 or newer. "
            "Give the dashboard's address, usually port 8265; a login page in front of it is not supported.",
            exit_code=2,
        )
    return parsed


def _in_time(ask: Callable[[], Answer], url: str) -> Answer:
    """Ask in a thread and stop waiting at a deadline: no timeout of urllib covers a slow name server."""
    outcome: list[Answer | Exception] = []

    def run() -> None:
        try:
            outcome.append(ask())
        except Exception as error:  # handed to the caller's thread below
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    result = outcome[0] if outcome else TimeoutError(f"no answer in {_PATIENCE_S:.0f} s")
    if isinstance(result, Answer):
        return result
    reason = getattr(result, "reason", result)
    if isinstance(reason, ssl.SSLCertVerificationError):
        raise ClusterError(
            f"{url}: its certificate is not trusted ({reason.verify_message}). "
            "Set SSL_CERT_FILE to your authority's certificates.",
            exit_code=2,
        ) from result
    if not isinstance(result, OSError | HTTPException):
        raise result
    raise UnreachableError(
        f"nobody answers at {url} ({reason or type(result).__name__}). Is the cluster up, is this its dashboard "
        "(usually port 8265; 6379 and 10001 are not), and does a firewall or a missing tunnel stand between?"
    ) from result


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None
