"""Every port of a head and of a job on it, asked without the token: none is open to the network, none takes an order,
and the few that answer are listed here with what they give away."""

from __future__ import annotations

import http.client
import shlex
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import psutil
import pytest

from muster.cluster import jobs, local, procs

#: What a stranger would ask of each of Ray's services. Whoever may call one of these owns the cluster, or reads it.
CALLS = (
    "JobInfoGcsService/GetAllJobInfo", "NodeInfoGcsService/GetAllNodeInfo", "ActorInfoGcsService/GetAllActorInfo",
    "ActorInfoGcsService/CreateActor", "ActorInfoGcsService/KillActorViaGcs",
    "InternalKVGcsService/InternalKVKeys", "InternalKVGcsService/InternalKVGet", "InternalKVGcsService/InternalKVPut",
    "NodeManagerService/GetNodeStats", "NodeManagerService/RequestWorkerLease", "NodeManagerService/GetSystemConfig",
    "NodeManagerService/ShutdownRaylet", "ObjectManagerService/Pull", "ObjectManagerService/FreeObjects",
    "RayletDriver/Init", "RayletDriver/GetObject", "RayletDriver/ClusterInfo", "RayletDriver/Schedule",
    "CoreWorkerService/PushTask", "CoreWorkerService/GetCoreWorkerStats", "CoreWorkerService/KillActor",
    "ReporterService/GetTraceback", "ReporterService/CpuProfiling", "LogService/ListLogs",
)  # fmt: skip
REFUSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
#: Paths that an HTTP server of Ray's might have: what they hold is nobody's but the owner's.
PATHS = (
    "/api/jobs/", "/api/version", "/api/cluster_status", "/nodes?view=summary", "/logs/", "/api/v0/tasks",
    "/api/v0/logs",
    "/api/packages/gcs/x", "/get_or_create_runtime_env", "/worker/traceback?pid=1", "/api/serve/applications/",
    "/api/actors/kill?actor_id=x", "/events", "/timezone",
)  # fmt: skip
#: Answers without a token, what each is known by, and why it may be. All are on loopback: only who has an account on
#: this machine can ask at all.
OPEN_PAGES = {
    "the dashboard's empty page": b"<!doctype html>",  # a program for browsers; all that it shows it asks for by token
    "counts for Prometheus": b"# HELP",  # numbers and names of Ray's processes, to be read; nothing can be sent
}
#: What the dashboard tells before it asks for the token, so that a client can know that it has to.
OPEN_PATHS = {"/api/version", "/api/authentication_mode", "/timezone"}
WITHIN_S = 5.0


class Listener(NamedTuple):
    what: str
    ip: str
    port: int


def listeners(head: local.LocalHead) -> Iterator[Listener]:
    """Of all processes of a head."""
    for pid in procs.of_head(head.temp_dir, head.pid):
        try:
            process = psutil.Process(pid)
            name = " ".join(process.cmdline())[:120].strip()
            for one in process.net_connections(kind="inet"):
                assert one.type.name == "SOCK_STREAM", f"{name} hears datagrams at {one.laddr}"
                if one.status == psutil.CONN_LISTEN:
                    yield Listener(name, one.laddr.ip, one.laddr.port)
        except psutil.NoSuchProcess:
            continue


@pytest.fixture(scope="module")
def found(head: local.LocalHead, cluster: jobs.Jobs) -> Iterator[list[Listener]]:
    """Those of the head and of a job that has a driver, a task and an actor, and runs as long as they are asked."""
    code = (
        "import ray, time; ray.init(log_to_driver=False)\n"
        "class A:\n def wait(self): time.sleep(600)\n"
        "a = ray.remote(A).options(num_cpus=0.1).remote()\n"
        "t = ray.remote(num_cpus=0.1)(time.sleep).remote(600)\n"
        "ray.get(ray.remote(num_cpus=0.1)(len).remote('up')); print('up', flush=True); ray.get(a.wait.remote())"
    )
    cluster.submit(f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)}", "listens-1", {})
    deadline = time.monotonic() + 60
    while "up" not in cluster.log("listens-1"):
        assert time.monotonic() < deadline, cluster.log("listens-1")
        time.sleep(0.2)
    yield list(listeners(head))
    cluster.stop("listens-1")
    cluster.wait("listens-1", timeout_s=60)


