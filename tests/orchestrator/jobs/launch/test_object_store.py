"""The whole job with the store in an S3-compatible object store, reached by the nodes over HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pyarrow.fs
import pytest

from tests.cli import Muster

pytestmark = pytest.mark.long  # see pyproject.toml


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URI of an empty folder in a bucket of a server on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _answers(f"http://127.0.0.1:{port}/moto-api/")
        options = (
            f"endpoint_override=http%3A%2F%2F127.0.0.1%3A{port}&region=us-east-1&allow_bucket_creation=true"
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", "tests")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
            filesystem, _ = pyarrow.fs.FileSystem.from_uri(f"s3://muster-tests?{options}")
            filesystem.create_dir("muster-tests")
        yield f"s3://muster-tests/store?{options}"
    finally:
        server.terminate()
        server.wait(10)


def _answers(url: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"nobody answers at {url}")


def test_a_launch_into_an_object_store_is_whole_and_reused(
    muster: Muster, small: list[object], bucket: str
) -> None:
    credentials = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}
    there = Muster({**muster.env, **credentials})
    first = there(*small, "--L", 2, "--storage", bucket, "--name", "far", "--json").document
    assert first["models"] == {"asked": 2, "reused": 0, "trained": 2, "failed": 0}
    assert first["paths"]["report"].startswith("s3://muster-tests/store/runs/far/report.html")
    again = there(*small, "--L", 3, "--storage", bucket, "--json").document
    assert again["models"] == {"asked": 3, "reused": 2, "trained": 1, "failed": 0}
    assert again["curve"][:2] == first["curve"]
    status = there("status", "far", "--storage", bucket, "--json").document
    assert status["state"] == "done"
    scored = there("evaluate", "far", "--storage", bucket, "--json").document
    assert scored["curve"] == first["curve"]
