"""When a launch is answered from the store alone: only if all of it is there, and is this request's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from muster.orchestrator.ensemble.requests import EnsembleResult
from muster.orchestrator.ensemble.scores import scores_identity
from muster.orchestrator.jobs.launch.answer import from_store
from muster.orchestrator.settings.compat import MADE_BY
from muster.orchestrator.settings.request import LaunchRequest
from muster.orchestrator.vectors import gather as gathering
from muster.orchestrator.vectors.protocols import protocol_text
from muster.workers.store.layout import Store
from muster.workers.store.records import Done
from muster.workers.store.vectors import VECTORS, read_vectors, write_vectors
from tests.orchestrator.made_ensembles import made_ensemble

LEARNERS = [{"learner": 1, "dimension": 4, "recall_at_1": 0.5}]


@pytest.fixture(scope="module")
def made(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, EnsembleResult]:
    """An ensemble whose members are committed, as if they had been trained."""
    store = Store(str(tmp_path_factory.mktemp("made")))
    got = made_ensemble(store, shapes, "made", D=4, L=3)
    for task in got.tasks:
        store.model(task.key).commit(Done({}, {"attempt": "one", "seconds": 1.0, "device": "cpu"}))
    return store, got


@pytest.fixture
def finished(made: tuple[Store, EnsembleResult]) -> Callable[[str], LaunchRequest]:
    """A finished run of the ensemble under a name of its own."""
    store, got = made

    def run(name: str) -> LaunchRequest:
        request = replace(got.request.launch, name=name)
        folder = store.run(name)
        targets = [got.target("test")]
        identity = scores_identity(request, targets, [task.key for task in got.tasks])
        metrics = {
            "identity": identity, "ks": identity["ks"], "splits": (got.metrics or {})["splits"], "state": "done",
            "warnings": [], "device_seconds": 2.0,
        }  # fmt: skip
        folder.write("run.json", request.document())
        folder.write("metrics.json", metrics)
        folder.write(
            "answer.json", {"precision": "fp32", "weights": "none", "paths": {"report": "report.html"}}
        )
        store.files.put(folder / "report.html", b"<p>")
        gathering.gather(
            store, name, targets[0], got.tasks, {}, "float32",
            spread=lambda calls: [gathering.write_shard(*call) for call in calls],
        )  # fmt: skip
        return request

    return run


def test_a_finished_run_is_answered_without_training(
    made: tuple[Store, EnsembleResult], finished: Callable[[str], LaunchRequest]
) -> None:
    store, got = made
    found = from_store(finished("whole"), store, None)
    assert found is not None
    plan, answer = found
    assert plan == "3 members: all found in the store, none to train."
    assert answer["models"] == {"asked": 3, "reused": 3, "trained": 0, "failed": 0}
    curve = (got.metrics or {})["splits"]["test"]["curve"]
    assert (answer["curve"], answer["state"], answer["run"]) == (curve, "done", "whole")
    assert answer["metrics"] == {name: value for name, value in curve[-1].items() if name != "near_ties"}
    assert (answer["precision"], answer["weights"], answer["device_seconds"]) == ("fp32", "none", 2.0)
    assert answer["paths"] == {"report": f"{store.root}/runs/whole/report.html"}
    assert not {"warnings", "learners", "correlation"} & answer.keys()
    assert answer["protocol"] == protocol_text(got.request.launch.data)
    assert isinstance(answer["seconds"], float)
    assert 0 <= answer["seconds"] == round(answer["seconds"], 2) < 60


def test_a_precision_that_is_asked_for_is_the_one_that_counts(
    made: tuple[Store, EnsembleResult], finished: Callable[[str], LaunchRequest]
) -> None:
    store, _ = made
    launch = finished("exact")
    exact = replace(launch, ensemble=replace(launch.ensemble, precision="fp32"))
    store.run("exact").write("run.json", exact.document())
    changed_file("answer.json", precision="bf16")(store.run("exact"))
    found = from_store(exact, store, None)
    assert found is not None
    assert found[1]["precision"] == "fp32"


def changed_file(name: str, **changes: Any) -> Callable[[Any], None]:
    return lambda run: run.write(name, {**run.read(name), **changes})


def gone(name: str) -> Callable[[Any], None]:
    return lambda run: run.files.delete(run / name)


def of_other_vectors(run: Any) -> None:
    metrics = run.read("metrics.json")
    metrics["identity"]["embeddings"]["test"] = "0" * 16
    run.write("metrics.json", metrics)


def damaged(run: Any) -> None:
    """After it was sealed: what DONE.json promises is another content."""
    run.seal({}, {})
    data = run.files.get(run / "metrics.json")
    run.files.put(run / "metrics.json", data.replace(b"0.9", b"0.8", 1).replace(b"near", b"neer", 1))


def another_report(run: Any) -> None:
    run.seal({}, {})
    run.files.put(run / "report.html", b"<b>")


def without(name: str, key: str) -> Callable[[Any], None]:
    return lambda run: run.write(name, {k: v for k, v in run.read(name).items() if k != key})


@pytest.mark.parametrize(
    "change",
    [
        another_report, without("answer.json", "precision"), without("answer.json", "paths"),
        *(without("metrics.json", key) for key in ("identity", "splits", "state", "warnings", "device_seconds")),
        gone("run.json"), gone("answer.json"), gone("metrics.json"), gone("report.html"), gone("gathered/test.json"),
        gone("gathered/test/part-00000.parquet"), of_other_vectors, damaged,
    ],
)  # fmt: skip
def test_a_run_that_lacks_anything_is_asked_of_the_cluster(
    made: tuple[Store, EnsembleResult],
    finished: Callable[[str], LaunchRequest],
    change: Callable[[Any], None],
    tmp_path: Path,
) -> None:
    store, _ = made
    name = tmp_path.name
    launch = finished(name)
    assert from_store(launch, store, None) is not None
    change(store.run(name))
    assert from_store(launch, store, None) is None


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("answer.json", {"precision": "fp8"}),
        ("answer.json", {"paths": ["x"]}),
        ("answer.json", {"paths": {"x": 1}}),
        ("metrics.json", {"splits": {}}),
        ("metrics.json", {"splits": {"test": {"curve": []}}}),
        ("metrics.json", {"identity": {"embeddings": 3}}),
    ],
)
def test_a_file_that_makes_no_sense_is_made_again(
    made: tuple[Store, EnsembleResult],
    finished: Callable[[str], LaunchRequest],
    name: str,
    changes: dict[str, Any],
    tmp_path: Path,
) -> None:
    store, _ = made
    launch = finished(tmp_path.name)
    changed_file(name, **changes)(store.run(tmp_path.name))
    assert from_store(launch, store, None) is None


def test_another_request_is_asked_of_the_cluster(
    made: tuple[Store, EnsembleResult], finished: Callable[[str], LaunchRequest]
) -> None:
    store, got = made
    launch = finished("other")
    longer = replace(launch, ensemble=replace(launch.ensemble, L=4))
    weights = replace(launch, ensemble=replace(launch.ensemble, weights="imagenet"))
    without = replace(launch, resources=replace(launch.resources, nmi=False))
    elsewhere = replace(launch, data=replace(launch.data, root="/nowhere"))
    for request in (longer, weights, without, elsewhere):
        assert from_store(request, store, None) is None
    vectors = store.model(got.tasks[0].key).embedding(got.target("test").digest)
    record = store.files.get(vectors / "DONE.json")
    vectors.distrust()
    assert from_store(launch, store, None) is None
    store.files.put(vectors / "DONE.json", record)
    assert from_store(launch, store, None) is not None


def test_members_that_were_trained_again_to_other_vectors_are_asked_of_the_cluster(
    made: tuple[Store, EnsembleResult], finished: Callable[[str], LaunchRequest]
) -> None:
    store, got = made
    launch = finished("again")
    folder = store.model(got.tasks[0].key).embedding(got.target("test").digest)
    data, record = (store.files.get(folder / name) for name in (VECTORS, "DONE.json"))
    vectors = read_vectors(folder)
    folder.distrust()
    write_vectors(folder, vectors[::-1], {})
    assert from_store(launch, store, None) is None
    store.files.put(folder / VECTORS, data)
    store.files.put(folder / "DONE.json", record)
    assert from_store(launch, store, None) is not None


def test_what_a_killed_job_left_is_no_answer(
    made: tuple[Store, EnsembleResult], finished: Callable[[str], LaunchRequest]
) -> None:
    """It kept everything but its record, or somebody deleted that; older releases kept none."""
    store, _ = made
    launch = finished("killed")
    run = store.run("killed")
    assert from_store(launch, store, None) is not None
    run.write("run.json", {**launch.document(), MADE_BY: {"muster": "0.2"}})
    assert from_store(launch, store, None) is None
    run.seal({}, {})
    assert from_store(launch, store, None) is not None


def test_a_split_that_was_gathered_beside_does_no_harm(
    made: tuple[Store, EnsembleResult], finished: Callable[[str], LaunchRequest]
) -> None:
    store, _ = made
    launch = finished("more")
    metrics = store.run("more").read("metrics.json")
    metrics["identity"]["embeddings"]["train"] = "1" * 16
    metrics["warnings"] = ["5 of 96 queries are near ties"]
    metrics["splits"]["test"] |= {"learners": LEARNERS, "correlation": None}
    store.run("more").write("metrics.json", metrics)
    found = from_store(launch, store, None)
    assert found is not None
    assert {name: found[1][name] for name in ("warnings", "learners", "correlation")} == {
        "warnings": ["5 of 96 queries are near ties"], "learners": LEARNERS, "correlation": None,
    }  # fmt: skip
