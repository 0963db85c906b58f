"""Requests on a small folder of real images, packed once, for tests of plans."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muster.orchestrator.ensemble.plan import (
    PlannedEnsemble,
    member_tasks,
    prepare,
)
from muster.orchestrator.ensemble.requests import EnsembleRequest, Prepared
from muster.orchestrator.methods.loading import load
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.store.layout import Store
from tests.conftest import write_classes

Asked = Callable[..., LaunchRequest]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 classes of 2 images: the first 5 train."""
    return write_classes(tmp_path_factory.mktemp("images") / "images", classes=10, each=2)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store whose packs are made once and serve all tests that write no model."""
    return Store(str(tmp_path_factory.mktemp("packed")))


@pytest.fixture
def asked(images: Path, packed: Store) -> Asked:
    """A request with flags, "data__val_classes" for "data.val_classes"."""

    def of(**flags: Any) -> LaunchRequest:
        common = {
            "data.dataset": "folder", "data.root": str(images), "image_size": 20, "ensemble.backbone": "conv4",
            "ensemble.D": 2, "ensemble.L": 3, "storage": packed.root,
        }  # fmt: skip
        return load(None, {**common, **{name.replace("__", "."): value for name, value in flags.items()}}, [])

    return of


def made(request: LaunchRequest, store: Store, *splits: str) -> Prepared:
    found = prepare(request, store, lambda *_: None, splits)
    assert found is not None
    return found


def planned(request: LaunchRequest, store: Store, *splits: str) -> PlannedEnsemble:
    found = made(request, store, *splits)
    tasks = member_tasks(request, found, "none", "fp32")
    return PlannedEnsemble(EnsembleRequest(launch=request, splits=splits), found, tasks)