def test_all_that_a_head_is_made_of_was_found(found: list[Listener]) -> None:
    names = " ".join(one.what for one in found)
    for part in (
        "gcs_server",
        "ray.util.client.server",
        "dashboard.py",
        "raylet",
        "DashboardAgent",
        "RuntimeEnvAgent",
    ):
        assert part in names
    assert len(found) >= 10


def test_no_port_is_open_to_the_network(found: list[Listener]) -> None:
    assert {one.ip for one in found} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@pytest.fixture(scope="module")
def answers(head: local.LocalHead, found: list[Listener]) -> dict[Listener, str]:
    """What each of them is: "http", or "grpc"."""
    alive, kinds = ports(head), {}
    for one in (one for one in found if one.port in alive):
        try:
            kinds[one] = _speaks(one.port)
        except ConnectionRefusedError:  # its process has ended meanwhile
            assert one.port not in ports(head), one
    return kinds


def ports(head: local.LocalHead) -> set[int]:
    return {one.port for one in listeners(head)}


def _speaks(port: int) -> str:
    try:
        _get(port, "/")
    except http.client.BadStatusLine:
        return "grpc"
    return "http"


def _get(port: int, path: str, verb: str = "GET", token: str = "") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN_S)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(verb, path, body=b"{}" if verb == "POST" else None, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_no_http_server_tells_or_takes_anything(head: local.LocalHead, answers: dict[Listener, str]) -> None:
    token = Path(head.token_path).read_text().strip()
    servers = [one for one, kind in answers.items() if kind == "http"]
    assert len(servers) >= 4
    guarded = 0
    for one in servers:
        status, page = _get(one.port, "/")
        assert status in {401, 403} or any(
            page.lower().startswith(known.lower()) for known in OPEN_PAGES.values()
        ), one
        assert token.encode() not in page
        for verb in ("GET", "POST", "PUT", "DELETE"):
            for path in PATHS:
                status, body = _get(one.port, path, verb)
                told = 200 <= status < 400 and body != page and not body.startswith(b"# HELP")
                assert not told or (verb == "GET" and path in OPEN_PATHS), (
                    one,
                    verb,
                    path,
                    status,
                    body[:200],
                )
                guarded += status in {401, 403}
    assert guarded > 20  # so the paths are right


def test_no_grpc_server_takes_an_order(head: local.LocalHead, answers: dict[Listener, str]) -> None:
    token = Path(head.token_path).read_text().strip()
    servers = [one for one, kind in answers.items() if kind == "grpc"]
    assert len(servers) >= 8
    for one in servers:
        codes = _asked(one.port, ())
        if one.port not in ports(head):
            continue  # of a worker that had nothing to do, and has ended
        assert set(codes.values()) <= REFUSED | {grpc.StatusCode.UNIMPLEMENTED}, (one, codes)
        assert set(codes.values()) & REFUSED, f"{one}: nothing here is a service of it, so nothing was tried"
        wrong = _asked(one.port, (("authorization", "Bearer " + "0" * len(token)),))
        assert set(wrong.values()) <= REFUSED | {grpc.StatusCode.UNIMPLEMENTED}, (one, wrong)
    (gcs,) = [one for one in servers if "gcs_server" in one.what]
    with grpc.insecure_channel(f"127.0.0.1:{gcs.port}") as channel:  # with the token it is answered
        channel.unary_unary(f"/ray.rpc.{CALLS[0]}")(
            b"", timeout=WITHIN_S, metadata=(("authorization", f"Bearer {token}"),)
        )


def _asked(port: int, metadata: tuple[tuple[str, str], ...]) -> dict[str, grpc.StatusCode]:
    codes = {}
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for call in CALLS:
            try:
                channel.unary_unary(f"/ray.rpc.{call}")(b"", timeout=WITHIN_S, metadata=metadata)
                codes[call] = grpc.StatusCode.OK
            except grpc.RpcError as error:
                codes[call] = error.code()
    return codes


def test_sockets_in_files_lie_where_nobody_else_can_go(head: local.LocalHead) -> None:
    home = Path(head.temp_dir)
    sockets = [path for path in home.rglob("*") if path.is_socket()]
    assert sockets
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(head.token_path).stat().st_mode) == 0o600
    for pid in procs.of_head(head.temp_dir, head.pid):
        try:
            places = [one.laddr for one in psutil.Process(pid).net_connections(kind="unix") if one.laddr]
        except psutil.NoSuchProcess:
            continue
        assert all(Path(place).is_relative_to(home) for place in places if place.startswith("/")), places
