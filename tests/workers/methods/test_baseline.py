"""The compared methods: their losses by hand and by their library, resumption to the bit, and a member's whole life."""

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
from muster.workers.errors import DivergedError
from muster.workers.member import load_network, open_images
from muster.workers.methods.baseline.loss import MetricLoss
from muster.workers.methods.baseline.settings import BaselineSettings, BaselineSpec
from muster.workers.networks import backbones
from muster.workers.packs.pack import Part, read_index
from muster.workers.spec import InputRecipe
from muster.workers.store.checkpoint import Checkpoint
from muster.workers.store.layout import Store
from muster.workers.store.vectors import read_vectors
from tests.workers.members import run, task_for, weights_of
from tests.workers.samples import CPU, VIEW, kept, same_tensors, synthetic_pack
from tests.workers.samples import train as train_on
from tests.workers.train.resumed import same_when_resumed

PACK = synthetic_pack()
PART = PACK.index.part()
LOSSES = ("triplet", "npairs", "proxynca")
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
VECTORS = torch.tensor(np.random.default_rng(3).standard_normal((6, 4)), dtype=torch.float32)


def settings(loss: str, **changes: Any) -> BaselineSettings:
    given: dict[str, Any] = {"loss": loss, "dim": 4, "labels": 3, "images": 2, "epochs": 3, "lr": 1e-3}
    return BaselineSettings(**{**given, **changes})


def spec_of(part: Part, loss: str, **changes: Any) -> BaselineSpec:
    recipe = InputRecipe(resize="squash:20", crop=16, pad=2, mean=VIEW.mean, std=VIEW.std)
    given: dict[str, Any] = {
        "train_digest": part.digest, "classes": part.classes, "backbone": "conv4", "weights": "none", "seed": 0,
        "recipe": recipe, "baseline": settings(loss), "precision": "fp32", "threads": 1, "deterministic": False,
    }  # fmt: skip
    return BaselineSpec(**{**given, **changes})


def train(spec: BaselineSpec, **options: Any) -> Checkpoint:
    return train_on(spec, PACK, **options)


def squared_distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    return (a[:, None] - b[None]).square().sum(2)


@pytest.mark.parametrize("margin", [0.2, 1.0, 3.0])
def test_triplet_is_the_mean_over_semi_hard_triplets_by_hand(margin: float) -> None:
    vectors = torch.tensor(np.random.default_rng(4).standard_normal((12, 4)), dtype=torch.float32)
    labels = torch.arange(12) % 4
    near = squared_distances(vectors, vectors).tolist()
    found = []
    for a in range(12):
        for p in range(12):
            for n in range(12):
                if a != p and labels[a] == labels[p] and labels[a] != labels[n]:
                    gap = near[a][n] - near[a][p]
                    if 0 < gap <= margin:
                        found.append(near[a][p] - near[a][n] + margin)
    loss = MetricLoss(settings("triplet", margin=margin), 4, 0)(vectors, labels)
    assert len(found) >= 3
    assert float(loss) == pytest.approx(np.mean(found), rel=1e-5)


def test_triplet_without_any_semi_hard_triplet_is_0_and_can_be_trained_on() -> None:
    apart = torch.eye(3).repeat_interleave(2, dim=0).requires_grad_()  # every negative is at distance 2
    loss = MetricLoss(settings("triplet"), 3, 0)(apart, LABELS)
    loss.backward()
    assert float(loss.detach()) == 0
    assert apart.grad is not None
    assert float(apart.grad.abs().sum()) == 0


def test_npairs_is_a_cross_entropy_among_the_pairs_by_hand() -> None:
    anchors, positives = VECTORS[0::2], VECTORS[1::2]
    logits = anchors @ positives.T  # not normalised
    wanted = F.cross_entropy(logits, torch.arange(3)) + 0.002 * VECTORS.square().sum(1).mean()
    assert float(MetricLoss(settings("npairs"), 3, 0)(VECTORS, LABELS)) == pytest.approx(
        float(wanted), rel=1e-5
    )
    free = MetricLoss(settings("npairs", embedding_l2=0), 3, 0)(VECTORS, LABELS)
    assert float(free) == pytest.approx(float(F.cross_entropy(logits, torch.arange(3))), rel=1e-5)


