"""BIER's settings: every mistake in one message, every setting in the key, and the optimiser's groups."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pydantic
import pytest

from muster.workers.methods.bier.network import BierStep, build_bier, parameter_groups
from muster.workers.methods.bier.settings import BierSettings
from muster.workers.spec import content_key


def test_parameter_groups_hold_each_parameter_once_at_its_rate():
    settings = BierSettings(auxiliary="adversarial", lr=1e-5, regressor_lr=2.0)
    step = BierStep(build_bier("conv4", settings, seed=1), settings, seed=1)
    groups = parameter_groups(step, settings)
    place = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    named = {name: place.pop(id(p)) for name, p in step.named_parameters()}
    assert not place
    assert sum(len(group["params"]) for group in groups) == len(named)
    for name, (rate, decay) in named.items():
        if name == "network.learners.weight":
            assert (rate, decay) == (pytest.approx(1e-4), 4e-4)
        elif name == "network.learners.bias":
            assert (rate, decay) == (pytest.approx(1e-4), 0)
        elif name.startswith("auxiliary."):
            assert (rate, decay) == (2e-5, 0)
        else:  # conv4's convolutions have no bias; all else of it is BatchNorm
            convolution = step.get_parameter(name).ndim == 4
            assert (rate, decay) == (1e-5, 4e-4 if convolution else 0)


def test_annealing_is_a_staircase():
    settings = BierSettings(anneal_every=25_000, anneal_factor=0.5, steps=100_000)
    assert [settings.annealing(step) for step in (0, 24_999, 25_000, 99_999)] == [1, 1, 0.5, 0.125]
    assert BierSettings().annealing(10**6) == 1


def test_all_mistakes_in_the_settings_are_told_at_once():
    with pytest.raises(ValueError, match="sizes") as caught:
        BierSettings(
            sizes=(8, 0, 4), labels=1, images=1, lambda_weight=-1, auxiliary="activation", steps=0, lr=-1
        )
    for word in (
        "sizes = (8, 0, 4)",
        "labels = 1",
        "images = 1",
        "lambda_weight = -1",
        "steps = 0",
        "lr = -1",
    ):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sizes": ()}, "at least one learner"),
        ({"sizes": (512,)}, "boost needs at least 2 learners"),
        (
            {"sizes": (512,), "boost": False, "auxiliary": "adversarial"},
            "auxiliary = adversarial needs at least 2",
        ),
        ({"boost": False, "variant": "eta"}, "variant = eta has no effect"),
        ({"variant": "eta", "shrinkage": 0.5}, "shrinkage = 0.5 has no effect"),
        ({"lambda_div": 1e-3}, "lambda_div = 0.001 has no effect with auxiliary = none"),
        ({"weight_norm_axis": "out"}, "weight_norm_axis = out has no effect"),
        ({"auxiliary_to_backbone": True}, "auxiliary_to_backbone has no effect"),
        ({"auxiliary": "adversarial", "lambda_div": 0.0}, "lambda_div = 0.0: must be above 0"),
        (
            {"auxiliary": "adversarial", "lambda_div": float("inf")},
            "lambda_div = inf: must be above 0, and finite",
        ),
        ({"auxiliary": "activation", "regressor_lr": 3.0}, "regressor_lr = 3.0 has no effect"),
        ({"lr": float("inf")}, "lr = inf"),
        ({"weight_decay": float("nan")}, "weight_decay = nan"),
        ({"labels": 2.5}, "labels = 2.5: must be a whole number"),
        ({"sizes": (8, 1.5)}, "sizes = (8, 1.5)"),
        ({"variant": "fast"}, "variant = 'fast': there are shrinkage, eta, balanced"),
        ({"anneal_factor": 0.1}, "anneal_factor = 0.1 has no effect"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given, message):
    with pytest.raises(ValueError, match=r"^[^;]*$") as caught:
        BierSettings(**given)
    assert message in str(caught.value)


def test_single_embedding_of_table_one():
    settings = BierSettings(sizes=(512,), boost=False)
    assert settings.dimensions == 512
    assert settings.batch_size == 128


def test_every_setting_is_part_of_a_key():
    """Each field, changed alone or with what it needs, gives another key."""
    base = BierSettings(auxiliary="adversarial", anneal_every=100)
    changed = {
        "sizes": (96, 416), "boost": False, "variant": "eta", "shrinkage": 0.1, "auxiliary": "activation",
        "lambda_div": 1.0, "lambda_weight": 2.0, "weight_norm_axis": "out", "auxiliary_to_backbone": True,
        "labels": 32, "images": 4, "steps": 7, "lr": 1e-4, "learner_lr": 5.0, "regressor_lr": 5.0,
        "weight_decay": 0.0, "anneal_every": 50, "anneal_factor": 0.1,
    }  # fmt: skip
    assert set(changed) == {field.name for field in dataclasses.fields(BierSettings)}
    keys = {content_key(dataclasses.replace(base, **{name: value})) for name, value in changed.items()}
    assert len(keys | {content_key(base)}) == len(changed) + 1


def test_equal_requests_are_written_alike():
    assert content_key(BierSettings(sizes=[4, 8], learner_lr=3)) == content_key(
        BierSettings(sizes=(4.0, 8), learner_lr=3.0)
    )


def test_unknown_keys_are_refused_where_settings_are_parsed():
    adapter = pydantic.TypeAdapter(BierSettings)
    assert adapter.validate_python({"sizes": [4, 8]}).sizes == (4, 8)
    with pytest.raises(pydantic.ValidationError):
        adapter.validate_python({"lambda_dif": 1})


def test_settings_are_parsed_without_torch():
    code = "import sys, muster.workers.methods.bier.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
