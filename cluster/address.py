"""From what a user types to a URL and a token. Opens no connection and imports no Ray."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from muster.cluster import local
from muster.cluster.errors import ClusterError

_ACCEPTED = "http://host:8265, https://host, host:8265 or auto (the local head)"


class Door(NamedTuple):
    """Where a cluster is asked."""

    url: str
    "The dashboard's, without a trailing slash."
    token: str | None
    "What to show there, if one is found."
    head: local.LocalHead | None
    "If it is the local head."


def resolve(address: str, token_path: Path | None = None) -> Door:
    """The door of the cluster at `address`.

    Raises `ClusterError` for an address of another form, for `auto` without a local head, and for a token
    file that was named and cannot be read.
    """
    head = local.find()
    if address == "auto":
        if head is None:
            raise ClusterError(
                "no local head runs on this machine. Start one (muster cluster up) or name a cluster: --address http://host:8265.",
                exit_code=2,
            )
        url = head.dashboard_url
    else:
        url = parse(address)
    if head is not None and not _same_door(url, head.dashboard_url):
        head = None
    return Door(url, _token(token_path, head), head)


def parse(address: str) -> str:
    """The dashboard's URL; raises `ClusterError` unless `address` is a URL or host:port."""
    if re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[\w.-]+):\d+/?", address):
        address = f"http://{address}"
    try:
        parts = urlsplit(address)
        well_formed = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        well_formed = False
    if not well_formed or parts.username or parts.query or parts.fragment:
        raise ClusterError(
            f"{address!r} is not an address of a cluster. Accepted: {_ACCEPTED}. "
            "Ray's own ports (6379, ray://host:10001) do not take jobs; its dashboard does.",
            exit_code=2,
        )
    return address.rstrip("/")


def _token(token_path: Path | None, head: local.LocalHead | None) -> str | None:
    """The first of: the file named; the local head's, if that is where we go; Ray's own places, in its order."""
    if token_path is not None:
        return _read(token_path)
    if head is not None:
        return _read(Path(head.token_path))
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    if path := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return _read(Path(path).expanduser())
    usual = Path.home() / ".ray" / "auth_token"
    return _read(usual) if usual.is_file() else None


def _read(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ClusterError(f"the token file {path} cannot be read: {error}", exit_code=2) from error
    if not token:
        raise ClusterError(f"the token file {path} is empty; put the cluster's token into it.", exit_code=2)
    return token


def _same_door(url: str, other: str) -> bool:
    one, two = urlsplit(url), urlsplit(other)
    hosts = {one.hostname, two.hostname}
    return one.port == two.port and (len(hosts) == 1 or hosts == {"localhost", "127.0.0.1"})
