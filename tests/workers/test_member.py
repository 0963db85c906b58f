"""A member's whole life on a store: trained once, embedded as asked, resumed."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from muster.workers import member as member_module
from muster.workers.errors import ToldToEndError
from muster.workers.forms import form
from muster.workers.member import run_member
from muster.workers.store.checkpoint import newest_whole
from muster.workers.store.layout import Store
from muster.workers.store.records import to_json
from muster.workers.store.vectors import read_vectors
from muster.workers.task import missing, read_history
from muster.workers.train.saving import Saver
from tests.workers.members import result, run, same_result, snapshot, task_for
from tests.workers.samples import CPU, VIEW


def test_a_member_is_trained_and_embedded_in_every_kind_of_store(root: str, images: Path) -> None:
    store = Store(root)
    task = task_for(store, images)
    assert missing(store, task) == (True, list(task.targets))
    log = run(store, task)
    assert missing(store, task) == (False, [])
    folder = store.model(task.key)
    done = folder.done()
    assert done is not None
    assert {name.rpartition("/")[2] for name in done.files} == {"weights.safetensors", "history.parquet"}
    assert done.facts["attempt"] == "one"
    assert done.facts["images"] == 24
    assert done.facts["threads"] == 1
    assert 0 < done.facts["overhead_seconds"] < 600
    assert [row["epoch"] for row in read_history(folder, done)] == [1, 2, 3]
    assert folder.files.names(folder.attempt("one")) == ["history.parquet", "weights.safetensors"]
    assert any("epoch 3: loss" in line for line in log)
    for target in task.targets:
        vectors = read_vectors(folder.embedding(target.digest))
        assert vectors.shape == (24, 3)
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
        assert (read_vectors(folder.embedding(target.digest), 3, 7) == vectors[3:7]).all()


def test_the_spec_of_a_model_is_written_for_people(store: Store, images: Path) -> None:
    task = task_for(store, images)
    run(store, task)
    written = store.files.get(store.model(task.key) / "spec.json")
    assert written == to_json({"key": task.key, **form(task.spec)})


def test_vectors_are_a_column_that_other_programs_read(store: Store, images: Path) -> None:
    task = task_for(store, images)
    run(store, task)
    (path,) = Path(store.root).glob(f"models/{task.key}/embeddings/{task.targets[0].digest}/*.parquet")
    column = pq.read_table(path)["vector"]
    assert str(column.type) == "fixed_size_list<element: float>[3]"
    assert np.array_equal(
        np.stack(column.to_numpy()), read_vectors(store.model(task.key).embedding(task.targets[0].digest))
    )


def test_the_record_counts_the_images_that_were_trained_on(store: Store, images: Path) -> None:
    task = task_for(store, images)
    recipe = dataclasses.replace(task.spec.recipe, class_cap=1)
    task = dataclasses.replace(task, spec=dataclasses.replace(task.spec, recipe=recipe))
    run(store, task)
    done = store.model(task.key).done()
    assert done is not None
    assert done.facts["images"] == task.spec.classes < 24
    assert done.facts["images"] * done.facts["epochs"] == task.spec.shown(24)


def test_what_is_there_is_not_done_again(store: Store, images: Path) -> None:
    task = task_for(store, images)
    run(store, task)
    before = snapshot(store)
    assert run(store, task, "two") == []
    assert snapshot(store) == before


def test_another_view_is_embedded_without_touching_the_weights(store: Store, images: Path) -> None:
    task = task_for(store, images)
    run(store, task)
    before = snapshot(store)
    nearer = dataclasses.replace(task.targets[0], view=dataclasses.replace(VIEW, crop=18))
    more = dataclasses.replace(task, targets=(*task.targets, nearer))
    assert missing(store, more) == (False, [nearer])
    assert run(store, more, "two") == ["embedded 24 images of test"]
    after = snapshot(store)
    assert {name: after[name] for name in before} == before
    new = store.model(task.key).embedding(nearer.digest)
    assert set(after) - set(before) == {new / "vectors.parquet", new / "DONE.json"}


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_killed_attempt_is_resumed_to_the_same_bytes(
    epochs: int, store: Store, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = Store(str(tmp_path / "calm"))
    task = task_for(calm, images)
    run(calm, task)
    task_for(store, images)
    save = Saver.__call__

    def killed(saver: Saver, checkpoint: Any) -> None:
        save(saver, checkpoint)
        if checkpoint.epoch == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(Saver, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        run(store, task, "one")
    monkeypatch.undo()
    folder = store.model(task.key)
    assert folder.done() is None
    assert folder.reached()[0] == epochs
    log = run(store, task, "two")
    assert f"resumed after epoch {epochs}" in log
    same_result(store, task, *result(calm, task))
    done = folder.done()
    assert done is not None
    assert done.facts["resumed_after_epoch"] == epochs
    assert folder.files.names(folder.attempts) == ["two"]


def test_an_attempt_killed_before_its_first_checkpoint_starts_again(
    store: Store, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_for(store, images)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(member_module, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        run(store, task)
    monkeypatch.undo()
    assert newest_whole(store.model(task.key)) is None
    assert not any("resumed" in line for line in run(store, task, "two"))


def test_sigterm_in_the_middle_of_an_epoch_costs_no_step(store: Store, images: Path, tmp_path: Path) -> None:
    calm = Store(str(tmp_path / "calm"))
    task = task_for(calm, images)
    run(calm, task)
    task_for(store, images)

    def report(progress: dict[str, Any]) -> None:
        if progress.get("stepping"):
            signal.raise_signal(signal.SIGTERM)

    log: list[str] = []
    with pytest.raises(ToldToEndError, match="Member 1 was told to end"):
        run_member(store, task, "one", CPU, report=report, log=log.append)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    folder = store.model(task.key)
    assert folder.reached() == (0, 2)  # the report came behind the first step
    assert "saved after epoch 0, step 2 of the next" in log
    assert "resumed after epoch 0, step 2 of the next" in run(store, task, "two")
    same_result(store, task, *result(calm, task))
