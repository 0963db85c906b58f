"""Getting in, and being kept out: addresses, tokens, and errors that name the cure."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from muster.cluster import address, dashboard, jobs, local
from muster.cluster.errors import ClusterError, UnreachableError


def test_without_a_token_the_api_answers_401(head: local.LocalHead) -> None:
    assert dashboard.get(f"{head.dashboard_url}/api/jobs/").status == 401
    assert dashboard.get(f"{head.dashboard_url}/api/jobs/", "wrong").status == 403


def test_a_missing_token_names_the_variables(head: local.LocalHead, elsewhere: Path) -> None:
    with pytest.raises(ClusterError, match="RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH") as caught:
        jobs.connect(head.dashboard_url)
    assert caught.value.exit_code == 2


def test_a_wrong_token_is_told_as_such(
    head: local.LocalHead, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    with pytest.raises(ClusterError, match=r"refuses the token.*RAY_AUTH_TOKEN_PATH") as caught:
        jobs.connect(head.dashboard_url)
    assert caught.value.exit_code == 2


def test_a_token_file_lets_in(head: local.LocalHead, elsewhere: Path) -> None:
    host_and_port = head.dashboard_url.removeprefix("http://")
    found = jobs.connect(host_and_port, token_path=Path(head.token_path))
    assert isinstance(found.list(), list)  # it was asked, and answered
    assert found.ray_version == head.ray_version


def test_the_local_heads_own_token_wins_over_the_environments(
    head: local.LocalHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of another cluster")
    assert jobs.connect(head.dashboard_url.replace("127.0.0.1", "localhost")).ray_version == head.ray_version


def test_the_address_given_wins_over_the_environments(
    head: local.LocalHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    assert jobs.connect("auto").ray_version == head.ray_version


def test_a_dead_address_fails_at_once(elsewhere: Path, free_port: int) -> None:
    with pytest.raises(UnreachableError, match="nobody answers at") as caught:
        jobs.connect(f"127.0.0.1:{free_port}")
    assert caught.value.exit_code == 2


def test_a_silent_address_fails_in_time(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "_PATIENCE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes the connection and says nothing
        before = time.monotonic()
        with pytest.raises(UnreachableError, match="nobody answers at"):
            jobs.connect(f"http://127.0.0.1:{mute.getsockname()[1]}")
        assert time.monotonic() - before < 5


def test_auto_without_a_head_says_so(elsewhere: Path) -> None:
    with pytest.raises(ClusterError, match="no local head runs"):
        jobs.connect("auto")


def test_an_unreadable_token_file_is_named(elsewhere: Path, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"nowhere cannot be read"):
        jobs.connect("http://127.0.0.1:9", token_path=tmp_path / "nowhere")
    (tmp_path / "empty").touch()
    with pytest.raises(ClusterError, match=r"empty is empty"):
        jobs.connect("http://127.0.0.1:9", token_path=tmp_path / "empty")


def test_ray_is_not_imported_before_a_cluster_is_reached() -> None:
    code = (
        "import sys, muster.cluster.jobs as jobs; jobs.addresses.local.find(); sys.exit('ray' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_open_cluster_is_refused_unless_it_is_ours_or_allowed(
    elsewhere: Path, open_cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dashboard.knock(open_cluster, None) == "2.60.0"
    monkeypatch.setattr(dashboard, "is_loopback", lambda url: False)
    with pytest.raises(ClusterError, match=dashboard.ALLOW_OPEN):
        dashboard.knock(open_cluster, None)
    monkeypatch.setenv(dashboard.ALLOW_OPEN, "1")
    assert dashboard.knock(open_cluster, None) == "2.60.0"


def test_an_open_cluster_is_not_shown_the_token(open_cluster: str) -> None:
    dashboard.knock(open_cluster, "secret")
    assert FakeDashboard.tokens_seen == [None, None]


def test_what_is_no_dashboard_is_told_as_such(
    elsewhere: Path, open_cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeDashboard, "pages", {"/api/authentication_mode": b"<html>sign in</html>"})
    with pytest.raises(ClusterError, match="not like the dashboard") as caught:
        jobs.connect(open_cluster)
    assert caught.value.exit_code == 2
    monkeypatch.setattr(FakeDashboard, "pages", {})
    with pytest.raises(ClusterError, match="HTTP 302"):
        jobs.connect(open_cluster)


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("http://host:8265", "http://host:8265"),
        ("http://host:8265/", "http://host:8265"),
        ("https://gate/ray/", "https://gate/ray"),
        ("host:8265", "http://host:8265"),
        ("10.0.0.1:8265", "http://10.0.0.1:8265"),
        ("[::1]:8265", "http://[::1]:8265"),
    ],
)
def test_addresses_are_understood(typed: str, url: str) -> None:
    assert address.parse(typed) == url


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "host",
        "ray://host:10001",
        "ftp://host",
        "http://",
        "http://u:p@host:1",
        "host:port",
        "http://h:99999",
    ],
)
def test_other_addresses_are_refused_with_the_forms_that_work(typed: str) -> None:
    with pytest.raises(ClusterError, match="http://host:8265") as caught:
        address.parse(typed)
    assert caught.value.exit_code == 2


class FakeDashboard(BaseHTTPRequestHandler):
    """A dashboard without authentication. A page that it does not have redirects elsewhere."""

    pages: dict[str, bytes] = {  # noqa: RUF012 - replaced as a whole by tests
        "/api/authentication_mode": b'{"authentication_mode": "disabled"}',
        "/api/version": b'{"ray_version": "2.60.0"}',
    }
    tokens_seen: list[str | None] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.tokens_seen.append(self.headers.get("Authorization"))
        page = self.pages.get(self.path)
        self.send_response(200 if page else 302)
        self.send_header("Location", "http://192.0.2.1/")
        self.end_headers()
        self.wfile.write(page or b"")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def open_cluster() -> Iterator[str]:
    FakeDashboard.tokens_seen.clear()
    with HTTPServer(("127.0.0.1", 0), FakeDashboard) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
