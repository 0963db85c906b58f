"""A dry run leaves every file as it was, whatever kind of job it is of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from muster.orchestrator.client.session import go
from muster.orchestrator.ensemble.plan import prepare
from muster.orchestrator.jobs.reproduce.targets import load_options
from muster.orchestrator.jobs.search.request import load_search
from muster.orchestrator.methods.loading import load
from muster.workers.store.layout import Store


def request_of(kind: str, images: Path) -> Any:
    flags: dict[str, Any] = {
        "data.dataset": "folder", "data.root": str(images), "image_size": 24, "ensemble.backbone": "conv4",
        "storage": "store", "name": "dry",
    }  # fmt: skip
    if kind == "launch":
        return load(None, {**flags, "ensemble.D": 2, "ensemble.L": 2}, [])
    if kind == "search":
        return load_search(None, {**flags, "data.val_classes": 1}, [], "2,3", [], {})
    given = {"reproduce.datasets": ("glyphs",), "reproduce.scale": 0.02, "storage": "store", "name": "dry"}
    return load_options("dreml-table1", given, ("none",))


def files(root: Path) -> dict[str, Any]:
    """Every name below, with what a writer would change of it."""
    return {
        str(path.relative_to(root)): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in [root, *root.rglob("*")]
    }


@pytest.mark.parametrize("kind", ["launch", "launch on packs", "search", "reproduce"])
def test_a_dry_run_writes_nothing(
    image_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("TMPDIR", "MUSTER_CACHE", "MUSTER_STATE_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    request = request_of(kind.partition(" ")[0], image_folder)
    if kind == "launch on packs":
        prepare(request, Store("store"), lambda *_: None)
    before = files(tmp_path)
    go(request, None, detach=False, dry_run=True, as_json=True)
    assert json.loads(capsys.readouterr().out)["run"] == "dry"
    assert files(tmp_path) == before
