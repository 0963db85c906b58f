"""A key names what determines a model's weights: all of it, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from muster.workers import spec as specs
from muster.workers.datasets import ImageFolder
from muster.workers.forms import added, first_fields, form, keyed
from muster.workers.methods.baseline.settings import BaselineSettings, BaselineSpec
from muster.workers.methods.bier.settings import BierSettings, BierSpec
from muster.workers.methods.dreml.settings import MemberSpec, Recipe
from muster.workers.packs.build import build_pack
from muster.workers.packs.pack import Part
from muster.workers.spec import TRAINING_VERSION, InputRecipe, TestView, embedding_digest
from muster.workers.store.layout import Store
from tests.workers.samples import VIEW, pack_of, small_recipe, small_spec, synthetic_pack

PACK = synthetic_pack(classes=6, each=2)
PART = PACK.index.part()
RECIPE = small_recipe()
SPEC = small_spec(PART)

#: A valid other value of every field.
RECIPE_CHANGES: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 9,
    "lr": 0.02,
    "momentum": 0.8,
    "nesterov": True,
    "weight_decay": 1e-4,
    "schedule": "constant",
    "step_epochs": 5,
    "milestones": (0.5,),
    "gamma": 0.2,
    "warmup": 0.3,
    "resize": "short:20",
    "crop": 17,
    "pad": 3,
    "flip": False,
    "rotate": 10.0,
    "mean": (0.4, 0.5, 0.5),
    "std": (0.3, 0.3, 0.2),
    "class_cap": 1,
    "select": "best-train",
    "normalize_logits": True,
}
SPEC_CHANGES: dict[str, Any] = {
    "train_digest": "0" * 64,
    "classes": 7,
    "backbone": "resnet18",
    "weights": "f" * 64,
    "D": 4,
    "index": 2,
    "seed": 1,
    "partition": "unbalanced",
    "precision": "bf16",
    "threads": 2,
    "deterministic": True,
    "training_version": TRAINING_VERSION + 1,
}
#: These have a single value so far.
FIXED = {"method", "batch_norm", "recipe"}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Recipe)])
def test_every_field_of_the_recipe_is_in_the_key(field: str) -> None:
    changed = dataclasses.replace(RECIPE, **{field: RECIPE_CHANGES[field]})
    assert getattr(changed, field) != getattr(RECIPE, field)
    assert small_spec(PART, changed).key != SPEC.key


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(MemberSpec) if f.name not in FIXED])
def test_every_field_of_a_member_is_in_the_key(field: str) -> None:
    assert dataclasses.replace(SPEC, **{field: SPEC_CHANGES[field]}).key != SPEC.key


def test_settings_with_one_value_so_far_are_in_the_key_too() -> None:
    for field in ("method", "batch_norm"):
        changed = dataclasses.replace(SPEC)
        object.__setattr__(changed, field, "another")
        assert changed.key != SPEC.key


def test_a_new_training_version_makes_new_keys() -> None:
    assert SPEC.training_version == TRAINING_VERSION
    assert dataclasses.replace(SPEC, training_version=TRAINING_VERSION + 1).key != SPEC.key


def test_all_these_keys_differ_from_each_other() -> None:
    keys = [small_spec(PART, dataclasses.replace(RECIPE, **{f: v})).key for f, v in RECIPE_CHANGES.items()]
    keys += [dataclasses.replace(SPEC, **{f: v}).key for f, v in SPEC_CHANGES.items()]
    assert len({SPEC.key, *keys}) == 1 + len(keys)


def images_and_labels() -> tuple[list[Any], list[int]]:
    return [PACK.image(row).copy() for row in range(len(PACK.index))], PACK.index.labels.tolist()


def digest_of(images: list[Any], labels: list[int], class_ids: tuple[int, ...] | None = None) -> str:
    return pack_of(images, labels).index.part(class_ids).digest


def test_one_changed_pixel_changes_the_images_digest() -> None:
    images, labels = images_and_labels()
    assert digest_of(images, labels) == PART.digest
    images[7][3, 4, 1] ^= 1
    assert digest_of(images, labels) != PART.digest


def test_a_label_an_order_a_shape_and_a_missing_image_change_the_images_digest() -> None:
    images, labels = images_and_labels()
    relabelled = [*labels[:-2], 0, labels[-1]]
    reshaped = [images[0].reshape(10, 40, 3), *images[1:]]
    digests = [
        digest_of(images, labels),
        digest_of(images, relabelled),
        digest_of([images[1], images[0], *images[2:]], labels),
        digest_of(reshaped, labels),
        digest_of(images[1:], labels[1:]),
    ]
    assert len(set(digests)) == len(digests)


def test_the_classes_trained_on_change_the_images_digest() -> None:
    parts = [PACK.index.part(ids) for ids in (None, (0, 1, 2, 3, 4), (0, 1, 2, 3, 5), (1, 0, 2, 3, 4, 5))]
    assert len({part.digest for part in parts}) == len(parts)
    assert PACK.index.part(tuple(range(6))).digest == PART.digest


def packed(store: Path, root: Path) -> Part:
    data = ImageFolder(root)
    return build_pack(Store(str(store)), data, data.splits()["train"], "squash:20").part()


def test_moving_and_renaming_the_files_keeps_the_key(image_folder: Path, tmp_path: Path) -> None:
    before = small_spec(packed(tmp_path / "store", image_folder)).key
    moved = tmp_path / "elsewhere" / "data"
    moved.parent.mkdir()
    shutil.move(image_folder, moved)
    for folder in sorted(moved.iterdir()):
        for image in sorted(folder.iterdir()):
            image.rename(folder / f"renamed {image.name}")
        folder.rename(moved / f"renamed {folder.name}")
    assert small_spec(packed(tmp_path / "another store", moved)).key == before


def test_numbers_that_mean_the_same_give_the_same_key() -> None:
    whole = small_recipe(lr=1, momentum=0, weight_decay=-0.0, rotate=15, mean=(0, 0, 0), std=[1, 1, 1])
    points = small_recipe(
        lr=1.0, momentum=0.0, weight_decay=0.0, rotate=15.0, mean=(0.0, 0.0, 0.0), std=(1.0,) * 3
    )
    assert small_spec(PART, whole).key == small_spec(PART, points).key
    assert json.dumps(dataclasses.asdict(whole)) == json.dumps(dataclasses.asdict(points))
    assert small_spec(PART, small_recipe(nesterov=1)).key == small_spec(PART, small_recipe(nesterov=True)).key
    assert small_spec(PART, seed=2.0, D=3.0).key == small_spec(PART, seed=2, D=3).key
    view = dataclasses.replace(VIEW, mean=(0, 0, 0))
    assert embedding_digest("x", view) == embedding_digest("x", dataclasses.replace(VIEW, mean=(0.0,) * 3))


def test_what_a_user_types_and_what_the_store_keeps_parse_to_the_same_key() -> None:
    spec = small_spec(PART, small_recipe(milestones=(0.5, 0.75), lr=1))
    kept = json.loads(json.dumps(dataclasses.asdict(spec)))
    parsed = TypeAdapter(MemberSpec).validate_python(kept)
    assert parsed == spec
    assert parsed.key == spec.key


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("batch_size", 1),
        ("lr", 0),
        ("lr", float("inf")),
        ("lr", float("nan")),
        ("lr", "fast"),
        ("momentum", 1),
        ("weight_decay", -1e-9),
        ("weight_decay", float("inf")),
        ("schedule", "cosine"),
        ("schedule", "milestones"),
        ("gamma", 0),
        ("warmup", 1),
        ("crop", 7),
        ("pad", -1),
        ("rotate", 181),
        ("mean", (0.5, 0.5)),
        ("std", (0.3, 0.3, 0)),
        ("std", (0.3, float("inf"), 0.3)),
        ("class_cap", -1),
        ("flip", "perhaps"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        small_recipe(**{field: value})


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("epochs", "two", "epochs = 'two': must be a whole number"),
        ("lr", "fast", "lr = 'fast': must be a number"),
        ("flip", 2, "flip = 2: must be true or false"),
        ("mean", ("a", "b", "c"), "mean = ('a', 'b', 'c'): must be numbers"),
        ("select", "best", "select = 'best': there are last, best-train"),
    ],
)
def test_a_value_of_another_type_is_told_with_what_there_is(field: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=field) as caught:
        small_recipe(**{field: value})
    assert str(caught.value) == said


@pytest.mark.parametrize(("field", "value"), [("pad", 0), ("rotate", 0.0), ("rotate", 180.0)])
def test_the_ends_of_a_range_are_in_it(field: str, value: Any) -> None:
    assert getattr(small_recipe(**{field: value}), field) == value


def test_a_batch_of_labels_fills_an_epoch_and_needs_its_classes() -> None:
    shape = BaselineSettings(loss="triplet", labels=3, images=2)
    assert [shape.steps_of(images) for images in (1, 6, 11, 12, 18)] == [1, 1, 1, 2, 3]
    shape.check_batch(3, world_size=1)
    with pytest.raises(ValueError, match="labels = 3: there are only 2 training classes"):
        shape.check_batch(2, world_size=1)


def test_training_shows_each_image_once_an_epoch() -> None:
    for epochs in (1, 3):
        assert small_spec(PART, small_recipe(epochs=epochs)).shown(24) == 24 * epochs


@pytest.mark.parametrize(("cap", "each"), [(1, 6), (2, 12), (4, 24), (5, 24), (500, 24)])
def test_training_shows_at_most_so_many_images_of_a_class(cap: int, each: int) -> None:
    spec = small_spec(PART, small_recipe(epochs=3, class_cap=cap))
    assert spec.classes == 6
    assert spec.shown(24) == 3 * each


@pytest.mark.parametrize("crop", [8, 9459])
def test_the_smallest_and_the_largest_crop_are_taken(crop: int) -> None:
    assert dataclasses.replace(VIEW, crop=crop).crop == crop
    assert small_recipe(crop=crop, pad=9459).crop == crop


def test_all_mistakes_of_a_recipe_are_told_at_once() -> None:
    with pytest.raises(ValueError, match="epochs") as caught:
        small_recipe(epochs=0, lr=-1, crop=2)
    assert str(caught.value).count(";") == 2


def test_the_view_and_the_images_name_the_vectors() -> None:
    changes: dict[str, Any] = {"resize": "short:20", "crop": 17, "mean": (0.4,) * 3, "std": (0.2,) * 3}
    assert set(changes) == {field.name for field in dataclasses.fields(TestView)}
    digests = {embedding_digest("a", dataclasses.replace(VIEW, **{f: v})) for f, v in changes.items()}
    assert len({embedding_digest("a", VIEW), embedding_digest("b", VIEW), *digests}) == 2 + len(changes)


def test_another_version_of_embedding_makes_other_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert specs.EMBEDDING_VERSION == 1
    assert embedding_digest("a", VIEW) == "9ee830483624ea91"  # as stores have it; a new version makes another
    monkeypatch.setattr(specs, "EMBEDDING_VERSION", 2)
    assert embedding_digest("a", VIEW) == "e903c9ec70373be2"


# Keys outlive releases.


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaterRecipe(Recipe):
    """The recipe of a later release, in which a field has come."""

    blur: float = added(0.5, absent=0.0)


def later_recipe(**changes: Any) -> Any:
    settings = {field.name: getattr(RECIPE, field.name) for field in dataclasses.fields(RECIPE)}
    return LaterRecipe(**{**settings, **changes})


def test_a_field_that_is_added_renames_nothing_that_was_made_before_it() -> None:
    before = later_recipe(blur=0.0)
    assert form(before) == form(RECIPE)
    assert small_spec(PART, before).key == SPEC.key


def test_a_field_that_is_added_counts_where_it_changes_something() -> None:
    assert form(later_recipe()) == {**form(RECIPE), "blur": 0.5}
    assert small_spec(PART, later_recipe()).key != SPEC.key


def test_a_class_is_hashed_in_the_fields_that_its_keys_began_with() -> None:
    @keyed("one two")
    @dataclasses.dataclass(frozen=True)
    class Grown:
        one: int
        two: tuple[Any, ...] = (1, 2)
        three: int = added(7, absent=3)

    assert first_fields(Grown) == ("one", "two")
    assert Grown(1).three == 7
    assert form(Grown(1)) == {"one": 1, "two": (1, 2), "three": 7}
    assert form([Grown(1, (), 3)]) == [{"one": 1, "two": ()}]
    assert form({"as": "it is"}) == {"as": "it is"}


def test_a_field_that_does_not_say_what_was_done_before_it_is_refused() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Forgetful(Recipe):
        blur: float = 0.0

    settings = {field.name: getattr(RECIPE, field.name) for field in dataclasses.fields(RECIPE)}
    with pytest.raises(TypeError, match=r"Forgetful\.blur came later and does not say what was done before"):
        form(Forgetful(**settings))
    with pytest.raises(TypeError, match="has no form"):
        form(PART)


@pytest.mark.parametrize(
    "kind",
    [Recipe, InputRecipe, MemberSpec, TestView, BierSpec, BierSettings, BaselineSpec, BaselineSettings],
)
def test_what_is_hashed_is_all_of_a_class_but_what_came_later(kind: Any) -> None:
    first = set(first_fields(kind))
    fields = {field.name: field for field in dataclasses.fields(kind)}
    assert first <= fields.keys()
    assert all("absent" in fields[name].metadata for name in fields.keys() - first)
