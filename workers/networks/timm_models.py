"""Classifiers of the package timm, which need not be installed: only a backbone `timm/NAME` asks for it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from torch import nn

from muster.workers.errors import UsageError
from muster.workers.networks.facts import TIMM
from muster.workers.spec import Triple


@dataclass(frozen=True)
class Input:
    """What a network was made for."""

    side: int
    "Pixels."
    mean: Triple
    std: Triple


def build(backbone: str, outputs: int) -> nn.Module:
    """A classifier with a new linear layer of `outputs` on its pooled features, its other weights random. Raises
    UsageError if timm is not here, has no such network, or gives it another head than one linear layer."""
    name = backbone.removeprefix(TIMM)
    try:
        network: nn.Module = _timm().create_model(name, pretrained=False, num_classes=outputs)
    except RuntimeError as error:
        raise (
            _unknown(name)
            if "Unknown model" in str(error)
            else UsageError(f"timm can't build {name}: {str(error).splitlines()[0]}.")
        ) from error
    head(network, backbone)
    return network


def head(network: nn.Module, backbone: str) -> tuple[str, nn.Linear]:
    """The name and the module of the classifier's last layer. Raises UsageError if it is not one linear layer."""
    name = network.pretrained_cfg.get("classifier")  # type: ignore[union-attr, operator]
    found = network.get_submodule(name) if isinstance(name, str) else None
    if not isinstance(found, nn.Linear):
        raise UsageError(
            f"{backbone} has no single linear layer as its classifier, so there is none to replace; take another "
            f"one, as {TIMM}resnet18 or {TIMM}vit_small_patch16_224."
        )
    return str(name), found


def input_of(backbone: str) -> Input:
    """The pictures that a network was made for. Raises UsageError if timm is not here, or has no such network."""
    name = backbone.removeprefix(TIMM)
    found = _timm().get_pretrained_cfg(name, allow_unregistered=False) if _timm().is_model(name) else None
    if found is None:
        raise _unknown(name)
    return Input(int(found.input_size[-1]), tuple(found.mean), tuple(found.std))


def imagenet_state(backbone: str) -> dict[str, Any]:
    """timm's own weights of a network, downloaded or from its cache. Raises UsageError if there are none, or if that
    fails."""
    name = backbone.removeprefix(TIMM)
    if not _timm().is_model(name):
        raise _unknown(name)
    try:
        network = _timm().create_model(name, pretrained=True)
    except Exception as error:
        raise UsageError(
            f"timm's weights of {backbone} can't be fetched ({str(error).splitlines()[0]}). Fetch them elsewhere and "
            "give --weights FILE, or train from --weights none."
        ) from error
    return {name: tensor.contiguous() for name, tensor in network.state_dict().items()}


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise UsageError(
            f"Backbones {TIMM}... are of the package timm, which is not installed: pip install timm, on every node."
        ) from error
    return timm


def _unknown(name: str) -> UsageError:
    near = difflib.get_close_matches(name, _timm().list_models(), 3)
    hint = f" Did you mean {' or '.join(TIMM + one for one in near)}?" if near else ""
    return UsageError(f"timm has no network {name!r}.{hint or ' Its list_models() names them all.'}")
