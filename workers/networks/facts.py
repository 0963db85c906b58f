"""What is known of the backbones without building one: torch is not loaded here."""

from __future__ import annotations

#: How the networks of the package timm are called: `timm/resnet18`.
TIMM = "timm/"
#: Those without ImageNet weights, and what to say of it.
WITHOUT_IMAGENET = {
    "conv4": "conv4 has no ImageNet weights; use --weights none, or another backbone.",
    "bvlc_googlenet": "bvlc_googlenet has no ImageNet weights to download: give --weights FILE, Caffe's blobs as a "
    "state dict (docs/bier.md), or train from --weights none.",
}
