"""Files of a store that was handed over: whatever is in them, there is a message or an answer.

Each example changes one file of a finished store and makes the records around it fit, as somebody would who plants it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from muster.orchestrator.client.session import saved_request, saved_run
from muster.orchestrator.console.tables import answer_table, status_table
from muster.orchestrator.ensemble.inputs import finished_run
from muster.orchestrator.ensemble.plan import member_tasks, prepare
from muster.orchestrator.jobs.base import check_here
from muster.orchestrator.jobs.registry import job_of
from muster.orchestrator.runs.rescore import rescore
from muster.orchestrator.runs.status import list_runs, member_logs, recorded_status
from muster.workers.errors import MusterError
from muster.workers.member import load_network, open_images
from muster.workers.store.checkpoint import newest_whole
from muster.workers.store.layout import Store
from muster.workers.task import read_history
from tests.conftest import write_classes
from tests.fuzzing import bounded, fuzzed, mutations
from tests.orchestrator.finished_run import finish, request_of

Made = tuple[Any, Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A finished launch of two members, and its store. Its run has no record, so that its files are not looked at by
    their digests first."""
    root = tmp_path_factory.mktemp("fuzzed")
    request = request_of(str(root / "store"), write_classes(root / "images"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUSTER_CACHE", str(root / "cache"))
        finish(request)
        (root / "store/runs/one/DONE.json").unlink()
        yield request, root / "store"


def _status(request: Any, store: Store) -> None:
    list_runs(store)
    status_table(recorded_status(store, "one"))
    member_logs(store, "one", None, 5)


def _answered(request: Any, store: Store) -> None:
    job = job_of("launch")
    found = job.from_store(request, store, check_here(job, request, store))
    if found is not None:
        answer_table(found[1], "done")


def _previewed(request: Any, store: Store) -> None:
    job = job_of("launch")
    job.preview(request, store, check_here(job, request, store))


def _rescored(request: Any, store: Store) -> None:
    rescore(saved_request("one", store.root), "test", "1,2", "1GB", nmi=False)


def _resumed(request: Any, store: Store) -> None:
    saved_run("one", store.root).identity()


def _learned_from(request: Any, store: Store) -> None:
    finished_run("one", request, store)


def _trained_on(request: Any, store: Store) -> None:
    prepared = prepare(request, store, None)
    if prepared is None:
        return
    open_images(store, prepared.train)
    for task in member_tasks(request, prepared, "none", "fp32"):
        folder = store.model(task.key)
        newest_whole(folder)
        load_network(folder, task.spec)
        if (done := folder.done()) is not None:
            read_history(folder, done)


READERS: list[Callable[[Any, Store], None]] = [
    _status, _answered, _previewed, _rescored, _resumed, _learned_from, _trained_on,
]  # fmt: skip
#: Which files are changed: patterns below the store.
FILES = [
    "runs/one/run.json", "runs/one/plan.json", "runs/one/answer.json", "runs/one/metrics.json",
    "runs/one/settled.json", "runs/one/gathered/test.json", "runs/one/events/*.jsonl", "runs/one/logs/*.log",
    "models/*/DONE.json", "models/*/spec.json", "models/*/attempts/*/weights.safetensors",
    "models/*/attempts/*/history.parquet", "models/*/embeddings/*/DONE.json",
    "models/*/embeddings/*/vectors.parquet", "models/*/embeddings/*/scores.json", "packs/*/DONE.json",
    "packs/*/index.parquet", "packs/sources/*.json",
]  # fmt: skip


def planted(store: Path, path: Path, data: bytes) -> dict[Path, bytes]:
    """Puts content into a file of a store, and its digest where a record has it; the former contents."""
    before = {path: path.read_bytes()}
    path.write_bytes(data)
    for folder in path.parents:
        if folder == store:
            break
        done, name = folder / "DONE.json", path.relative_to(folder).as_posix()
        if done.exists() and done != path and name in (record := json.loads(done.read_text()))["files"]:
            before[done] = done.read_bytes()
            record["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            done.write_text(json.dumps(record))
    return before


@pytest.mark.parametrize("pattern", FILES)
def test_a_changed_file_of_a_store_gets_a_message_or_an_answer(
    made: Made, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    request, root = made
    path = sorted(root.glob(pattern))[-1]

    @fuzzed(4)
    @given(mutations(path.name, path.read_bytes()))
    def each(data: bytes) -> None:
        kept = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
        planted(root, path, data)
        try:
            with bounded():
                for reader in READERS:
                    try:
                        reader(request, Store(str(root)))
                    except MusterError as error:
                        assert str(error).strip()  # noqa: PT017
        finally:
            for file, content in kept.items():
                if not file.exists() or file.read_bytes() != content:
                    file.write_bytes(content)

    each()
