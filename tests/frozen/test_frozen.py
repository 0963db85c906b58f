"""A store of an older release is worth as much as ever: nothing of it is trained again, and it reads as it did.

`record.py` made it, and says how the hashes of weights are compared on one machine.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from muster.workers.methods.registry import METHODS
from tests.cli import Muster
from tests.frozen import made
from tests.frozen.record import ARCHIVE, FROZEN, differences
from tests.frozen.surface import surface

RECORDED: dict[str, Any] = json.loads(FROZEN.read_text())


@pytest.fixture(scope="module")
def store() -> Iterator[Path]:
    """The recorded store at its place, beside the images that it was made of. Digests hang on that place: whoever else
    tests here waits."""
    with made.ROOT.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(made.ROOT, ignore_errors=True)
        made.make_images()
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(made.ROOT, filter="data")
        yield made.STORE
        shutil.rmtree(made.ROOT)


def test_the_surface_of_the_command_line_is_what_it_was() -> None:
    """Commands and flags may come to those that there were; these stay as they are."""
    now, was = json.loads(json.dumps(surface())), RECORDED["surface"]
    known = {name: {tuple(item["flags"]) for item in items} for name, items in was.items()}
    kept = {name: [item for item in now[name] if tuple(item["flags"]) in known[name]] for name in was}
    assert differences(was, kept) == []


def test_the_keys_of_all_methods_are_what_they_were(store: Path) -> None:
    methods = set()
    for path in store.glob("models/*/spec.json"):
        saved = json.loads(path.read_text())
        assert saved.pop("key") == path.parent.name
        spec: Any = TypeAdapter(METHODS[saved["method"]].spec_type).validate_python(saved)
        assert spec.key == path.parent.name
        methods.add(spec.method)
    assert methods == {"dreml", "bier", "baseline"}


#: What documents may hold more than they did.
LATER = {"warnings", "account", "interval", "gain", "floors"}


def without_what_is_new(document: Any, recorded: Any) -> Any:
    """A document without the fields and the warnings that came to those that there were: a later release may know
    more."""
    if not isinstance(document, dict):
        return document
    found = {name: value for name, value in document.items() if name not in LATER or name in recorded}
    if "rows" in recorded and isinstance(found.get("rows"), list):
        found["rows"] = [
            row for row in found["rows"] if row.get("what") != "warning" or row in recorded["rows"]
        ]
    return found


@pytest.mark.parametrize("command", made.READ)
def test_an_older_store_reads_as_it_did_and_needs_nothing_new(
    muster_without_cluster: Muster, store: Path, command: str
) -> None:
    ran = muster_without_cluster(*made.READ[command], *made.WHERE, "--json")
    recorded = RECORDED["documents"][command]
    assert differences(recorded, without_what_is_new(made.steady(ran.document), recorded)) == []
    assert "Starting" not in ran.err


def test_requests_have_the_names_that_they_had(muster_without_cluster: Muster, store: Path) -> None:
    assert made.names(muster_without_cluster) == RECORDED["names"]


def test_an_older_ensemble_can_be_made_longer(muster: Muster, store: Path) -> None:
    words = made.RUNS["members"]
    longer = [*words[: words.index("--L")], "--L", "3", *words[words.index("--L") + 2 :]]
    answer = muster(*longer, *made.preset_then(words), *made.WHERE, "--name", "longer", "--json").document
    assert answer["models"] == {"asked": 3, "reused": 2, "trained": 1, "failed": 0}
    assert answer["curve"][:2] == RECORDED["documents"]["again members"]["curve"]
