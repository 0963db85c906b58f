"""Stores to test with: a folder, a real S3 server, and a file system of fsspec."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
import torch

from muster.workers.store.layout import Store
from tests.conftest import write_classes

torch.set_num_threads(1)


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
