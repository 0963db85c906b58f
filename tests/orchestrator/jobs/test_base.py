"""What every kind of job has in common: whose a name is, how a run ends, and its counts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from muster import __version__
from muster.orchestrator.jobs.base import (
    Job,
    check_here,
    check_run,
    counts_text,
    end_of,
    model_counts,
    open_run,
    run_job,
)
from muster.orchestrator.jobs.registry import job_of
from muster.orchestrator.methods.loading import load
from muster.orchestrator.records.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PARTIAL, Detached
from muster.orchestrator.records.log import EventLog
from muster.orchestrator.settings.compat import NewerRunError
from muster.workers.errors import CorruptFileError, MusterError, UsageError
from muster.workers.store.files import FileRecord
from muster.workers.store.layout import Store

LAUNCH = load(None, {"data.dataset": "glyphs", "name": "mine"}, [])
ANSWER = {"state": "done", "models": {"asked": 2, "reused": 1, "trained": 1, "failed": 0}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def test_a_name_is_free_until_there_is_a_plan(store: Store) -> None:
    job, other = (
        job_of("launch"),
        dataclasses.replace(LAUNCH, ensemble=dataclasses.replace(LAUNCH.ensemble, L=3)),
    )
    assert check_run(job, LAUNCH, store).run == "mine"
    assert not list(Path(store.root).iterdir())  # it only reads
    run, damaged = open_run(job, LAUNCH, store)
    assert damaged == []
    document = json.loads(json.dumps(LAUNCH.document()))
    assert run.read("run.json").items() >= document.items()
    open_run(job, other, store)  # nothing was made of the first yet
    run.write("plan.json", {})
    assert check_here(dataclasses.replace(job, check=lambda request: [request]), other, store) == [other]
    with pytest.raises(
        UsageError, match=r"There is a run mine in .*: ensemble.L was 3, is 8\. Give --name another"
    ):
        check_run(job, LAUNCH, store)
    with pytest.raises(UsageError, match="asked for otherwise"):
        open_run(job, LAUNCH, store)
    assert run.read("run.json")["ensemble"]["L"] == 3


@pytest.mark.parametrize(
    ("kind", "other"), [("search", "launch"), ("launch", "search"), ("reproduce", "launch")]
)
def test_a_name_belongs_to_one_kind_of_run(store: Store, kind: str, other: str) -> None:
    document = LAUNCH.document() if other == "launch" else {**LAUNCH.document(), "kind": other}
    store.run("mine").write("run.json", document)
    if kind == other:
        return
    with pytest.raises(
        UsageError, match=f"There is a run mine, and it is a {other}: give --name another name."
    ):
        check_run(job_of(kind), LAUNCH, store)


def test_a_run_of_a_newer_release_is_refused(store: Store) -> None:
    store.run("mine").write("run.json", {**LAUNCH.document(), "format": 99})
    with pytest.raises(NewerRunError, match=r"mine/run\.json has format 99"):
        check_run(job_of("launch"), LAUNCH, store)


def job_that(answer: dict[str, Any], *failures: str, raises: Exception | None = None) -> Job:
    """A launch whose work is to answer this, with a file of its own in the run's folder."""

    def run(request: Any, folder: Any, emit: Any, fleet: str, extra: Any) -> Any:
        assert (request, fleet, extra) == (LAUNCH, "fleet-a", ("train",))
        assert folder.files.find(folder / "DONE.json") is None  # what is written now is promised by nobody
        if raises is not None:
            raise raises
        folder.write("metrics.json", {"L": 1})
        return answer, failures

    return dataclasses.replace(job_of("launch"), run=run)


