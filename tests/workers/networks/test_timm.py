"""timm's classifiers as backbones: built, replaced, told apart, and asked for where they are not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from muster.workers.errors import UsageError
from muster.workers.networks import backbones, timm_models

CONVOLUTIONAL, TRANSFORMER = "timm/test_efficientnet", "timm/test_vit"


@pytest.mark.parametrize("backbone", [CONVOLUTIONAL, TRANSFORMER])
def test_a_network_has_a_new_linear_layer_and_weights_of_its_seed(backbone: str) -> None:
    one, same, other = (backbones.build(backbone, 5, seed).eval() for seed in (1, 1, 2))
    images = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    assert one(images).shape == (2, 5)
    assert torch.equal(one(images), same(images))
    assert not torch.equal(one(images), other(images))
    name, last = backbones.head(one, backbone)
    assert (last.out_features, one.get_submodule(name) is last) == (5, True)


@pytest.mark.parametrize("backbone", [CONVOLUTIONAL, TRANSFORMER])
def test_initial_weights_are_taken_but_for_the_last_layer(backbone: str, tmp_path: Path) -> None:
    trained = backbones.build(backbone, 9, 3)
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    state = backbones.read_state(tmp_path / "weights.pt")
    built = backbones.build(backbone, 4, 8, state)
    last = backbones.head(built, backbone)[0]
    before, after = trained.state_dict(), built.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {f"{last}.weight", f"{last}.bias"}
    with pytest.raises(UsageError, match="--weights don't fit timm/resnet18"):
        backbones.build("timm/resnet18", 4, 8, state)


def test_a_network_says_which_pictures_it_was_made_for() -> None:
    assert timm_models.input_of(TRANSFORMER) == timm_models.Input(160, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert timm_models.input_of("timm/efficientnet_b0").side == 224


def test_a_name_that_there_is_not_is_told_with_near_ones() -> None:
    for ask in (
        lambda: backbones.build("timm/resnet81", 4, 0),
        lambda: timm_models.input_of("timm/resnet81"),
    ):
        with pytest.raises(UsageError, match=r"timm has no network 'resnet81'\. Did you mean timm/resnet"):
            ask()


def test_a_network_of_two_heads_is_refused() -> None:
    with pytest.raises(UsageError, match="has no single linear layer as its classifier"):
        backbones.build("timm/deit_tiny_distilled_patch16_224", 4, 0)


def test_pictures_that_a_network_can_t_take_are_refused() -> None:
    assert backbones.refusal(TRANSFORMER, 160) is None
    assert "32" in str(backbones.refusal("timm/vit_tiny_patch16_224", 32))


def test_without_timm_the_package_is_named() -> None:
    code = "import sys, runpy; sys.modules['timm'] = None; runpy.run_module('muster', run_name='__main__')"
    words = ["launch", "dreml", "--dataset", "glyphs", "--backbone", TRANSFORMER, "--dry-run"]
    ran = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "which is not installed: pip install timm, on every node" in ran.stderr
    assert "Traceback" not in ran.stderr
