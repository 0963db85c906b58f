"""What all tests share: an environment of their own, set before anything imports Ray, and a small data set."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pytest
from PIL import Image

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["MUSTER_CACHE"] = tempfile.mkdtemp(prefix="muster-test-cache-")


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["MUSTER_CACHE"], ignore_errors=True)


def write_classes(root: Path, classes: int = 8, each: int = 6) -> Path:
    """Class folders of small JPEG files: each class has its own colour and stripes, each image its own noise
    and shape (about 40 x 30 pixels, some upright)."""
    for number in range(classes):
        folder = root / f"class {number:02d}"
        folder.mkdir(parents=True)
        for copy in range(each):
            draws = np.random.default_rng([number, copy])
            height, width = (30 + copy, 40) if copy % 3 else (40, 30 + copy)
            stripes = 60 * np.sin(np.arange(width) * (1 + number) / 6)[None, :, None]
            colour = np.array([30 + 190 * (number >> bit & 1) for bit in range(3)])
            pixels = colour + stripes + draws.normal(0, 12, (height, width, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{copy}.jpg", quality=90)
    return root


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """A data root for the data set `folder`: 8 classes of 6 JPEG images; half of the classes train."""
    return write_classes(tmp_path / "images")


def reached_at(port: int) -> dict[str, str]:
    """What it takes to reach an S3 server on loopback."""
    return {"endpoint_override": f"127.0.0.1:{port}", "scheme": "http", "region": "us-east-1"}


@contextmanager
def s3_server(key: str, secret: str) -> Iterator[int]:
    """An S3 server on loopback with a bucket named so: its port. The environment has its credentials."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        pafs.S3FileSystem(allow_bucket_creation=True, **reached_at(port)).create_dir("bucket")
        yield port
    server.stop()


@pytest.fixture(scope="session")
def s3_bucket() -> Iterator[str]:
    """The URI of a bucket on a server of its own on loopback, with what it takes to reach it."""
    with s3_server("test", "test") as port:
        yield "s3://bucket?" + "&".join(f"{key}={value}" for key, value in reached_at(port).items())
