"""What a run needs and what the store lacks of it: from real images and commit records, with nothing trained."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from muster.orchestrator.ensemble.checks import check_ensemble
from muster.orchestrator.ensemble.plan import (
    check_listing,
    counted_members,
    make_plan,
    member_tasks,
    merged,
    no_data,
    prepare,
    prepare_ensembles,
    split_classes,
)
from muster.orchestrator.ensemble.requests import EnsembleRequest, EnsembleResult
from muster.orchestrator.methods.loading import load
from muster.orchestrator.records.measured import Place
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.errors import BadImagesError, UsageError
from muster.workers.rng import permutation
from muster.workers.store.layout import Store
from muster.workers.store.records import Done
from muster.workers.task import MemberTask
from tests.conftest import write_classes
from tests.orchestrator.ensemble.conftest import Asked, made, planned
from tests.workers.datasets import copies

# Classes that are held out.


@pytest.mark.parametrize("held", [0, 1, 7, 18])
@pytest.mark.parametrize("cut", [0, 20])
def test_held_out_classes_and_the_others_are_all_there_are(asked: Asked, held: int, cut: int) -> None:
    request = replace(asked(), data=replace(asked().data, val_classes=held, train_classes=cut))
    kept, out = split_classes(request, 30)
    assert len(out) == held
    assert sorted([*kept, *out]) == list(range(cut or 30))
    assert (list(kept), list(out)) == (sorted(kept), sorted(out))


def test_which_classes_are_held_out_depends_on_the_seed_alone(asked: Asked) -> None:
    def held(**flags: Any) -> tuple[int, ...]:
        return split_classes(asked(data__val_classes=4, **flags), 100)[1]

    assert held() == held(ensemble__L=1) == held(data__skip_bad_images=True)
    assert held() == tuple(sorted(permutation(("val-classes", 0), 100)[:4].tolist()))  # as stores have them
    assert held(ensemble__seed=1) != held()


# What is asked for, before anything is packed.


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"data__train_classes": 6}, ["--train-classes 6: ", " has 5."]),
        ({"data__train_classes": 1}, ["--train-classes 1: at least 2 classes are needed to train on."]),
        ({"data__val_classes": 4}, ["--val-classes 4 leaves 1 of 5 classes to train on."]),
        ({"data__val_classes": 3, "data__train_classes": 4}, ["--val-classes 3 leaves 1 of 4 classes"]),
        ({"ensemble__D": 6}, ["D = 6", "2..5"]),
        ({"ensemble__D": 5, "data__val_classes": 1}, ["D = 5", "2..4"]),
        ({"ensemble__D": 5, "data__train_classes": 4}, ["D = 5", "2..4"]),
    ],
)
def test_a_listing_that_has_too_few_classes_is_refused(asked: Asked, flags: Any, said: list[str]) -> None:
    for check in (check_listing, check_ensemble):
        with pytest.raises(UsageError) as caught:
            check(asked(**flags))
        assert len(caught.value.problems) == 1
        assert all(part in str(caught.value) for part in said)


@pytest.mark.parametrize(
    "flags",
    [{"data__train_classes": 2}, {"data__val_classes": 3}, {"ensemble__D": 5}, {"data__train_classes": 5}],
)
def test_the_fewest_classes_that_will_do_are_taken(asked: Asked, flags: Any) -> None:
    data, splits = check_listing(asked(**flags))
    assert {name: len(split.class_names) for name, split in splits.items()} == {"train": 5, "test": 5}
    assert check_ensemble(asked(**flags)) == (splits, "none")
    assert data.traits.title


def test_a_test_split_of_lone_images_is_refused(asked: Asked, tmp_path: Path) -> None:
    root = write_classes(tmp_path / "lone", classes=6, each=1)
    with pytest.raises(UsageError, match="no class has two images: there is nothing to retrieve") as caught:
        check_listing(asked(data__root=str(root)))
    assert len(caught.value.problems) == 1


def test_all_that_is_wrong_with_a_listing_is_told_at_once(asked: Asked, tmp_path: Path) -> None:
    root = write_classes(tmp_path / "lone", classes=6, each=1)
    with pytest.raises(UsageError) as caught:
        check_listing(asked(data__root=str(root), data__train_classes=9, ensemble__D=9))
    assert len(caught.value.problems) == 3


def test_a_root_without_a_copy_is_told(asked: Asked, tmp_path: Path) -> None:
    assert no_data(asked()) == ""
    said = f"no data at {tmp_path}: no copy of cub200 is there"
    request = asked()
    assert no_data(replace(request, data=replace(request.data, dataset="cub200", root=str(tmp_path)))) == said


# Packs, and what is wanted of them.


def test_nothing_is_packed_unless_it_may_be(asked: Asked, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    assert prepare(asked(), store, None) is None
    assert not (tmp_path / "store").exists()
    told: list[tuple[str, int, int]] = []
    assert prepare(asked(), store, lambda *step: told.append(step)) is not None
    assert {(split, total) for split, _, total in told} == {("train", 10), ("test", 10)}
    assert prepare(asked(), store, None) == prepare(asked(), store, None) is not None
    assert prepare(asked(data__val_classes=1), store, None, ("train",)) is not None
    assert prepare(asked(image_size=24), store, None) is None


def test_the_vectors_that_are_wanted_are_of_each_split_s_own_images(asked: Asked, packed: Store) -> None:
    plain = made(asked(), packed)
    assert [target.split for target in plain.targets] == ["test"]
    assert (plain.classes, plain.embedded) == (5, 10)
    found = made(asked(data__val_classes=2), packed, "train")
    assert [target.split for target in found.targets] == ["test", "val", "train"]
    test, val, train = (target.images for target in found.targets)
    assert test == plain.targets[0].images
    assert test.class_ids is None
    assert sorted([*(val.class_ids or ()), *(train.class_ids or ())]) == list(range(5))
    assert (len(val.class_ids or ()), found.classes, found.embedded) == (2, 3, 20)
    assert found.train.class_ids == train.class_ids
    assert len({test.digest, val.digest, train.digest}) == 3
    assert {target.view for target in found.targets} == {asked().view}
    facts = {name: found.facts[name] for name in found.facts if "digest" not in name and name != "root"}
    assert facts == {
        "dataset": "folder", "train_images": 6, "train_classes": 3, "val_classes": 2, "test_images": 10,
        "test_classes": 5, "pack_bytes": 2 * 10 * 20 * 20 * 3,
    }  # fmt: skip
    assert found.facts["train_digest"] == found.train.digest
    assert found.facts["test_digest"] == test.digest
    assert found.differences == ()
    assert found.warnings == (
        "Only 3 val images can be found: recall at 4, 8 takes all of them and says nothing.",
    )


def test_training_and_embedding_may_take_pictures_of_two_sizes(asked: Asked, packed: Store) -> None:
    found = made(asked(view__resize="squash:24"), packed, "train")
    test, train = found.targets
    assert train.images.class_ids == found.train.class_ids
    assert train.images.pack != found.train.pack  # the same images in the other size
    assert train.images.digest != found.train.digest
    assert test.images.pack != made(asked(), packed).targets[0].images.pack


def test_what_is_left_out_is_told(asked: Asked, tmp_path: Path) -> None:
    root, store = write_classes(tmp_path / "images", classes=30, each=2), Store(str(tmp_path / "store"))
    for number in range(18, 30):
        (root / f"class {number:02d}/1.jpg").unlink()
    found = made(asked(data__root=str(root)), store)
    (lone,) = found.warnings
    assert lone.startswith("12 test class(es) of one image are left out of the mean: class 18, class 19,")
    assert lone.endswith("class 27 and 2 more.")
    (root / "class 00/0.jpg").write_bytes(b"no picture")
    (root / "class 16/0.jpg").write_bytes(b"nor this")
    with pytest.raises(BadImagesError) as caught:
        made(asked(data__root=str(root)), store)
    assert len(caught.value.problems) == 2  # of both splits, at once
    found = made(asked(data__root=str(root), data__skip_bad_images=True), store)
    told = [text for text in found.warnings if "could not be read" in text]
    assert len(told) == 2
    assert all(text.startswith("1 image(s) could not be read and were left out: class ") for text in told)


# Members.


def test_members_are_in_index_order_with_all_that_their_keys_are_made_of(asked: Asked, packed: Store) -> None:
    request = asked(ensemble__seed=3, ensemble__threads=2, ensemble__deterministic=True)
    found = made(request, packed)
    tasks = member_tasks(request, found, "w" * 64, "bf16")
    assert [task.spec.index for task in tasks] == [1, 2, 3]
    for task in tasks:
        spec = task.spec
        assert (spec.train_digest, spec.classes, spec.backbone) == (found.train.digest, 5, "conv4")
        assert (spec.weights, spec.precision, spec.seed, spec.recipe) == (
            "w" * 64, "bf16", 3, request.recipe,
        )  # fmt: skip
        assert (spec.threads, spec.deterministic) == (2, True)
        assert (task.train, task.targets, task.ranks, task.inputs) == (found.train, found.targets, 1, ())
    assert len({task.key for task in tasks}) == 3


def test_how_a_model_is_trained_by_several_is_no_part_of_its_key(asked: Asked, packed: Store) -> None:
    flags = {
        "method": "bier",
        "preset": "glyphs",
        "ensemble__D": None,
        "ensemble__L": None,
        "bier__labels": 4,
    }
    one = asked(**flags)
    two = asked(**flags, resources__ranks=2, resources__checkpoint_steps=7)
    (first,), (second,) = (member_tasks(each, made(each, packed), "none", "fp32") for each in (one, two))
    assert (first.ranks, first.checkpoint_steps, second.ranks, second.checkpoint_steps) == (1, 500, 2, 7)
    assert first.key == second.key


def test_counts_are_said_in_words() -> None:
    said = [counted_members(count, one=one) for count in (0, 1, 2) for one in (False, True)]
    assert said == ["0 members", "0 models", "1 member", "1 model", "2 members", "2 models"]


# What the store lacks.


def committed(store: Store, task: MemberTask, *splits: str, weights: bool = True) -> None:
    folder = store.model(task.key)
    if weights:
        folder.commit(Done({}, {"attempt": "one"}))
    for target in task.targets:
        if target.split in splits:
            folder.embedding(target.digest).commit(Done({}, {}))


def test_a_plan_is_what_the_store_lacks(asked: Asked, packed: Store, tmp_path: Path) -> None:
    ensemble = planned(asked(ensemble__L=4), packed, "train")
    store = Store(str(tmp_path))
    whole, vectorless, half, new = ensemble.tasks
    committed(store, whole, "test", "train")
    committed(store, vectorless)
    committed(store, half, "test")
    committed(
        store, new, "test", "train", weights=False
    )  # vectors of weights that are gone are worth nothing
    plan = make_plan([ensemble], store)
    assert plan.to_train == {new.key}
    assert plan.to_embed == {vectorless.key, half.key}
    assert list(plan.tasks) == ensemble.keys == [task.key for task in ensemble.tasks]
    assert (plan.cost.members, plan.cost.to_train, plan.ensembles) == (4, 1, [ensemble])
    store.files.put(store.model(whole.key) / "DONE.json", b"{")
    assert make_plan([ensemble], store).to_train == {new.key, whole.key}


def test_where_it_is_trained_is_asked_only_if_anything_is(
    asked: Asked, packed: Store, tmp_path: Path
) -> None:
    ensemble, store, calls = planned(asked(), packed), Store(str(tmp_path)), []

    def place() -> Place:
        calls.append(1)
        return Place("cpu", 5)

    assert make_plan([ensemble], store, place).cost.slots == 5
    for task in ensemble.tasks:
        committed(store, task, "test")
    assert make_plan([ensemble], store, place).cost.slots == 0
    assert len(calls) == 1


def test_a_member_of_two_ensembles_is_one_with_the_vectors_of_both(asked: Asked, packed: Store) -> None:
    one, two = planned(asked(), packed, "train"), planned(asked(ensemble__L=2), packed)
    other = planned(asked(view__crop=16), packed)
    found = merged([two, one, other])
    assert [task.spec.index for task in found.values()] == [1, 2, 3]
    wanted = [[target.split for target in task.targets] for task in found.values()]
    assert wanted == [["test", "train", "test"]] * 3
    assert len({target.digest for target in found[one.keys[0]].targets}) == 3


# Several ensembles.


def test_a_result_knows_its_targets_by_their_split() -> None:
    targets = [SimpleNamespace(split=name) for name in ("test", "val")]
    task: Any = SimpleNamespace(targets=targets)
    result = EnsembleResult(request=EnsembleRequest(launch=load(None, {}, [])), tasks=(task,))
    assert [result.target(name) for name in ("test", "val")] == targets
    with pytest.raises(KeyError):
        result.target("train")


def of_inshop(asked: Asked, root: Path, change: Callable[[str], str]) -> LaunchRequest:
    """A request on a copy of In-Shop whose list was changed line by line."""
    copies.inshop(root)
    (listed,) = root.rglob("list_eval_partition.txt")
    listed.write_text("".join(f"{change(line)}\n" for line in listed.read_text().splitlines()))
    request = asked(ensemble__D=2)
    return replace(request, data=replace(request.data, dataset="inshop", root=str(root), allow_counts=True))


def test_queries_without_a_gallery_are_refused_before_anything_is_packed(
    asked: Asked, tmp_path: Path
) -> None:
    """They passed here, and ended in a traceback after all the training."""
    request = of_inshop(asked, tmp_path, lambda line: re.sub(r"id_0000(\d+ +gallery)", r"id_9000\1", line))
    with pytest.raises(
        UsageError, match="none of the 6 queries has an image of its class among the 6 gallery"
    ):
        check_listing(request)


def test_a_query_without_a_gallery_image_is_named_where_it_is_left_out(asked: Asked, tmp_path: Path) -> None:
    lone = "id_00000002"
    request = of_inshop(
        asked, tmp_path / "copy", lambda line: re.sub(rf"{lone}( +gallery)", r"id_90000002\1", line)
    )
    found = made(request, Store(str(tmp_path / "store")))
    assert (
        f"2 of 6 test queries have no gallery image and are left out of the mean: {lone}." in found.warnings
    )


def test_what_skipping_bad_images_leaves_must_be_enough(asked: Asked, tmp_path: Path) -> None:
    root, store = write_classes(tmp_path / "images", classes=10, each=2), Store(str(tmp_path / "store"))
    skipping = asked(data__root=str(root), data__skip_bad_images=True)
    for number in range(5, 9):
        (root / f"class {number:02d}/0.jpg").write_bytes(b"no picture")
    told = made(skipping, store).warnings
    assert (
        "4 test class(es) of one image are left out of the mean: class 05, class 06, class 07, class 08."
        in told
    )
    (root / "class 09/1.jpg").write_bytes(b"no picture")
    with pytest.raises(UsageError, match="no class has two images"):
        made(skipping, store)


def test_meta_classes_are_counted_against_classes_that_have_images(asked: Asked, tmp_path: Path) -> None:
    root, store = write_classes(tmp_path / "images", classes=10, each=2), Store(str(tmp_path / "store"))
    for number in range(2):
        for image in (root / f"class {number:02d}").iterdir():
            image.write_bytes(b"no picture")
    flags = {"data__root": str(root), "data__skip_bad_images": True}
    (three,) = prepare_ensembles(
        [EnsembleRequest(launch=asked(**flags, ensemble__D=3))], store, lambda *_: None
    )
    assert three.prepared is not None
    assert "2 training class(es) have no image left: class 00, class 01." in three.prepared.warnings
    (four,) = prepare_ensembles(
        [EnsembleRequest(launch=asked(**flags, ensemble__D=4))], store, lambda *_: None
    )
    assert "D = 4: there are 3 training classes" in four.trouble
