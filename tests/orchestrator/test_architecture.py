"""The house's rules hold, and the checks that hold them would notice."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests import ROOT

PACKAGES = ("orchestrator", "workers", "cluster")
#: "At most about a dozen", with the `__init__` that says what a room is.
MOST_FILES = 14


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name, less the rooms themselves: they hold a text and nothing else."""
    files = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
    return {
        "muster." + path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path
        for path in files
        if path.name != "__init__.py"
    }


def imports(path: Path) -> set[str]:
    """All that a file imports, wherever in it that stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_no_module_is_in_a_circle() -> None:
    known = modules()
    ahead = {name: imports(path) & known.keys() - {name} for name, path in known.items()}
    while ready := [name for name, waits in ahead.items() if not waits & ahead.keys()]:
        for name in ready:
            del ahead[name]
    assert ahead == {}  # what is left waits for itself


def test_no_room_is_a_hall_and_each_says_what_it_owns_and_never_does() -> None:
    rooms: dict[Path, int] = defaultdict(int)
    for name in PACKAGES:
        for path in (ROOT / name).rglob("*.py"):
            rooms[path.parent] += 1
    assert {room: count for room, count in rooms.items() if count > MOST_FILES} == {}
    for room in rooms:
        text = ast.get_docstring(ast.parse((room / "__init__.py").read_text()))
        assert text, room
        assert room.name == "datasets" or len([line for line in text.splitlines() if line]) >= 2, room


@pytest.mark.parametrize(
    ("file", "planted", "contract"),
    [
        ("orchestrator/records/events.py", "muster.orchestrator.cli.options", "the rooms of orchestrator"),
        ("orchestrator/fleet/work.py", "muster.orchestrator.vectors.gather", "the rooms of orchestrator"),
        ("workers/rng.py", "muster.orchestrator.records.events", "orchestrator -> workers"),
        ("workers/rng.py", "pydantic", "workers need no Ray"),
        ("cluster/text.py", "muster.workers.rng", "orchestrator -> workers"),
        ("cluster/text.py", "torch", "cluster knows nothing of training"),
    ],
)
def test_a_planted_import_breaks_its_contract(tmp_path: Path, file: str, planted: str, contract: str) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "src/muster" / file).open("a") as target:
        target.write(f"\n\ndef planted():\n    import {planted}\n")
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")}, check=False,
    )  # fmt: skip
    broken = [line for line in done.stdout.splitlines() if line.endswith("BROKEN")]
    assert done.returncode == 1, done.stdout
    assert any(line.startswith(contract) for line in broken), done.stdout
