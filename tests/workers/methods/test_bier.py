"""BIER's boosted loss against NumPy code written from the formulas, pair by pair; and the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from muster.workers.methods.bier.network import Learners, boosted_loss, build_bier, gather_rows
from muster.workers.methods.bier.settings import BierSettings
from muster.workers.networks import backbones

SIZES = (3, 4, 5)
FORMS = {
    "shrinkage": {"variant": "shrinkage"},
    "shrinkage 0.3": {"variant": "shrinkage", "shrinkage": 0.3},
    "eta": {"variant": "eta"},
    "balanced": {"variant": "balanced"},
    "balanced 0.5": {"variant": "balanced", "shrinkage": 0.5},
    "off": {"boost": False},
}
LABELS = {
    "two of each": [0, 0, 1, 1, 2, 2, 3, 3],
    "uneven, shuffled": [5, 2, 5, 9, 2, 5, 9, 2],
    "some appear once": [0, 1, 1, 2, 3, 3, 3, 4],
    "all different": [0, 1, 2, 3, 4, 5, 6, 7],
    "all the same": [4, 4, 4, 4, 4, 4, 4, 4],
}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(f, labels, sizes, boost=True, variant="shrinkage", shrinkage=0.06, fixed=None):
    """(loss, each learner's loss, weights [M, B, B], gradient of the loss by f [B, sum d]).

    One pair at a time, from the formulas; `fixed` weights replace those that boosting would give.
    """
    B, M = len(labels), len(sizes)
    positives = sum(labels[i] == labels[j] for i in range(B) for j in range(B))  # with the diagonal
    negatives = B * B - positives
    prediction = np.full((B, B), 0.0 if variant == "eta" else 0.5)
    similarity_mix = np.zeros((B, B))
    weight = np.ones((B, B))
    losses, weights, gradient, start = [], [], np.zeros_like(f), 0
    for m in range(1, M + 1):
        part = f[:, start : start + sizes[m - 1]]
        e = part / np.sqrt((part**2).sum(axis=1))[:, None]
        if fixed is not None:
            weight = fixed[m - 1]
        weights.append(weight)
        loss, by_e, following = 0.0, np.zeros_like(e), np.zeros((B, B))
        for i in range(B):
            for j in range(B):
                same = labels[i] == labels[j]
                c = 1 if same else -25
                d = float(e[i] @ e[j])
                a = 2 * (d - 0.5) * c
                if i != j:
                    factor = weight[i, j] / (positives if same else negatives)
                    loss += factor * np.log1p(np.exp(-a))
                    slope = factor * -sigmoid(-a) * 2 * c / M
                    by_e[i] += slope * e[j]
                    by_e[j] += slope * e[i]
                if not boost:
                    following[i, j] = 1
                elif variant == "eta":  # written on similarities: the mix of D, then the loss's slope there
                    eta = 2 / (m + 1)
                    similarity_mix[i, j] = (1 - eta) * similarity_mix[i, j] + eta * d
                    following[i, j] = sigmoid(-2 * (similarity_mix[i, j] - 0.5) * c)
                else:
                    prediction[i, j] += shrinkage * a
                    following[i, j] = sigmoid(-prediction[i, j]) * (1 if same else 2)
        if boost and variant == "balanced":
            rebalance(following, e, labels)
        losses.append(loss)
        norms = np.sqrt((part**2).sum(axis=1))[:, None]
        by_f = (by_e - e * (by_e * e).sum(axis=1, keepdims=True)) / norms
        gradient[:, start : start + sizes[m - 1]] = by_f
        start += sizes[m - 1]
        weight = following
    return sum(losses) / M, losses, np.array(weights), gradient


def rebalance(weight, e, labels):
    """Scales the weights [B, B] in place: of each kind of pair, the slopes at the similarities of the unit vectors e
    have the sum that they have without weights."""
    for kind in (True, False):
        pairs = [(i, j) for i in range(len(e)) for j in range(len(e)) if (labels[i] == labels[j]) == kind]
        slopes = [
            0.0 if i == j else sigmoid(-2 * (e[i] @ e[j] - 0.5) * (1 if kind else -25)) for i, j in pairs
        ]
        weighted = sum(weight[pair] * slope for pair, slope in zip(pairs, slopes, strict=True))
        for pair in pairs:
            weight[pair] *= sum(slopes) / weighted if weighted else 1


def vectors(seed=0, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal((8, sum(SIZES)))


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_agrees_with_the_formulas(form, labels):
    f = vectors()
    loss, losses, weights, gradient = reference(f, labels, SIZES, **form)
    tensor = torch.from_numpy(f).requires_grad_()
    found = boosted_loss(tensor, torch.tensor(labels), BierSettings(sizes=SIZES, **form))
    found.loss.backward()
    assert found.loss.item() == pytest.approx(loss, abs=1e-12)
    np.testing.assert_allclose(found.learners.numpy(), losses, atol=1e-12)
    np.testing.assert_allclose(found.weights.numpy(), weights, atol=1e-12)
    np.testing.assert_allclose(tensor.grad.numpy(), gradient, atol=1e-12)
    assert np.abs(gradient).max() > 1e-2  # there was something to compare


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_gradients_of_a_whole_network_by_central_differences(form):
    """Learners on hidden features: the slopes of the NumPy loss with the pair weights held as they were."""
    rng = np.random.default_rng(1)
    h, W, b = (
        rng.standard_normal((8, 6)),
        rng.standard_normal((sum(SIZES), 6)),
        rng.standard_normal(sum(SIZES)),
    )
    labels = LABELS["some appear once"]
    fixed = reference(h @ W.T + b, labels, SIZES, **form)[2]
    learners = Learners(6, SIZES).double()
    learners.weight.data, learners.bias.data = torch.from_numpy(W), torch.from_numpy(b)
    hidden = torch.from_numpy(h).requires_grad_()
    boosted_loss(learners(hidden), torch.tensor(labels), BierSettings(sizes=SIZES, **form)).loss.backward()
    found = {"h": hidden.grad, "W": learners.weight.grad, "b": learners.bias.grad}
    for name, values in {"h": h, "W": W, "b": b}.items():
        for place in [(0, 0), (3, 5), (7, 2)] if values.ndim == 2 else [(0,), (4,), (11,)]:
            slopes = []
            for sign in (1, -1):
                moved = {"h": h.copy(), "W": W.copy(), "b": b.copy()}
                moved[name][place] += sign * 1e-6
                f = moved["h"] @ moved["W"].T + moved["b"]
                slopes.append(sign * reference(f, labels, SIZES, fixed=fixed)[0])
            assert found[name][place].item() == pytest.approx(sum(slopes) / 2e-6, abs=1e-7)


def test_weights_carry_no_gradient_and_lie_in_their_range():
    f = torch.from_numpy(vectors()).requires_grad_()
    labels = torch.tensor(LABELS["two of each"])
    for variant, highest in {"shrinkage": 2.0, "eta": 1.0}.items():
        found = boosted_loss(f, labels, BierSettings(sizes=SIZES, variant=variant))
        assert not found.weights.requires_grad
        assert (found.weights[0] == 1).all()
        assert (found.weights > 0).all()
        assert (found.weights[1:] < highest).all()
        assert (found.weights[1] - found.weights[2]).abs().max() > 1e-3


@pytest.mark.parametrize(("images", "mass"), [(2, 0.5), (4, 0.75)])
def test_shares_of_positive_and_negative_pairs(images, mass):
    """At a similarity of 1/2 every pair's loss is log 2, so the loss shows the shares: (K - 1) / K and 1."""
    labels = torch.arange(4).repeat_interleave(images)
    half = torch.full((4 * images, 4 * images), 0.5, dtype=torch.float64).fill_diagonal_(1)
    f = torch.linalg.cholesky(half)  # its rows are unit vectors at these cosines
    found = boosted_loss(f, labels, BierSettings(sizes=(4 * images,), boost=False))
    assert found.loss.item() == pytest.approx((mass + 1) * np.log(2), abs=1e-12)


def test_half_precision_and_autocast_leave_the_loss_in_float32():
    """Equal vectors of different labels: the margin is -25, beyond what a float16 exponential can hold."""
    f = torch.ones(4, sum(SIZES), dtype=torch.bfloat16, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1])
    with torch.autocast("cpu", torch.bfloat16):
        found = boosted_loss(f, labels, BierSettings(sizes=SIZES, boost=False))
    assert found.loss.dtype == torch.float32
    assert found.loss.item() == pytest.approx(25 + 0.5 * np.log1p(np.exp(-1)), rel=1e-6)


