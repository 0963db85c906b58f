"""What is known of the backbones without building one: torch is not loaded here."""

from __future__ import annotations

from muster.workers.networks.own_code import own_network

#: How the networks of the package timm are called: `timm/resnet18`.
TIMM = "timm/"
#: Those without ImageNet weights, and what to say of it.
WITHOUT_IMAGENET = {
    "conv4": "conv4 has no ImageNet weights; use --weights none, or another backbone.",
    "bvlc_googlenet": "bvlc_googlenet has no ImageNet weights to download: give --weights FILE, Caffe's blobs as a "
    "state dict (docs/bier.md), or train from --weights none.",
}


def without_imagenet(backbone: str) -> str:
    """Why there are no ImageNet weights to download for a backbone; "" where there may be."""
    if mine := own_network(backbone):
        return (
            f"{mine.asked} is a network of your own, without ImageNet weights: give --weights FILE, or none."
        )
    return WITHOUT_IMAGENET.get(backbone, "")
