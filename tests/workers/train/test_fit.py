"""One member's training: the order of its samples, its failures, what it reports and what it keeps."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from muster.workers.embed import embed
from muster.workers.errors import DivergedError, UsageError
from muster.workers.methods.dreml.loss import identity_proxy_loss
from muster.workers.methods.dreml.settings import Recipe
from muster.workers.methods.dreml.trainer import capped
from muster.workers.networks import backbones
from muster.workers.packs.pack import Part
from muster.workers.store.checkpoint import Checkpoint
from muster.workers.train.passes import Passes
from muster.workers.train.prefetch import Buffer
from tests.workers.samples import (
    CPU,
    VIEW,
    kept,
    pack_of,
    same_tensors,
    small_recipe,
    small_spec,
    synthetic_pack,
    train,
    trainer_of,
)

PACK = synthetic_pack()
PART = PACK.index.part()


def test_training_learns_and_leaves_a_row_of_history_for_each_epoch() -> None:
    recipe = small_recipe(epochs=6, lr=0.05, schedule="one-cycle")
    rows = train(small_spec(PART, recipe), PACK).history
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]
    assert rows[-1]["accuracy"] > rows[0]["accuracy"] + 0.1
    assert all(row["images_per_s"] > 0 and row["seconds"] > 0 for row in rows)
    assert rows[-1]["lr"] == pytest.approx(0.05 / 25e4)


def test_a_member_is_the_same_whenever_it_is_trained_and_differs_from_its_siblings() -> None:
    spec = small_spec(PART)
    first = train(spec, PACK).model
    torch.manual_seed(99)
    torch.rand(3)
    assert same_tensors(train(spec, PACK).model, first)
    for other in (small_spec(PART, index=2), small_spec(PART, seed=1)):
        assert not same_tensors(train(other, PACK).model, first)


def test_weights_do_not_depend_on_where_in_the_pack_the_images_lie() -> None:
    images = [PACK.image(row) for row in range(len(PACK.index))]
    labels = PACK.index.labels.tolist()
    stranger = np.full((50, 30, 3), 200, np.uint8)
    larger = pack_of([stranger, *images, stranger], [6, *labels, 6])
    part = larger.index.part(tuple(range(6)))
    spec = small_spec(PART)
    assert part.digest == PART.digest
    assert same_tensors(train(spec, larger, part).model, train(spec, PACK).model)


@pytest.mark.parametrize(
    ("samples", "sizes"),
    [
        (24, [8, 8, 8]),
        (26, [8, 8, 8, 2]),
        (25, [8, 8, 9]),
        (9, [9]),
        (8, [8]),
        (3, [3]),
        (1, [1]),
    ],
)
def test_the_last_batch_is_kept_and_a_single_image_joins_the_one_before(
    samples: int, sizes: list[int]
) -> None:
    passes = Passes(("names",), samples, 8)
    slices = passes.slices
    assert [passes.images(step) for step in range(passes.steps)] == sizes
    assert [part.stop - part.start for part in slices] == sizes
    assert slices[0].start == 0
    assert slices[-1].stop == samples
    assert all(one.stop == other.start for one, other in pairwise(slices))


def test_a_remainder_of_one_image_trains() -> None:
    pack = synthetic_pack(classes=5, each=5)
    found = train(small_spec(pack.index.part(), small_recipe(batch_size=8)), pack)
    assert found.history[-1]["epoch"] == 2


def test_an_epoch_weighs_every_image_alike_whatever_its_batch() -> None:
    """At a vanishing rate nothing moves, so without augmentation the epoch's mean loss in batches of 30 is
    the loss of all images at once."""
    recipe = small_recipe(epochs=1, batch_size=30, lr=1e-12, crop=20, pad=0, flip=False)
    spec = small_spec(PART, recipe)
    history = train(spec, PACK).history
    member = trainer_of(spec, PACK)
    batch = member.batch(0, Buffer(member.device))
    with torch.no_grad():
        output = member.module(member.to_float(batch.images()))
    assert history[0]["loss"] == pytest.approx(
        float(identity_proxy_loss(output, batch.labels, False)), rel=1e-5
    )
    assert history[0]["accuracy"] == pytest.approx(float((output.argmax(1) == batch.labels).float().mean()))


@pytest.mark.parametrize(
    ("recipe", "what"),
    [
        (small_recipe(lr=1e6), r"a weight is no longer finite after step 4 of epoch 1"),
        (small_recipe(lr=1e12, batch_size=4), r"the loss became (nan|inf) at step \d of epoch 1"),
    ],
)
def test_divergence_is_told_with_member_step_rate_and_last_finite_loss(recipe: Recipe, what: str) -> None:
    with pytest.raises(DivergedError) as caught:
        train(small_spec(PART, recipe, index=5), PACK)
    rate, cure = re.escape(f"{recipe.lr:.3g}"), re.escape(f"Lower the rate: --set lr={recipe.lr / 3:.2g}.")
    message = (
        rf"Member 5: {what}, at a learning rate of {rate}; the last finite loss seen was [\d.e+]+\. "
        rf"The last good checkpoint is kept. {cure}"
    )
    assert re.fullmatch(message, str(caught.value))


def test_a_loss_that_is_never_finite_says_so() -> None:
    spec = small_spec(PART)
    initial = {
        name: tensor * torch.nan for name, tensor in backbones.build("conv4", 3, 0).state_dict().items()
    }
    with pytest.raises(DivergedError, match="no loss before was finite"):
        train(spec, PACK, initial=initial)


def test_weights_that_broke_while_the_loss_was_finite_are_told_before_they_are_kept() -> None:
    saved: list[Checkpoint] = []
    initial = dict(backbones.build("conv4", 3, 0).state_dict())
    initial["0.1.running_var"] = torch.full((64,), torch.inf)  # read in test only, and so not in the loss
    with pytest.raises(DivergedError, match="a weight is no longer finite after step 4 of epoch 1"):
        train(small_spec(PART), PACK, initial=initial, save=saved.append)
    assert saved == []


def test_progress_is_reported_with_the_time_left() -> None:
    reports: list[dict[str, Any]] = []
    train(small_spec(PART), PACK, report=reports.append)
    ends = [found for found in reports if found["step"] == found["steps"]]
    assert [(found["epoch"], found["steps"], found["epochs"]) for found in ends] == [(0, 4, 2), (1, 4, 2)]
    assert ends[-1]["seconds_left"] == 0
    assert all(np.isfinite(found["loss"]) and found["images_per_s"] > 0 for found in reports)


def labelled(counts: list[int]) -> Part:
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = labels[np.random.default_rng(0).permutation(len(labels))]
    return Part(rows=np.arange(len(labels)) + 100, labels=labels, classes=len(counts), digest="")


def test_class_cap_keeps_at_most_so_many_images_of_a_class_in_the_packs_order() -> None:
    part = labelled([9, 2, 0, 5, 3])
    rows, labels = capped(part, 3, (0, 12, 1))
    assert np.bincount(labels, minlength=5).tolist() == [3, 2, 0, 3, 3]
    assert (np.diff(rows) > 0).all()
    assert (labels == part.labels[rows - 100]).all()


def test_class_cap_draws_for_each_member_and_always_the_same() -> None:
    part = labelled([9, 9, 9])
    drawn = [tuple(capped(part, 3, (0, 12, index))[0].tolist()) for index in range(1, 30)]
    assert drawn[0] == tuple(capped(part, 3, (0, 12, 1))[0].tolist())
    assert len(set(drawn)) == len(drawn)
    assert {row for rows in drawn for row in rows} == set(part.rows.tolist())


def test_a_class_cap_that_nothing_exceeds_changes_nothing() -> None:
    part = labelled([4, 1, 7])
    for cap in (0, 7, 1000):
        rows, labels = capped(part, cap, (0, 12, 1))
        assert (rows == part.rows).all()
        assert (labels == part.labels).all()


def test_class_cap_leaves_the_others_out_of_training() -> None:
    found: list[int] = []
    recipe = small_recipe(class_cap=2, epochs=1)
    train(small_spec(PART, recipe), PACK, report=lambda progress: found.append(progress["steps"]))
    assert set(found) == {2}  # 12 of the 30 images, in batches of 8


def test_the_best_epoch_by_training_accuracy_is_kept_but_never_the_first() -> None:
    recipe = small_recipe(epochs=5, lr=0.02, schedule="constant", select="best-train")
    spec = small_spec(PART, recipe, index=2)
    states: list[Checkpoint] = []
    last = train(spec, PACK, save=states.append)
    accuracies = [row["accuracy"] for row in last.history]
    best = 2 + int(np.argmax(accuracies[1:]))
    assert best == 4, "the test wants a best epoch that is neither the first counted nor the last"
    assert states[0].best == {}
    assert same_tensors(kept(spec, PACK, last), states[best - 1].model)
    assert same_tensors(kept(small_spec(PART), PACK, last), last.model)


def test_with_a_single_epoch_the_last_is_the_best() -> None:
    spec = small_spec(PART, small_recipe(epochs=1, select="best-train"))
    last = train(spec, PACK)
    assert same_tensors(kept(spec, PACK, last), last.model)


def test_normalised_logits_have_length_one_in_the_loss() -> None:
    output, labels = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([1, 1])
    plain = -(4 - np.logaddexp(3, 4) + 2 - np.logaddexp(0, 2)) / 2
    unit = -(0.8 - np.logaddexp(0.6, 0.8) + 1 - np.logaddexp(0, 1)) / 2
    assert float(identity_proxy_loss(output, labels, False)) == pytest.approx(plain, rel=1e-6)
    assert float(identity_proxy_loss(output, labels, True)) == pytest.approx(unit, rel=1e-6)


def test_embeddings_are_finite_unit_vectors_in_the_order_of_the_images() -> None:
    state = train(small_spec(PART), PACK)
    network = backbones.build("conv4", 3, 0)
    network.load_state_dict(state.model)
    vectors = embed(network, PACK, PART, VIEW, CPU)
    assert vectors.shape == (30, 3)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    some = PACK.index.part((4, 1))
    assert embed(network, PACK, some, VIEW, CPU) == pytest.approx(vectors[some.rows], abs=1e-6)


def test_a_network_of_broken_weights_is_not_embedded() -> None:
    network = backbones.build("conv4", 3, 0)
    torch.nn.init.constant_(next(network.parameters()), torch.nan)
    with pytest.raises(DivergedError, match="not finite"):
        embed(network, PACK, PART, VIEW, CPU)


def test_pretrained_weights_start_the_training_and_must_fit() -> None:
    initial = backbones.build("conv4", 7, 123).state_dict()
    spec = small_spec(PART, small_recipe(epochs=1, lr=1e-12))
    trained = train(spec, PACK, initial=initial).model
    assert trained["0.0.weight"] == pytest.approx(initial["0.0.weight"], abs=1e-9)
    assert trained["6.weight"].shape == (3, 256)
    with pytest.raises(UsageError, match=r"conv1\.weight is missing"):
        train(small_spec(PART, backbone="resnet18"), PACK, initial=initial)