def test_a_zero_vector_gives_finite_gradients():
    f = torch.from_numpy(vectors())
    f[2] = 0
    f.requires_grad_()
    boosted_loss(f, torch.tensor(LABELS["two of each"]), BierSettings(sizes=SIZES)).loss.backward()
    assert f.grad.isfinite().all()


def test_without_a_process_group_gathering_gives_the_rows_themselves():
    rows = torch.ones(3, 2)
    assert gather_rows(rows) is rows


def test_network_is_the_backbones_features_and_glorot_learners():
    settings = BierSettings(sizes=(96, 160, 256))
    network = build_bier("conv4", settings, seed=3).eval()
    images = torch.randn(2, 3, 32, 32)
    hidden = network.features(images)
    assert hidden.shape == (2, 256)
    raw = hidden @ network.learners.weight.T + network.learners.bias
    torch.testing.assert_close(network(images), raw)
    assert (network.learners.bias == 0).all()
    for size, part in zip(settings.sizes, network.learners.weight.split(settings.sizes), strict=True):
        bound = (6 / (256 + size)) ** 0.5
        assert part.abs().max() <= bound
        assert part.abs().max() > 0.99 * bound
    again = build_bier("conv4", settings, seed=3).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in network.state_dict().items())
    other = build_bier("conv4", settings, seed=4)
    assert not torch.equal(other.learners.weight, network.learners.weight)


def test_network_takes_pretrained_weights_and_has_no_dropout():
    given = backbones.build("googlenet", 10, seed=1).state_dict()
    network = build_bier("googlenet", BierSettings(), seed=2, initial=given)
    assert torch.equal(network.features.conv1.conv.weight, given["conv1.conv.weight"])
    assert network.learners.weight.shape == (512, 1024)
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout)] == [0.0]
