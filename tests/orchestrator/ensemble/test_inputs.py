"""A model that is trained from another run's vectors: which runs can teach, and what is asked of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from muster.orchestrator.ensemble import plan as planning
from muster.orchestrator.ensemble.checks import check_ensemble
from muster.orchestrator.ensemble.plan import (
    member_tasks,
    prepare,
    prepare_ensembles,
    settle_members,
)
from muster.orchestrator.ensemble.requests import EnsembleRequest
from muster.orchestrator.settings.request import InputRun, LaunchRequest
from muster.workers.errors import DamagedRunError, UsageError
from muster.workers.store.layout import Store
from tests.orchestrator.ensemble.conftest import Asked, made


def student_of(asked: Asked, teacher: str, **flags: Any) -> LaunchRequest:
    return asked(
        method="distill", teacher=teacher, ensemble__D=None, ensemble__L=None, distill__labels=2, **flags
    )


def finished(store: Store, request: LaunchRequest, **answer: Any) -> None:
    run = store.run(request.run)
    run.write("run.json", request.document())
    run.write("answer.json", {"state": "done", "weights": "none", "precision": "bf16", **answer})


def test_a_student_learns_from_a_finished_run_s_vectors_of_the_training_images(
    asked: Asked, packed: Store
) -> None:
    teacher = asked(name="teacher", data__val_classes=1)
    finished(packed, teacher)
    student = student_of(asked, "teacher", data__val_classes=1)
    found = made(student, packed)
    (task,) = member_tasks(student, found, "none", "fp32")
    theirs = member_tasks(teacher, made(teacher, packed, "train"), "none", "bf16")
    assert [one.key for one in task.inputs] == [one.key for one in theirs]
    assert [[target.split for target in one.targets] for one in task.inputs] == [["train"]] * 3
    assert task.spec.inputs == tuple(
        (one.key, one.targets[0].digest) for one in task.inputs
    )  # what it waits for is what it reads
    assert task.inputs[0].targets[0].images.class_ids == found.train.class_ids
    assert prepare(replace(student, storage="elsewhere"), packed, None) == found


@pytest.mark.parametrize(
    ("theirs", "answer", "said"),
    [
        ({}, {"state": "partial 1 of 3"}, "is partial 1 of 3: what learns from it needs all of it"),
        ({"data__train_classes": 4}, {}, "other images: train_classes 4 there, 0 here"),
        ({"data__skip_bad_images": True}, {}, "other images: skip_bad_images True there, False here"),
        ({"data__val_classes": 2}, {}, "other images: val_classes 2 there, 1 here"),
        ({"ensemble__seed": 5}, {}, "other images: another seed held out other classes"),
    ],
)
def test_a_run_that_cannot_teach_is_refused(
    asked: Asked, packed: Store, theirs: Any, answer: Any, said: str
) -> None:
    finished(packed, asked(name="other", **{"data__val_classes": 1, **theirs}), **answer)
    for check in (check_ensemble, lambda student: prepare(student, packed, None)):
        with pytest.raises(UsageError, match=said):
            check(student_of(asked, "other", data__val_classes=1))


def test_what_is_no_finished_launch_cannot_teach(asked: Asked, packed: Store) -> None:
    begun, hunt, torn = (packed.run(name) for name in ("begun", "hunt", "torn"))
    begun.write("run.json", asked(name="begun").document())
    hunt.write("run.json", {**asked(name="hunt").document(), "kind": "search"})
    torn.write("run.json", asked(name="torn").document())
    said = {
        "nobody": rf"nobody: there is no such run in {packed.root}\. There are: begun, ",
        "hunt": r"hunt is a search, and no ensemble: give a run of muster launch\. There are: begun, ",
        "begun": r"begun is not finished: what learns from it needs all of it\. First: muster resume begun\.",
    }
    for name, text in said.items():
        with pytest.raises(UsageError, match=text):
            check_ensemble(student_of(asked, name))
    whole = {"state": "done", "weights": "none", "precision": "fp32"}
    for lacks in whole:
        torn.write("answer.json", {name: value for name, value in whole.items() if name != lacks})
        with pytest.raises(DamagedRunError, match=f"answer.json is damaged: it lacks {lacks}"):
            check_ensemble(student_of(asked, "torn"))
    torn.write("run.json", {**asked().document(), "data": 3})
    with pytest.raises(UsageError, match=r"torn/run\.json: data"):
        check_ensemble(student_of(asked, "torn"))


def test_a_teacher_elsewhere_and_with_another_seed_will_do_where_nothing_is_held_out(
    asked: Asked, packed: Store, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(images)
    run = packed.run("moved")  # under a name that its request did not have, in a store that lay elsewhere
    teacher = asked(data__root="/gone", ensemble__seed=7)
    run.write("run.json", {**teacher.document(), "name": "", "storage": "/gone too"})
    run.write("answer.json", {"state": "done", "weights": "none", "precision": "bf16"})
    student = student_of(asked, "moved", data__root=str(tmp_path / "link"))
    (found,) = made(student, packed).inputs
    assert (found.launch.data.root, found.launch.name, found.launch.storage) == (
        str(tmp_path / "link"), "moved", packed.root,
    )  # fmt: skip
    assert found.settled == ("none", "bf16")


def test_a_teacher_of_the_same_job_is_settled_before_its_student(asked: Asked, packed: Store) -> None:
    teacher, student = asked(name="first"), student_of(asked, "first", name="second")
    requests = [EnsembleRequest(launch=launch, name=launch.name) for launch in (student, teacher)]
    found = prepare_ensembles(requests, packed, lambda *_: None)
    order: list[str] = []

    def settle(request: EnsembleRequest) -> Any:
        order.append(request.name)
        return "none", "fp32"

    settle_members(found, settle)
    assert order == ["first", "second"]
    assert [one.trouble for one in found] == ["", ""]
    assert [task.key for task in found[0].tasks[0].inputs] == found[1].keys
    again = prepare_ensembles(requests[:1] + requests[1:], packed, None)
    settle_members(again[:1], settle, settled={"first": ("none", "bf16")})
    assert again[0].tasks[0].key != found[0].tasks[0].key  # of other weights
    settle_members(again[:1], settle)
    assert again[0].trouble == "first, which it learns from, has no members."


def test_an_input_is_its_keys_and_its_vectors(asked: Asked, packed: Store) -> None:
    bier = asked(
        method="bier", preset="glyphs", ensemble__D=None, ensemble__L=None, bier__labels=4, combine="sqrt"
    )
    (task,) = member_tasks(bier, made(bier, packed), "none", "fp32")
    found = planning.input_run(bier, (task,))
    combination = bier.settings.combination
    assert found == InputRun(keys=(task.key,), vectors=task.targets[0].digest, combination=combination)
    assert combination is not None
    assert combination.how == "sqrt"
