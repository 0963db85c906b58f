"""A model's scores and speed beside those of the run that it learned from, out of the store's records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from muster.orchestrator.ensemble.compared import references
from muster.orchestrator.ensemble.plan import member_tasks, prepare
from muster.orchestrator.ensemble.requests import EnsembleRequest, EnsembleResult
from muster.orchestrator.methods.loading import load
from muster.workers.errors import DamagedRunError
from muster.workers.store.layout import Store
from muster.workers.store.records import Done
from muster.workers.task import MemberTask
from tests.conftest import write_classes

CURVE = [{"L": 1, "recall_at_1": 0.4, "recall_at_2": 0.9}, {"L": 3, "recall_at_1": 0.8, "recall_at_2": 1.0}]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> EnsembleResult:
    """A student of three networks, with scores; nothing is trained."""
    root = tmp_path_factory.mktemp("compared")
    store = Store(str(root / "store"))
    flags = {
        "data.dataset": "folder", "data.root": str(write_classes(root / "images", classes=4, each=2)),
        "image_size": 16, "ensemble.backbone": "conv4", "storage": store.root,
    }  # fmt: skip
    teacher = load(None, {**flags, "ensemble.D": 2, "ensemble.L": 3, "name": "teacher"}, [])
    store.run("teacher").write("run.json", teacher.document())
    store.run("teacher").write("answer.json", {"state": "done", "weights": "none", "precision": "fp32"})
    launch = load(None, {**flags, "method": "distill", "teacher": "teacher", "distill.labels": 2}, [])
    prepared = prepare(launch, store, lambda *_: None)
    assert prepared is not None
    tasks = member_tasks(launch, prepared, "none", "fp32")
    curve = [{"L": 1, "recall_at_1": 0.6, "recall_at_2": 0.7}]
    return EnsembleResult(
        request=EnsembleRequest(launch=launch), prepared=prepared, tasks=tasks, members=tasks,
        metrics={"splits": {"test": {"curve": curve}}},
    )  # fmt: skip


@pytest.fixture
def student(result: EnsembleResult, tmp_path: Path) -> tuple[Store, EnsembleResult]:
    """With a store of the records that both left: the teacher's scores, and how fast each network embeds."""
    store = Store(str(tmp_path))
    (task,) = result.tasks
    embedded(store, task, result.target("test").digest, {"images_per_s": 1200.0})
    for one, speed in zip(task.inputs, (100.0, 100.0, 50.0), strict=True):
        embedded(store, one, "t" * 16, {"images_per_s": speed})
    metrics = {
        "identity": {"members": [], "embeddings": {"test": "t" * 16}},
        "splits": {"test": {"curve": CURVE}},
    }
    store.run("teacher").write("metrics.json", metrics)
    return store, result


def embedded(store: Store, task: MemberTask, digest: str, facts: dict[str, Any] | None) -> None:
    """A record of a member's vectors that says so; None: there is no record."""
    folder = store.model(task.key).embedding(digest)
    folder.distrust()
    if facts is not None:
        folder.commit(Done({}, facts))


def test_a_student_stands_beside_its_teacher_s_last_row(student: tuple[Store, EnsembleResult]) -> None:
    (found,) = references(*student)
    assert (found.name, found.curve) == ("teacher", CURVE)
    # 1 / (1/100 + 1/100 + 1/50) = 25 images/s through all three.
    assert found.text == (
        "75.0 % of teacher's recall@1 at 1/3 of its networks for each image: 1,200 images/s embedded, where teacher "
        "embeds 25."
    )


@pytest.mark.parametrize("facts", [None, {}, {"images_per_s": 0}])
@pytest.mark.parametrize("whose", ["mine", "theirs"])
def test_a_speed_that_was_not_measured_is_not_told(
    student: tuple[Store, EnsembleResult], whose: str, facts: dict[str, Any] | None
) -> None:
    store, result = student
    task = result.tasks[0]
    if whose == "mine":
        embedded(store, task, result.target("test").digest, facts)
    else:
        embedded(store, task.inputs[1], "t" * 16, facts)
    (found,) = references(store, result)
    assert found.text == "75.0 % of teacher's recall@1 at 1/3 of its networks for each image."


def test_a_teacher_that_found_nothing_has_no_share(student: tuple[Store, EnsembleResult]) -> None:
    store, result = student
    metrics = store.run("teacher").read("metrics.json")
    metrics["splits"]["test"]["curve"][-1]["recall_at_1"] = 0.0
    store.run("teacher").write("metrics.json", metrics)
    assert references(store, result)[0].text.startswith("0.0 % of teacher's recall@1")


def test_what_has_no_scores_is_beside_nothing(student: tuple[Store, EnsembleResult]) -> None:
    store, result = student
    assert references(store, replace(result, metrics=None)) == []
    assert references(store, replace(result, prepared=None)) == []
    metrics = store.run("teacher").read("metrics.json")
    store.run("teacher").write("metrics.json", {"splits": metrics["splits"]})
    with pytest.raises(DamagedRunError, match="it lacks identity"):
        references(store, result)
    store.files.delete("runs/teacher/metrics.json")
    assert references(store, result) == []
