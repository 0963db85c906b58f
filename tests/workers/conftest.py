"""Stores to test with: a folder, a real S3 server, and a file system of fsspec."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest
import torch

from muster.workers.store.layout import Store
from tests.conftest import write_classes

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def s3_bucket() -> Iterator[str]:
    """The URI of a bucket on a server of its own on loopback, with what it takes to reach it."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        where = {"endpoint_override": f"127.0.0.1:{port}", "scheme": "http", "region": "us-east-1"}
        pafs.S3FileSystem(allow_bucket_creation=True, **where).create_dir("bucket")
        yield "s3://bucket?" + "&".join(f"{key}={value}" for key, value in where.items())
    server.stop()


@pytest.fixture(params=["folder", "file URI", "S3", "fsspec"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store root of each kind."""
    if request.param == "S3":
        bucket, _, query = request.getfixturevalue("s3_bucket").partition("?")
        return f"{bucket}/{uuid.uuid4().hex}/prefix?{query}"
    return {
        "folder": str(tmp_path / "a store"),
        "file URI": f"file://{tmp_path}/store",
        "fsspec": f"memory://{uuid.uuid4().hex}/prefix",
    }[request.param]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store in a folder."""
    return Store(str(tmp_path / "store"))


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root of 8 classes, read by many tests and changed by none."""
    return write_classes(tmp_path_factory.mktemp("data") / "images")
