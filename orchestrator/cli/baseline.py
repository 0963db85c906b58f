"""`muster launch baseline`: from flags to a request."""

from __future__ import annotations

from typing import Annotated

import typer

from muster.orchestrator.cli import launch_options as given
from muster.orchestrator.cli.launch import go
from muster.orchestrator.cli.launch_options import common_flags
from muster.orchestrator.cli.options import Address, AsJson, Detach, guarded
from muster.orchestrator.settings.request import load


@guarded
def launch_baseline(
    loss: Annotated[str | None, typer.Option(help="triplet, npairs or proxynca.")] = None,
    dataset: given.Dataset = None,
    data_root: given.DataRoot = None,
    image_size: given.ImageSize = None,
    dim: Annotated[int | None, typer.Option(help="The embedding's dimension. (default: 64)")] = None,
    labels: Annotated[int | None, typer.Option("--P", help="Labels in a batch.")] = None,
    images: Annotated[int | None, typer.Option("--K", help="Images of each label in it.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    backbone: given.Backbone = None,
    weights: given.Weights = None,
    preset: Annotated[str | None, typer.Option(help="Input as in DREML: paper, code or glyphs.")] = None,
    precision: given.Precision = None,
    seed: given.Seed = None,
    train_classes: given.TrainClasses = None,
    val_classes: given.ValClasses = None,
    skip_bad_images: given.SkipBadImages = False,
    allow_counts: given.AllowCounts = False,
    deterministic: given.Deterministic = False,
    config: given.Config = None,
    set_: given.Set = None,
    gpus_per_member: Annotated[
        float | None, typer.Option(help="The model's share of a GPU, e.g. 0.25.")
    ] = None,
    eval_memory: given.EvalMemory = None,
    name: given.Name = None,
    storage: given.StoreRoot = None,
    address: Address = None,
    detach: Detach = False,
    dry_run: given.DryRun = False,
    as_json: AsJson = False,
) -> None:
    """A compared method of DREML's Table 1: one network with a loss of pytorch-metric-learning."""
    flags = {
        **common_flags(locals()), "method": "baseline", "baseline.loss": loss, "baseline.dim": dim,
        "baseline.labels": labels, "baseline.images": images, "baseline.epochs": epochs,
        "resources.gpus_per_member": gpus_per_member,
    }  # fmt: skip
    go(load(config, flags, set_ or []), address, detach, dry_run, as_json)
