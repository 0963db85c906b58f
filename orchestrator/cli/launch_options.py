"""The options that every method of `muster launch` has, and the settings they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Dataset = Annotated[
    str | None, typer.Option(help="glyphs (embedded), folder, or see `muster data list`. (default: glyphs)")
]
DataRoot = Annotated[str | None, typer.Option(help="Where the images lie, as the nodes see it.")]
ImageSize = Annotated[int | None, typer.Option(help="Picture side in px. (default: the preset's)")]
Backbone = Annotated[str | None, typer.Option(help="conv4, resnet18, googlenet, or any of torchvision.")]
Weights = Annotated[str | None, typer.Option(help="Initial weights: none, imagenet, or a file.")]
Precision = Annotated[str | None, typer.Option(help="auto, fp32 or bf16.")]
Seed = Annotated[int | None, typer.Option(help="Of partitions, weights, order and augmentation.")]
TrainClasses = Annotated[int | None, typer.Option(help="Train on the first N classes only.")]
ValClasses = Annotated[int | None, typer.Option(help="Hold N training classes out for validation.")]
SkipBadImages = Annotated[bool, typer.Option("--skip-bad-images", help="Go on without unreadable images.")]
AllowCounts = Annotated[
    bool, typer.Option("--allow-counts", help="Go on with a copy that is not as published.")
]
Deterministic = Annotated[bool, typer.Option("--deterministic", help="Deterministic kernels on GPUs.")]
Config = Annotated[Path | None, typer.Option(help="A TOML file; flags and --set win over it.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Any setting, as key=value; may be repeated.")]
EvalMemory = Annotated[str | None, typer.Option(help="Memory of evaluation's blocks, e.g. 2GB.")]
Name = Annotated[str | None, typer.Option(help="The run's name. (default: made from the request)")]
StoreRoot = Annotated[
    str | None, typer.Option(envvar="MUSTER_STORAGE", help="Root of the store. (default: store)")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be trained, and what it would cost.")]
#: Parameters of a command, by name, and the settings they stand for; a switch that is off says nothing.
SETTINGS = {
    "dataset": "data.dataset",
    "data_root": "data.root",
    "image_size": "image_size",
    "backbone": "ensemble.backbone",
    "weights": "ensemble.weights",
    "preset": "preset",
    "precision": "ensemble.precision",
    "seed": "ensemble.seed",
    "train_classes": "data.train_classes",
    "val_classes": "data.val_classes",
    "skip_bad_images": "data.skip_bad_images",
    "allow_counts": "data.allow_counts",
    "deterministic": "ensemble.deterministic",
    "eval_memory": "resources.eval_memory",
    "name": "name",
    "storage": "storage",
}


def common_flags(given: dict[str, Any]) -> dict[str, Any]:
    """A command's common parameters, as its locals() give them, under their settings' names."""
    found = {setting: given[parameter] for parameter, setting in SETTINGS.items()}
    return {setting: None if value is False else value for setting, value in found.items()}
