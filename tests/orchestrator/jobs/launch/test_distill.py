"""`muster launch distill`: a student of a finished ensemble, through the real command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from muster.workers.store.layout import Store
from tests.cli import Muster

SMALL = ("--P", 4, "--K", 2, "--dim", 6, "--epochs", 2, "--no-floors")


@pytest.fixture(scope="module")
def trained(
    muster: Muster, pictures: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any]:
    """A store with an ensemble of two, its student, and the student's answer."""
    store = tmp_path_factory.mktemp("distill") / "store"
    where = ("--storage", store, "--json")
    muster(
        "launch",
        "dreml",
        *pictures,
        "--D",
        3,
        "--L",
        2,
        "--epochs",
        1,
        "--no-floors",
        "--name",
        "teacher",
        *where,
    )
    return store, muster("launch", "distill", "--teacher", "teacher", *pictures, *SMALL, *where).document


def test_a_student_is_trained_from_vectors_that_the_fleet_makes_first(trained: tuple[Path, Any]) -> None:
    store, answer = trained
    assert answer["state"] == "done"
    assert answer["run"].startswith("distill-folder-6d-")
    assert answer["models"] == {"asked": 1, "reused": 0, "trained": 1, "failed": 0}
    specs = [json.loads(path.read_text()) for path in store.glob("models/*/spec.json")]
    (student,) = (spec for spec in specs if spec["method"] == "distill")
    teachers = [
        spec["key"] for spec in sorted(specs, key=lambda spec: spec.get("index", 99)) if spec is not student
    ]
    assert student["teacher"]["keys"] == teachers
    for key in teachers:
        folder = Store(str(store)).model(key).embedding(student["teacher"]["vectors"])
        done = folder.done()
        assert done is not None
        assert done.facts["split"] == "train"
    status = json.loads((store / "runs" / answer["run"] / "answer.json").read_text())
    assert status["models"]["asked"] == 1


def test_its_report_has_the_teachers_curve_beside_it(trained: tuple[Path, Any]) -> None:
    _, answer = trained
    report = Path(answer["paths"]["report"]).read_text()
    assert "% of teacher&#39;s recall@1 at 1/2 of its networks for each image" in report
    assert "images/s embedded" in report
    assert "A student of teacher, by its similarities: docs/distill.md." in report


def test_the_same_again_trains_nothing_and_another_teacher_is_another_student(
    muster: Muster, pictures: tuple[object, ...], trained: tuple[Path, Any]
) -> None:
    store, answer = trained
    again = ("launch", "distill", "--teacher", "teacher", *pictures, *SMALL, "--storage", store, "--json")
    found = muster(*again).document
    assert found["models"]["trained"] == 0
    assert found["metrics"] == answer["metrics"]
    scored = muster("evaluate", answer["run"], "--storage", store, "--json").document["metrics"]
    assert scored["recall_at_1"] == answer["metrics"]["recall_at_1"]
    of_a_student = [*again]
    of_a_student[3] = answer["run"]
    planned = muster(*of_a_student, "--dry-run").document
    assert planned["to_train"] == 1
    assert planned["run"] != answer["run"]


def test_damaged_vectors_of_the_teacher_are_made_again(
    muster: Muster, pictures: tuple[object, ...], trained: tuple[Path, Any]
) -> None:
    store, _ = trained
    again = (
        "launch",
        "distill",
        "--teacher",
        "teacher",
        *pictures,
        *SMALL,
        "--seed",
        1,
        "--storage",
        store,
        "--json",
    )
    student = next(
        spec
        for path in store.glob("models/*/spec.json")
        if (spec := json.loads(path.read_text()))["method"] == "distill"
    )
    damaged = Store(str(store)).model(student["teacher"]["keys"][0]).embedding(student["teacher"]["vectors"])
    (store / damaged.name / "vectors.parquet").write_bytes(b"nothing")
    assert muster(*again).document["state"] == "done"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "give --teacher RUN, a finished ensemble of this store"),
        (["--teacher", "nobody"], "nobody: there is no such run in"),
        (["--teacher", "../x"], "a run's name has at most 100 letters"),
        (["--teacher", "partial"], "partial is partial 1 of 2: what learns from it needs all of it"),
        (["--teacher", "begun"], "begun is not finished"),
        (["--teacher", "hunt"], "hunt is a search, and no ensemble: give a run of muster launch"),
        (["--teacher", "elsewhere"], "elsewhere was trained on other images: dataset folder there, glyphs here"),
        (["--teacher", "newer"], "newer/run.json has format 3, and this is muster"),
        (["--teacher", "finished", "--P", "300"], "there are only 200 training classes. Give --P 200"),
        (["--teacher", "finished", "--set", "bier.lr=1"], "bier: the method is distill; leave it out, or launch bier"),
        (["--teacher", "finished", "--set", "D=12"], "ensemble.D: its dimension is distill.dim"),
    ],
)  # fmt: skip
def test_a_wrong_teacher_is_refused_with_its_cure(
    muster_without_cluster: Muster, tmp_path: Path, flags: list[object], said: str
) -> None:
    from muster.orchestrator.methods.loading import load
    from muster.workers.store.files import Files
    from muster.workers.store.runs import RunFolder

    store = tmp_path / "store"
    files = Files(str(store))
    document = load(None, {"method": "dreml"}, []).document()
    answer = {"state": "done", "weights": "none", "precision": "fp32"}
    runs: dict[str, tuple[Any, Any]] = {
        "finished": (document, answer),
        "partial": (document, {**answer, "state": "partial 1 of 2"}),
        "begun": (document, None),
        "hunt": ({**document, "kind": "search"}, answer),
        "elsewhere": (
            {**document, "data": {**document["data"], "dataset": "folder", "root": "/nowhere"}}, answer,
        ),
        "newer": ({**document, "format": 3, "muster": "9.0.0"}, answer),
    }  # fmt: skip
    for name, (saved, found) in runs.items():
        RunFolder(files, name).write("run.json", saved)
        if found is not None:
            RunFolder(files, name).write("answer.json", found)
    before = sorted(path.as_posix() for path in store.rglob("*"))
    ran = muster_without_cluster("launch", "distill", *flags, "--storage", store, code=2)
    assert said in " ".join(ran.err.split())
    assert sorted(path.as_posix() for path in store.rglob("*")) == before


def test_a_run_that_a_newer_muster_wrote_is_refused_with_the_version_to_get(
    muster_without_cluster: Muster, tmp_path: Path
) -> None:
    from muster.orchestrator.methods.loading import load
    from muster.workers.store.files import Files
    from muster.workers.store.runs import RunFolder

    document = load(None, {"method": "dreml"}, []).document()
    run = RunFolder(Files(str(tmp_path)), "later")
    run.write("run.json", {**document, "format": 3, "muster": "9.1.0", "data": "another shape"})
    for words in (["status", "later"], ["resume", "later"], ["evaluate", "later"], ["gather", "later"],
                  ["launch", "dreml", "--name", "later"], ["logs", "later"]):  # fmt: skip
        ran = muster_without_cluster(*words, "--storage", tmp_path, code=2)
        assert "Get muster 9.1.0, which wrote it, or a newer one." in " ".join(ran.err.split()), words
    assert "newer" in muster_without_cluster("runs", "--storage", tmp_path).out