def test_proxynca_is_a_softmax_over_the_proxies_by_hand() -> None:
    loss = MetricLoss(settings("proxynca", scale=9), 5, 0)
    (proxies,) = loss.parameters()
    assert proxies.shape == (5, 4)
    wanted = F.cross_entropy(-9 * squared_distances(VECTORS, proxies), LABELS)
    assert loss(VECTORS, LABELS).item() == pytest.approx(wanted.item(), rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_equals_a_loss_that_the_library_makes_from_the_same_numbers(loss: str) -> None:
    from pytorch_metric_learning import distances, losses, miners, regularizers

    mine = MetricLoss(settings(loss), 3, 0)
    if loss == "triplet":
        squared = distances.LpDistance(power=2)
        mined = miners.TripletMarginMiner(0.2, "semihard", distance=squared)(VECTORS, LABELS)
        wanted = losses.TripletMarginLoss(0.2, distance=squared)(VECTORS, LABELS, mined)
    elif loss == "npairs":
        plain = distances.DotProductSimilarity(normalize_embeddings=False)
        kept = {"embedding_regularizer": regularizers.LpRegularizer(power=2), "embedding_reg_weight": 0.002}
        wanted = losses.NPairsLoss(distance=plain, **kept)(VECTORS, LABELS)
    else:
        theirs = losses.ProxyNCALoss(3, 4, softmax_scale=9.0)
        theirs.load_state_dict({"proxies": next(mine.parameters()).detach()})
        wanted = theirs(VECTORS, LABELS)
    assert mine(VECTORS, LABELS).item() == pytest.approx(wanted.item(), rel=1e-6)


def test_proxies_differ_with_the_seed_and_leave_torchs_generator_alone() -> None:
    torch.manual_seed(5)
    first = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = (next(MetricLoss(settings("proxynca"), 6, seed).parameters()) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), first)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def separation(spec: BaselineSpec, state: Checkpoint) -> float:
    """How much more alike images of a class are than others, as a difference of mean cosines."""
    network = backbones.build("conv4", 4, 0)
    network.load_state_dict(kept(spec, PACK, state))
    vectors = embed(network, PACK, PART, VIEW, CPU)
    same = PART.labels[:, None] == PART.labels[None]
    cosines = vectors @ vectors.T
    return float(cosines[same].mean() - cosines[~same].mean())


@pytest.mark.parametrize("loss", LOSSES)
def test_training_parts_the_classes_and_moves_every_weight(loss: str) -> None:
    margin = {"margin": 1.0} if loss == "triplet" else {}
    how = settings(loss, epochs=15, anneal_epochs=0, embedding_lr=1.0, **margin)
    saved: list[Checkpoint] = []
    spec = spec_of(PART, loss, baseline=how)
    state = train(spec, save=saved.append)
    assert [row["epoch"] for row in state.history] == list(range(1, 16))
    assert separation(spec, state) > separation(spec, saved[0]) + 0.1
    for name, tensor in state.model.items():
        assert not torch.equal(tensor, saved[0].model[name]), name
    assert ("loss.loss.proxies" in state.model) == (loss == "proxynca")


@pytest.mark.parametrize("loss", LOSSES)
def test_resuming_gives_the_same_bits(loss: str) -> None:
    spec = spec_of(PART, loss)
    _, saved = same_when_resumed(partial(train, spec))
    assert len(saved) == 3


def test_resuming_in_bfloat16_gives_the_same_bits() -> None:
    spec = spec_of(PART, "proxynca", precision="bf16")
    saved: list[bytes] = []
    straight = train(spec, save=lambda state: saved.append(state.to_bytes()))
    assert same_tensors(train(spec, resume=Checkpoint.from_bytes(saved[0])).model, straight.model)


