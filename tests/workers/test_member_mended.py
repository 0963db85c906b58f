"""What a member finds damaged or lost is made again; what another attempt finished stands."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save

from muster.workers.errors import CorruptFileError, UsageError
from muster.workers.member import load_network, open_images, run_member
from muster.workers.networks.backbones import build, state_digest
from muster.workers.store.files import FileRecord
from muster.workers.store.layout import Store
from muster.workers.store.records import Done
from muster.workers.store.vectors import read_vectors, write_vectors
from muster.workers.task import MemberTask, missing
from tests.workers.members import damage, result, run, same_result, snapshot, task_for, weights_of
from tests.workers.samples import CPU, small_spec, synthetic_pack


def lose_vectors(store: Store, task: MemberTask) -> None:
    store.model(task.key).embedding(task.targets[0].digest).distrust()


def flip_weights(store: Store, task: MemberTask) -> None:
    damage(store, f"models/{task.key}/attempts/*/weights.safetensors")
    lose_vectors(store, task)


def lose_weights(store: Store, task: MemberTask) -> None:
    store.files.delete_folder(store.model(task.key).attempt("one"))
    lose_vectors(store, task)


def break_record(store: Store, task: MemberTask) -> None:
    store.files.put(store.model(task.key) / "DONE.json", b'{"attempt": "one", "fil')


def break_vectors_record(store: Store, task: MemberTask) -> None:
    store.files.put(store.model(task.key).embedding(task.targets[1].digest) / "DONE.json", b"")


@pytest.mark.parametrize(
    "harm", [lose_vectors, flip_weights, lose_weights, break_record, break_vectors_record]
)
def test_what_is_damaged_or_lost_is_made_again_the_same(
    harm: Callable[[Store, MemberTask], None], store: Store, images: Path
) -> None:
    task = task_for(store, images)
    run(store, task)
    weights, vectors = result(store, task)
    harm(store, task)
    assert missing(store, task) != (False, [])
    log = run(store, task, "two")
    assert any("epoch 3" in line for line in log) == (harm in {flip_weights, lose_weights, break_record})
    assert missing(store, task) == (False, [])
    same_result(store, task, weights, vectors)


def test_a_late_attempt_changes_nothing_of_the_first_ones_result(store: Store, images: Path) -> None:
    """The rival trains and commits the same key while this attempt is on its way."""
    task = task_for(store, images)
    rival: list[dict[str, Any]] = []

    def progress(found: dict[str, Any]) -> None:
        if found.get("epoch") == 1 and not rival:
            run(store, task, "rival")
            rival.append(
                {name: kept for name, kept in snapshot(store).items() if "rival" in name or "DONE" in name}
            )

    log: list[str] = []
    run_member(store, task, "late", CPU, report=progress, log=log.append)
    assert "finished, after another attempt: its result stands" in log
    after = snapshot(store)
    assert {name: after[name] for name in rival[0]} == rival[0]
    assert store.files.names(store.model(task.key).attempts) == ["rival"]


def test_images_other_than_those_planned_with_are_refused(store: Store, images: Path) -> None:
    task = task_for(store, images)
    other = dataclasses.replace(task.train, digest="0" * 64)
    with pytest.raises(CorruptFileError, match="planned"):
        open_images(store, other)
    with pytest.raises(UsageError, match="no pack"):
        open_images(store, dataclasses.replace(task.train, pack="0" * 32))


def test_an_unfinished_model_is_not_loaded(store: Store, images: Path) -> None:
    task = task_for(store, images)
    with pytest.raises(UsageError, match="no finished model"):
        load_network(store.model(task.key), task.spec)


def with_initial_weights(store: Store, images: Path) -> MemberTask:
    state = dict(build("conv4", 9, 77).state_dict())
    digest = state_digest(state)
    store.files.put(store.weights(digest), save(state))
    return task_for(store, images, weights=digest)


def test_initial_weights_are_read_from_the_store_by_content(store: Store, images: Path) -> None:
    task = with_initial_weights(store, images)
    run(store, task)
    plain = task_for(store, images)
    run(store, plain)
    assert weights_of(store, task) != weights_of(store, plain)


def test_damaged_initial_weights_are_refused_and_forgotten(store: Store, images: Path) -> None:
    for harm in (b"", b"short", None):
        task = with_initial_weights(store, images)
        if harm is None:
            damage(store, "weights/*.safetensors")
        else:
            store.files.put(store.weights(task.spec.weights), harm)
        with pytest.raises(CorruptFileError, match="launch again"):
            run(store, task)
        assert not store.files.exists(store.weights(task.spec.weights))


def test_initial_weights_that_are_gone_say_what_puts_them_anew(store: Store, images: Path) -> None:
    """As they are for each further attempt, and for each other member, once they were found damaged."""
    task = with_initial_weights(store, images)
    store.files.delete(store.weights(task.spec.weights))
    for attempt in ("one", "two"):
        with pytest.raises(CorruptFileError, match=r"gone or damaged.*launch again"):
            run(store, task, attempt)


def test_vectors_that_another_attempt_committed_stand(store: Store) -> None:
    folder = store.model("0123").embedding("aa")
    first = np.eye(3, dtype=np.float32)
    write_vectors(folder, first, {"split": "test"})
    before = snapshot(store)
    write_vectors(folder, first[::-1].copy(), {"split": "test"})
    assert snapshot(store) == before
    assert np.array_equal(read_vectors(folder), first)


def test_damaged_vectors_are_told(store: Store) -> None:
    folder = store.model("0123").embedding("aa")
    with pytest.raises(CorruptFileError, match="no finished vectors"):
        read_vectors(folder)
    write_vectors(folder, np.eye(3, dtype=np.float32), {})
    damage(store, "models/0123/embeddings/aa/vectors.parquet")
    with pytest.raises(CorruptFileError, match="is damaged"):
        read_vectors(folder)


@pytest.mark.parametrize("dimension", [0, 2**31, 2**53, -1, 2.0])
def test_a_record_of_vectors_of_no_possible_dimension_is_told(store: Store, dimension: float) -> None:
    folder = store.model("0123").embedding("aa")
    write_vectors(folder, np.eye(3, dtype=np.float32), {})
    record = json.loads(store.files.get(folder / "DONE.json"))
    store.files.put(folder / "DONE.json", json.dumps({**record, "D": dimension}).encode())
    with pytest.raises(CorruptFileError, match=r"D is .*should be a dimension"):
        read_vectors(folder)


def test_vectors_of_no_images_are_read(store: Store) -> None:
    folder = store.model("0123").embedding("aa")
    write_vectors(folder, np.empty((0, 3), np.float32), {})
    assert read_vectors(folder).shape == (0, 3)


def test_a_network_is_loaded_as_it_was_trained(store: Store) -> None:
    """googlenet converts its input if it was trained from pretrained weights: its trained weights don't say so."""
    spec = small_spec(synthetic_pack().index.part(), backbone="googlenet", weights="f" * 64)
    folder = store.model(spec.key)
    data = save(dict(build("googlenet", spec.D, 1, pretrained=True).state_dict()))
    folder.files.put(folder / "attempts/one/weights.safetensors", data)
    folder.commit(Done({"attempts/one/weights.safetensors": FileRecord.of(data)}, {"attempt": "one"}))
    assert load_network(folder, spec).transform_input is True