@pytest.mark.parametrize(
    ("state", "code", "said"), [("done", 0, "done"), ("partial 1 of 2", EXIT_PARTIAL, "partial")]
)
def test_a_run_ends_with_a_record_of_its_files(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    state: str,
    code: int,
    said: str,
) -> None:
    launch = dataclasses.replace(LAUNCH, storage=store.root)
    monkeypatch.setitem(globals(), "LAUNCH", launch)
    store.run("mine").files.put("runs/mine/DONE.json", b'{"files": {}}')
    job = job_that({**ANSWER, "state": state}, "member 2: given up")
    assert run_job(job, launch, EventLog("a"), "fleet-a", ("train",)) == code
    run = store.run("mine")
    (segment,) = run.files.names(run / "events")
    assert segment.startswith("a-")
    assert set(run.record()) == {"run.json", "metrics.json", f"events/{segment}"}
    sealed = json.loads(store.files.get("runs/mine/DONE.json"))
    assert sealed["state"] == said
    assert sealed["ended"].endswith("Z")
    assert sealed["versions"]["muster"] == __version__
    (end,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (end["event"], end["state"], end["exit_code"], end["answer"]["state"]) == (
        "end",
        said,
        code,
        state,
    )
    assert end["message"].splitlines()[1:] == ["member 2: given up"]


def test_a_run_that_fails_is_not_sealed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = dataclasses.replace(LAUNCH, storage=store.root)
    monkeypatch.setitem(globals(), "LAUNCH", launch)
    with pytest.raises(CorruptFileError, match="lost"):
        run_job(
            job_that(ANSWER, raises=CorruptFileError("lost")), launch, EventLog("a"), "fleet-a", ("train",)
        )
    assert store.run("mine").record() == {}


def test_exit_codes_are_those_of_the_documentation() -> None:
    assert (EXIT_FAILED, EXIT_PARTIAL, EXIT_INTERRUPTED) == (1, 3, 130)
    assert UsageError("x").exit_code == 2
    assert issubclass(Detached, Exception)


@pytest.mark.parametrize(
    ("asked", "done", "trained", "counts"),
    [
        ("abc", "abc", "ab", (3, 1, 2, 0)),
        ("abc", "ab", "", (3, 2, 0, 1)),
        ("abc", "", "", (3, 0, 0, 3)),
        ("ab", "ab", "abc", (2, 0, 2, 0)),
    ],
)  # fmt: skip
def test_counts_add_up_to_what_was_asked(
    asked: str, done: str, trained: str, counts: tuple[int, ...]
) -> None:
    found = model_counts(list(asked), set(done), list(trained))
    assert tuple(found[name] for name in ("asked", "reused", "trained", "failed")) == counts
    assert found["reused"] + found["trained"] + found["failed"] == found["asked"]
    said = counts_text(found, "members")
    assert (
        said == f"{counts[1] + counts[2]} of {counts[0]} members ({counts[2]} trained, {counts[1]} reused)."
    )


def test_an_end_without_failures_is_its_message_alone() -> None:
    end = end_of(job_of("launch"), ANSWER)
    assert (end["state"], end["exit_code"], end["answer"]) == ("done", 0, ANSWER)
    assert end["message"] == "2 of 2 members (1 trained, 1 reused)."


@pytest.mark.parametrize("lost", ["plan.json", "run.json"])
def test_a_finished_run_is_not_taken_over_where_it_lost_its_plan_or_request(store: Store, lost: str) -> None:
    """Another request under its name would write over its answer, shards and report."""
    run, _ = open_run(job_of("launch"), LAUNCH, store)
    run.write("plan.json", {})
    run.seal({}, {})
    run.files.delete(run / lost)
    other = dataclasses.replace(LAUNCH, ensemble=dataclasses.replace(LAUNCH.ensemble, L=3))
    says = "asked for otherwise" if lost == "plan.json" else r"run\.json is damaged: it is gone"
    with pytest.raises(MusterError, match=says):
        check_run(job_of("launch"), other, store)


def test_shards_that_no_record_promises_are_read_before_they_are_used(store: Store) -> None:
    run, _ = open_run(job_of("launch"), LAUNCH, store)
    names = {f"part-0000{n}.parquet": b"rows %d" % n for n in range(2)}
    for name, data in names.items():
        run.files.put(run / f"gathered/test/{name}", data)
    shards = [
        {"file": name, "rows": 1, "bytes": len(data), "sha256": FileRecord.of(data).sha256}
        for name, data in names.items()
    ]
    run.write("gathered/test.json", {"digest": "d", "shards": shards})
    run.files.put(run / "gathered/test/part-00001.parquet", b"rows 7")
    run.seal({}, {})
    open_run(job_of("launch"), LAUNCH, store)
    assert len(run.files.names(run / "gathered/test")) == 2  # by its size it is whole, as a record promised
    open_run(job_of("launch"), LAUNCH, store)
    assert run.files.names(run / "gathered/test") == ["part-00000.parquet"]