def test_an_epoch_is_as_many_batches_as_the_images_fill() -> None:
    assert settings("triplet").steps_of(30) == 5
    assert settings("triplet").steps_of(35) == 5
    assert settings("triplet").steps_of(5) == 1
    assert spec_of(PART, "triplet").shown(35) == 3 * 5 * 6


def test_rates_decay_by_epochs_and_groups_have_their_factors() -> None:
    found = settings("proxynca", lr=1.0, anneal_epochs=2, anneal_factor=0.5)
    assert [found.rate(epoch) for epoch in range(5)] == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert settings("proxynca", lr=1.0, anneal_epochs=0).rate(99) == 1.0


def test_a_loss_that_is_no_longer_finite_is_told_with_its_cure() -> None:
    spec = spec_of(PART, "npairs", baseline=settings("npairs", lr=1e18))
    with pytest.raises(DivergedError, match=r"Baseline npairs: .* of epoch \d.* --set baseline.lr=3.3e\+17"):
        train(spec)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "npairs", "images": 4}, "npairs takes one pair of each label, so images = 2"),
        ({"loss": "triplet", "images": 1}, "or there are no positives"),
        ({"loss": "triplet", "labels": 1}, "or there are no negatives"),
        (
            {"loss": "triplet", "scale": 3.0},
            "scale = 3.0 has no effect with loss = triplet: it is proxynca's",
        ),
        ({"loss": "npairs", "margin": 0.5}, "margin = 0.5 has no effect with loss = npairs"),
        ({"loss": "proxynca", "lr": 0}, "lr = 0.0: must be above 0"),
        ({"loss": "proxynca", "dim": 1}, "dim = 1: must be at least 2"),
        ({"loss": "proxynca", "anneal_epochs": 0, "anneal_factor": 0.5}, "no effect with anneal_epochs = 0"),
        ({"loss": "hinge"}, "loss = 'hinge': there are triplet, npairs, proxynca"),
        ({"loss": "triplet", "epochs": 0}, "epochs = 0: must be at least 1"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        BaselineSettings(**changes)


def test_too_few_classes_for_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="labels = 7: there are only 6 training classes"):
        spec_of(PART, "triplet", baseline=settings("triplet", labels=7))


def test_every_setting_is_part_of_the_key() -> None:
    base = spec_of(PART, "proxynca")
    changed: dict[str, Any] = {
        "dim": 5, "labels": 4, "images": 3, "epochs": 2, "lr": 2e-3, "embedding_lr": 1.0, "proxy_lr": 1.0,
        "weight_decay": 1e-4, "anneal_epochs": 3, "anneal_factor": 0.3, "scale": 1.0,
    }  # fmt: skip
    keys = {
        spec_of(PART, "proxynca", baseline=settings("proxynca", **{k: v})).key for k, v in changed.items()
    }
    keys |= {spec_of(PART, loss).key for loss in LOSSES}
    keys.add(spec_of(PART, "proxynca", seed=1).key)
    keys.add(spec_of(PART, "triplet", baseline=settings("triplet", margin=0.3)).key)
    assert len(keys) == len(changed) + 3 + 2
    assert base.key in keys


def test_a_baseline_lives_in_the_store_like_a_member(store: Store, images: Path) -> None:
    member = task_for(store, images)
    index = read_index(store.pack(member.train.pack), member.train.pack)
    assert index is not None
    task = dataclasses.replace(member, spec=spec_of(index.part(), "triplet"))
    lines = run(store, task)
    assert any("triplet in 4 dimensions" in line for line in lines)
    folder = store.model(task.key)
    vectors = read_vectors(folder.embedding(task.targets[0].digest))
    assert vectors.shape[1] == 4
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    network = load_network(folder, task.spec)
    again = embed(network, *open_images(store, task.targets[0].images), task.targets[0].view, CPU)
    assert np.array_equal(again, vectors)
    before = weights_of(store, task)
    assert run(store, task, "two") == []
    assert weights_of(store, task) == before
