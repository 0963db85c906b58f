"""`muster launch`: from flags to a request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.attach import placed, run_launch, show_preview
from orchestrator.options import Address, AsJson, Detach, guarded
from orchestrator.spec import load


@guarded
def launch_dreml(
    dataset: Annotated[
        str | None,
        typer.Option(help="glyphs (embedded), folder, or see `muster data list`. (default: glyphs)"),
    ] = None,
    data_root: Annotated[str | None, typer.Option(help="Where the images lie, as the nodes see it.")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Picture side in px. (default: the preset's)")
    ] = None,
    D: Annotated[int | None, typer.Option("--D", help="Meta-classes of a member, and its dimension.")] = None,
    L: Annotated[int | None, typer.Option("--L", help="Members of the ensemble.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="conv4, resnet18, googlenet, or any of torchvision.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Initial weights: none, imagenet, or a file.")] = None,
    preset: Annotated[str | None, typer.Option(help="Recipe: paper, code or glyphs.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32 or bf16.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of partitions, weights, order and augmentation.")] = None,
    train_classes: Annotated[int | None, typer.Option(help="Train on the first N classes only.")] = None,
    val_classes: Annotated[
        int | None, typer.Option(help="Hold N training classes out for validation.")
    ] = None,
    normalize_logits: Annotated[
        bool, typer.Option("--normalize-logits", help="L2-normalise before the loss.")
    ] = False,
    skip_bad_images: Annotated[
        bool, typer.Option("--skip-bad-images", help="Go on without unreadable images.")
    ] = False,
    allow_counts: Annotated[
        bool, typer.Option("--allow-counts", help="Go on with a copy that is not as published.")
    ] = False,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Deterministic kernels on GPUs.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="A TOML file; flags and --set win over it.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting, as key=value; may be repeated.")
    ] = None,
    parallel: Annotated[int | None, typer.Option(help="Members at once. (default: as many as fit)")] = None,
    gpus_per_member: Annotated[
        float | None, typer.Option(help="A member's share of a GPU, e.g. 0.25.")
    ] = None,
    eval_memory: Annotated[str | None, typer.Option(help="Memory of evaluation's blocks, e.g. 2GB.")] = None,
    name: Annotated[str | None, typer.Option(help="The run's name. (default: made from the request)")] = None,
    storage: Annotated[
        str | None, typer.Option(envvar="MUSTER_STORAGE", help="Root of the store. (default: store)")
    ] = None,
    address: Address = None,
    detach: Detach = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained, and what it would cost.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """DREML: L networks, each trained on its own random grouping of the classes into D meta-classes."""
    flags = {
        "data.dataset": dataset, "data.root": data_root, "image_size": image_size, "ensemble.D": D, "ensemble.L": L,
        "ensemble.backbone": backbone, "ensemble.weights": weights, "preset": preset, "recipe.epochs": epochs,
        "ensemble.precision": precision, "ensemble.seed": seed, "data.train_classes": train_classes,
        "data.val_classes": val_classes, "recipe.normalize_logits": normalize_logits or None,
        "data.skip_bad_images": skip_bad_images or None, "data.allow_counts": allow_counts or None,
        "ensemble.deterministic": deterministic or None,
        "resources.parallel": parallel, "resources.gpus_per_member": gpus_per_member,
        "resources.eval_memory": eval_memory, "name": name, "storage": storage,
    }  # fmt: skip
    request = placed(load(config, flags, set_ or []), address)
    if dry_run:
        show_preview(request, address, as_json)
    else:
        run_launch(request, address, detach, as_json)
