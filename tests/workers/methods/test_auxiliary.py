"""The auxiliary losses: values by hand and in NumPy, and where their gradients go, with which sign."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from muster.workers.methods.bier.auxiliary import (
    Auxiliary,
    activation_similarity,
    adversarial_similarity,
    norm_penalty,
    regressor_penalty,
)
from muster.workers.methods.bier.network import BierStep, build_bier
from muster.workers.methods.bier.settings import BierSettings

SIZES = (2, 3, 4)
KINDS = ("adversarial", "activation")


def problem(kind, seed=0, **given):
    """(auxiliary loss module, hidden [5, 6], weights [9, 6]), all float64."""
    torch.manual_seed(seed)
    auxiliary = Auxiliary(BierSettings(sizes=SIZES, auxiliary=kind, **given)).double()
    for name, parameter in auxiliary.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    hidden = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    return auxiliary, hidden, torch.randn(9, 6, dtype=torch.float64, requires_grad=True)


def in_numpy(auxiliary, hidden, weight, lambda_div, lambda_weight, axis="in"):
    """The loss from the formulas, with weights turned to [in, out] as they are written there."""
    h = hidden.detach().numpy()
    W = [part.T for part in np.split(weight.detach().numpy(), np.cumsum(SIZES)[:-1])]
    g = [h @ w for w in W]
    off_unit = [((w**2).sum(axis=1 if axis == "in" else 0) - 1) ** 2 for w in W]
    similarity, penalty = 0.0, sum(x.mean() for x in off_unit)
    regressors = iter(auxiliary.regressors)
    for i, j in combinations(range(len(SIZES)), 2):
        if not len(auxiliary.regressors):
            cube = g[i][:, :, None] * g[j][:, None, :]
            similarity += (cube**2).mean()
            continue
        (U1, b1), (U2, b2) = [
            (layer.weight.detach().numpy().T, layer.bias.detach().numpy())
            for layer in next(regressors)
            if hasattr(layer, "weight")
        ]
        product = g[i] * (np.maximum(g[j] @ U1 + b1, 0) @ U2 + b2)
        similarity -= (product**2).mean()
        for U, b in ((U1, b1), (U2, b2)):
            penalty += (((U**2).sum(axis=1) - 1) ** 2).mean() + max(0.0, (b**2).sum() - 1)
    return lambda_div * (similarity + lambda_weight * penalty)


@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_the_formulas(kind, axis):
    given = {"lambda_div": 0.3, "lambda_weight": 0.7, "weight_norm_axis": axis}
    auxiliary, hidden, weight = problem(kind, **given)
    expected = in_numpy(auxiliary, hidden, weight, 0.3, 0.7, axis)
    assert auxiliary(hidden, weight).item() == pytest.approx(expected, rel=1e-12)
    assert expected != pytest.approx(
        in_numpy(auxiliary, hidden, weight, 0.3, 0.7, "out" if axis == "in" else "in")
    )


def test_penalty_by_hand_on_both_axes():
    """[out, in] = [[1, 2], [0, 2]]: inputs' squared lengths 1 and 8, outputs' 5 and 4."""
    weight = torch.tensor([[1.0, 2.0], [0.0, 2.0]])
    assert norm_penalty(weight, "in").item() == (0 + 49) / 2
    assert norm_penalty(weight, "out").item() == (16 + 9) / 2


def test_similarities_by_hand():
    first, second = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]])
    assert activation_similarity(first, second).item() == (9 + 36) / 2
    double = nn.Linear(1, 2)
    double.weight.data, double.bias.data = torch.tensor([[1.0], [2.0]]), torch.tensor([0.0, -1.0])
    # second -> (3, 5); products with first (3, 10)
    assert adversarial_similarity(second, first, double).item() == -(9 + 100) / 2


def test_regressors_penalty_by_hand():
    """Unit rows by input cost nothing; a bias costs only what its squared length exceeds 1 by."""
    auxiliary, _, _ = problem("adversarial")
    regressor = auxiliary.regressors[0]
    for layer in (regressor[0], regressor[2]):
        nn.init.zeros_(layer.weight)
        layer.weight.data[0] = 1
        nn.init.zeros_(layer.bias)
    assert regressor_penalty(regressor).item() == 0
    regressor[0].bias.data[:2] = torch.tensor([0.6, 0.8], dtype=torch.float64)
    assert regressor_penalty(regressor).item() == pytest.approx(0)
    regressor[0].bias.data[0] = 3
    assert regressor_penalty(regressor).item() == pytest.approx(9 + 0.64 - 1)


def test_source_is_the_later_learner():
    auxiliary, _, _ = problem("adversarial")
    found = [(r[0].in_features, r[2].out_features) for r in auxiliary.regressors]
    assert found == [(3, 2), (4, 2), (4, 3)]
    assert {r[0].out_features for r in auxiliary.regressors} == {512}


def test_regressors_climb_what_the_learners_descend():
    """The similarity's own slopes by central differences: regressors get them negated, learners as they are,

    so that descending the loss raises the similarity in the regressors and lowers it in the learners.
    """
    auxiliary, hidden, weight = problem("adversarial", lambda_div=1.0, lambda_weight=0.0)
    auxiliary(hidden, weight).backward()
    inner = auxiliary.regressors[1][0].weight

    def similarity():
        return -in_numpy(auxiliary, hidden, weight, 1.0, 0.0)  # minus the loss: the mean squared products

    def slope(values, place):
        found = []
        with torch.no_grad():
            for sign in (1, -1):
                values[place] += sign * 1e-6
                found.append(sign * similarity())
                values[place] -= sign * 1e-6
        return sum(found) / 2e-6

    for place in [(0, 0), (3, 2), (8, 5)]:
        assert weight.grad[place].item() == pytest.approx(slope(weight, place), rel=1e-5)
    live = [tuple(place) for place in inner.grad.nonzero()[:3].tolist()]
    assert len(live) == 3
    for place in live:
        assert inner.grad[place].item() == pytest.approx(-slope(inner, place), rel=1e-5)


def test_a_small_step_of_each_side_moves_the_similarity_its_own_way():
    auxiliary, hidden, weight = problem("adversarial", lambda_div=1.0, lambda_weight=0.0)
    before = -auxiliary(hidden, weight)
    (-before).backward()
    with torch.no_grad():
        weight -= 1e-5 * weight.grad
        lowered = -auxiliary(hidden, weight)
        weight += 1e-5 * weight.grad
        for parameter in auxiliary.parameters():
            parameter.sub_(1e-5 * parameter.grad)
        raised = -auxiliary(hidden, weight)
    assert lowered < before < raised


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_reaches_the_backbone_unless_asked(kind):
    images, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 0, 1, 1])
    for to_backbone in (False, True):
        settings = BierSettings(
            sizes=SIZES, auxiliary=kind, lambda_div=1.0, lambda_weight=1.0, auxiliary_to_backbone=to_backbone
        )
        step = BierStep(build_bier("conv4", settings, seed=1), settings, seed=1)
        features = list(step.network.features.parameters())
        own = step.auxiliary(step.network.features(images), step.network.learners.weight)
        grads = torch.autograd.grad(own, [step.network.learners.weight, *features], allow_unused=True)
        assert grads[0].abs().max() > 0
        assert [g is not None and bool(g.abs().max() > 0) for g in grads[1:]] == [to_backbone] * len(features)
        assert to_backbone or all(g is None for g in grads[1:])
        loss = step(images, labels)
        whole = torch.autograd.grad(loss.total, features, retain_graph=True)
        boosted = torch.autograd.grad(loss.boosted.loss, features)
        same = [torch.equal(a, b) for a, b in zip(whole, boosted, strict=True)]
        assert same == [not to_backbone] * len(features)


def test_the_learners_bias_takes_no_part():
    for kind in KINDS:
        settings = BierSettings(sizes=SIZES, auxiliary=kind)
        step = BierStep(build_bier("conv4", settings, seed=1), settings, seed=1)
        hidden = torch.randn(4, 256)
        loss = step.auxiliary(hidden, step.network.learners.weight)
        assert torch.autograd.grad(loss, step.network.learners.bias, allow_unused=True) == (None,)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_of_equal_parts_is_the_value_of_the_whole(kind):
    """What lets ranks compute it on their own samples."""
    auxiliary, hidden, weight = problem(kind, lambda_div=1.0, lambda_weight=2.0)
    hidden = torch.cat([hidden, hidden * 2 - 1, hidden[:2]]).detach()  # 12 rows
    whole = auxiliary(hidden, weight)
    parts = torch.stack([auxiliary(part, weight) for part in hidden.split(3)])
    assert parts.mean().item() == pytest.approx(whole.item(), rel=1e-12)
    assert parts.std() > 0


def test_none_is_zero_and_has_no_parameters():
    auxiliary, hidden, weight = problem("none")
    assert auxiliary(hidden, weight).item() == 0
    assert list(auxiliary.parameters()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_leaves_it_in_float32(kind):
    auxiliary, hidden, weight = problem(kind, lambda_div=1.0, lambda_weight=1.0)
    auxiliary, hidden, weight = auxiliary.float(), hidden.float(), weight.float()
    expected = auxiliary(hidden, weight)
    with torch.autocast("cpu", torch.bfloat16):
        found = auxiliary(hidden, weight)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
