"""Initial weights that a request names: read, tried on its backbone, and kept in the store by their content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.store.layout import Store


def check_weights(request: LaunchRequest) -> dict[str, Any]:
    """The initial weights, as tensors by name. Raises UsageError if there are none such or they don't fit."""
    from muster.workers.networks import backbones

    backbone = request.ensemble.backbone
    if request.ensemble.weights == "imagenet":
        state = backbones.imagenet_state(backbone)
    else:
        state = backbones.read_state(Path(request.ensemble.weights).expanduser())
    backbones.build(backbone, request.ensemble.D, 0, state)  # fits, or says which tensors don't
    return state


def known_weights(request: LaunchRequest) -> str | None:
    """The digest of the initial weights, "none" without any; None of ImageNet's, which may have to be downloaded.

    Raises UsageError if a file can't be read, or if it doesn't fit the backbone.
    """
    if request.ensemble.weights == "none":
        return "none"
    if request.ensemble.weights == "imagenet":
        return None
    from muster.workers.networks import backbones

    return backbones.state_digest(check_weights(request))


def store_weights(request: LaunchRequest, store: Store) -> str:
    """Puts the initial weights into the store by content and returns their digest, or "none".

    Raises UsageError if there are none such, or if they don't fit the backbone.
    """
    if request.ensemble.weights == "none":
        return "none"
    from safetensors.torch import save

    from muster.workers.networks import backbones

    state = check_weights(request)
    digest, data = backbones.state_digest(state), save(state)
    if store.files.size(store.weights(digest)) != len(data):  # members look at its content
        store.files.put(store.weights(digest), data)
    return digest
