"""Distillation: its losses by hand, resumption to the bit, a student's key, and what it reads of its teacher."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from muster.workers.embed import embed
from muster.workers.errors import CorruptFileError, UsageError
from muster.workers.methods.distill.loss import Relations, Similarities, loss_of
from muster.workers.methods.distill.settings import DistillSettings, DistillSpec, Teacher
from muster.workers.methods.distill.trainer import joined, network
from muster.workers.packs.pack import Part, read_index
from muster.workers.score.combine import combine
from muster.workers.spec import InputRecipe
from muster.workers.store.checkpoint import Checkpoint
from muster.workers.store.layout import Store
from muster.workers.store.vectors import VECTORS
from muster.workers.task import MemberTask
from tests.workers.members import result, run, same_result, task_for
from tests.workers.samples import CPU, VIEW, synthetic_pack, trainer_of
from tests.workers.samples import train as train_on
from tests.workers.train.resumed import same_when_resumed

PACK = synthetic_pack()
PART = PACK.index.part()
LOSSES = ("similarities", "relations")
DRAWS = np.random.default_rng(5)
TEACHER = [DRAWS.standard_normal((30, 4)).astype(np.float32) for _ in range(2)]


def settings(**changes: Any) -> DistillSettings:
    given: dict[str, Any] = {"dim": 4, "labels": 3, "images": 2, "epochs": 3, "lr": 1e-3, "embedding_lr": 1.0}
    return DistillSettings(**{**given, **changes})


def spec_of(part: Part = PART, how: DistillSettings | None = None, **changes: Any) -> DistillSpec:
    recipe = InputRecipe(resize="squash:20", crop=16, pad=2, mean=VIEW.mean, std=VIEW.std)
    given: dict[str, Any] = {
        "train_digest": part.digest, "classes": part.classes, "backbone": "conv4", "weights": "none", "seed": 0,
        "recipe": recipe, "distill": how or settings(), "teacher": Teacher(keys=("a" * 32, "b" * 32), vectors="c" * 16),
        "precision": "fp32", "threads": 1, "deterministic": False,
    }  # fmt: skip
    return DistillSpec(**{**given, **changes})


def train(spec: DistillSpec, **options: Any) -> Checkpoint:
    return train_on(spec, PACK, inputs=TEACHER, **options)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    draws = np.random.default_rng(6)
    student = torch.tensor(draws.standard_normal((6, 3)), dtype=torch.float32)
    return student, F.normalize(torch.tensor(draws.standard_normal((6, 5)), dtype=torch.float32))


def test_similarities_are_soft_labels_of_a_contrastive_loss_by_hand() -> None:
    student, teacher = batch()
    unit = F.normalize(student.double())
    wanted = 0.0
    for i in range(6):
        others = [j for j in range(6) if j != i]
        labels = torch.softmax(
            torch.stack([teacher[i].double() @ teacher[j].double() for j in others]) / 0.3, 0
        )
        mine = torch.log_softmax(torch.stack([unit[i] @ unit[j] for j in others]) / 0.7, 0)
        wanted -= float(labels @ mine)
    assert float(Similarities(0.7, 0.3)(student, teacher)) == pytest.approx(wanted / 6, rel=1e-5)


def test_relations_are_huber_losses_of_distances_and_angles_by_hand() -> None:
    student, teacher = batch()
    pairs, angles = [], []
    for vectors in (F.normalize(student), teacher):
        distances = torch.cdist(vectors, vectors)
        pairs.append(distances / (distances.sum() / 30))
        angle = torch.zeros(6, 6, 6)
        for i in range(6):
            for j in range(6):
                for k in range(6):
                    if i not in {j, k}:
                        angle[i, j, k] = F.cosine_similarity(
                            vectors[j] - vectors[i], vectors[k] - vectors[i], dim=0
                        )
        angles.append(angle)
    wanted = F.smooth_l1_loss(*pairs) + 2 * F.smooth_l1_loss(*angles)
    assert float(Relations(2.0)(student, teacher)) == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_student_that_is_its_teacher_has_nothing_to_learn_of_relations(loss: str) -> None:
    _, teacher = batch()
    student = teacher.clone().requires_grad_()
    value = loss_of(settings(loss=loss))(student, teacher)
    value.backward()
    assert student.grad is not None
    assert bool(student.grad.isfinite().all())
    if loss == "relations":
        assert value.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_images_that_are_alike_leave_the_gradient_finite(loss: str) -> None:
    student = torch.ones(6, 3, requires_grad=True)
    loss_of(settings(loss=loss))(student, batch()[1]).backward()
    assert student.grad is not None
    assert bool(student.grad.isfinite().all())


@pytest.mark.parametrize("loss", LOSSES)
def test_training_brings_the_students_similarities_to_its_teachers(loss: str) -> None:
    """The teacher of this test knows the classes; the student never sees them."""
    labels = np.eye(6, dtype=np.float32)[PART.labels]
    spec = spec_of(how=settings(loss=loss, epochs=80, labels=6, images=4, dim=8, lr=3e-3))
    saved: list[Checkpoint] = []
    state = train_on(spec, PACK, inputs=[labels], save=saved.append)
    assert state.history[-1]["loss"] < state.history[0]["loss"]

    def agreement(at: Checkpoint) -> float:
        student = network(spec)
        student.load_state_dict(dict(kept_of(spec, at)))
        vectors = embed(student, PACK, PART, VIEW, CPU)
        return float(np.corrcoef((vectors @ vectors.T).ravel(), (labels @ labels.T).ravel())[0, 1])

    assert agreement(state) > agreement(saved[0]) + 0.1


def kept_of(spec: DistillSpec, state: Checkpoint) -> Any:
    return trainer_of(spec, PACK, inputs=TEACHER).kept(state)


@pytest.mark.parametrize("loss", LOSSES)
def test_resuming_gives_the_same_bits(loss: str) -> None:
    spec = spec_of(how=settings(loss=loss))
    _, saved = same_when_resumed(partial(train, spec))
    assert len(saved) == 3


def test_the_teacher_its_vectors_and_every_setting_are_in_the_key() -> None:
    changed: dict[str, Any] = {
        "dim": 5, "labels": 4, "images": 3, "epochs": 2, "lr": 2e-3, "embedding_lr": 2.0, "weight_decay": 1e-4,
        "warmup": 0.2, "temperature": 2.0, "teacher_temperature": 2.0, "loss": "relations",
    }  # fmt: skip
    keys = {spec_of(how=settings(**{name: value})).key for name, value in changed.items()}
    keys.add(spec_of(how=settings(loss="relations", angle_weight=1.0)).key)
    teacher = spec_of().teacher
    for name, value in {"keys": ("a" * 32,), "vectors": "d" * 16, "sizes": (2, 2), "how": "sqrt"}.items():
        keys.add(spec_of(teacher=dataclasses.replace(teacher, **{name: value})).key)
    keys |= {spec_of().key, spec_of(seed=1).key}
    assert len(keys) == len(changed) + 1 + 4 + 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "hints"}, "loss = 'hints': there are similarities, relations"),
        ({"loss": "relations", "temperature": 2.0}, "temperature = 2.0 has no effect with loss = relations"),
        ({"angle_weight": 3.0}, "angle_weight = 3.0 has no effect with loss = similarities"),
        ({"dim": 1}, "dim = 1: must be at least 2"),
        ({"lr": float("nan")}, "lr = nan: must be above 0, and finite"),
        ({"warmup": 1.0}, "warmup = 1.0: must be in 0..1"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings(**changes)


def test_a_teachers_vectors_are_joined_at_unit_length_and_its_learners_combined() -> None:
    whole = joined(spec_of(), TEACHER)
    assert whole.shape == (30, 8)
    assert np.linalg.norm(whole, axis=1) == pytest.approx(1, abs=1e-6)
    of_learners = spec_of(teacher=Teacher(keys=("a",), vectors="b", sizes=(1, 3), how="share"))
    combined = combine(TEACHER[0], (1, 3), "share")
    wanted = combined / np.linalg.norm(combined, axis=1, keepdims=True)
    assert joined(of_learners, TEACHER[:1]) == pytest.approx(wanted, abs=1e-6)


def student_task(store: Store, images: Path) -> tuple[MemberTask, MemberTask]:
    """A trained member whose vectors of the training images are in the store, and a student of it."""
    teacher = task_for(store, images)
    run(store, teacher)
    index = read_index(store.pack(teacher.train.pack), teacher.train.pack)
    assert index is not None
    named = Teacher(keys=(teacher.key,), vectors=teacher.targets[0].digest)
    student = dataclasses.replace(teacher, spec=spec_of(index.part(), teacher=named), inputs=(teacher,))
    return teacher, student


def test_a_student_lives_in_the_store_like_a_member(store: Store, images: Path) -> None:
    _, task = student_task(store, images)
    lines = run(store, task)
    assert any("similarities of 1 models in 4 dimensions" in line for line in lines)
    weights, vectors = result(store, task)
    assert vectors[0].shape[1] == 4
    assert run(store, task, "again") == []
    same_result(store, task, weights, vectors)


def test_damaged_vectors_of_the_teacher_are_forgotten_so_that_they_are_made_again(
    store: Store, images: Path
) -> None:
    teacher, task = student_task(store, images)
    folder = store.model(teacher.key).embedding(teacher.targets[0].digest)
    store.files.put(folder / VECTORS, b"nothing")
    with pytest.raises(CorruptFileError):
        run(store, task)
    assert folder.done() is None
    run(store, teacher, "again")
    assert any("finished" in line for line in run(store, task, "again"))


def test_vectors_of_other_images_are_refused(store: Store, images: Path) -> None:
    teacher, task = student_task(store, images)
    fewer = dataclasses.replace(task.train, class_ids=(0, 1, 2))
    index = read_index(store.pack(task.train.pack), task.train.pack)
    assert index is not None
    part = index.part((0, 1, 2))
    spec = dataclasses.replace(task.spec, train_digest=part.digest, classes=3)
    with pytest.raises(UsageError, match="it trains on"):
        run(store, dataclasses.replace(task, spec=spec, train=dataclasses.replace(fewer, digest=part.digest)))
    assert teacher.targets
