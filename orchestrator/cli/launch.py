"""`muster launch`: from flags to a request."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from muster.orchestrator.cli import launch_options as given
from muster.orchestrator.cli.launch_options import common_flags
from muster.orchestrator.cli.options import Address, AsJson, Detach, guarded
from muster.orchestrator.client.session import placed, run_launch, show_preview
from muster.orchestrator.settings.request import load


@guarded
def launch_dreml(
    dataset: given.Dataset = None,
    data_root: given.DataRoot = None,
    image_size: given.ImageSize = None,
    D: Annotated[int | None, typer.Option("--D", help="Meta-classes of a member, and its dimension.")] = None,
    L: Annotated[int | None, typer.Option("--L", help="Members of the ensemble.")] = None,
    backbone: given.Backbone = None,
    weights: given.Weights = None,
    preset: Annotated[str | None, typer.Option(help="Recipe: paper, code or glyphs.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    precision: given.Precision = None,
    seed: given.Seed = None,
    train_classes: given.TrainClasses = None,
    val_classes: given.ValClasses = None,
    normalize_logits: Annotated[
        bool, typer.Option("--normalize-logits", help="L2-normalise before the loss.")
    ] = False,
    skip_bad_images: given.SkipBadImages = False,
    allow_counts: given.AllowCounts = False,
    deterministic: given.Deterministic = False,
    config: given.Config = None,
    set_: given.Set = None,
    parallel: Annotated[int | None, typer.Option(help="Members at once. (default: as many as fit)")] = None,
    gpus_per_member: Annotated[
        float | None, typer.Option(help="A member's share of a GPU, e.g. 0.25.")
    ] = None,
    eval_memory: given.EvalMemory = None,
    name: given.Name = None,
    storage: given.StoreRoot = None,
    address: Address = None,
    detach: Detach = False,
    dry_run: given.DryRun = False,
    as_json: AsJson = False,
) -> None:
    """DREML: L networks, each trained on its own random grouping of the classes into D meta-classes."""
    flags = {
        **common_flags(locals()), "method": "dreml", "ensemble.D": D, "ensemble.L": L, "recipe.epochs": epochs,
        "recipe.normalize_logits": normalize_logits or None,
        "resources.parallel": parallel, "resources.gpus_per_member": gpus_per_member,
    }  # fmt: skip
    go(load(config, flags, set_ or []), address, detach, dry_run, as_json)


@guarded
def launch_bier(
    dataset: given.Dataset = None,
    data_root: given.DataRoot = None,
    image_size: given.ImageSize = None,
    learners: Annotated[
        str | None, typer.Option(help="Sizes of the learners, e.g. 96,160,256. (default: those)")
    ] = None,
    boost: Annotated[
        bool | None, typer.Option("--boost/--no-boost", help="Or the baseline: every pair weighs 1.")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="shrinkage (authors' code) or eta (the paper).")] = None,
    auxiliary: Annotated[
        str | None, typer.Option(help="none (BIER), adversarial (A-BIER) or activation.")
    ] = None,
    lambda_div: Annotated[float | None, typer.Option(help="Factor of the auxiliary loss.")] = None,
    lambda_weight: Annotated[float | None, typer.Option(help="Factor of its weight penalties.")] = None,
    weight_norm_axis: Annotated[
        str | None, typer.Option(help="Penalised lengths: of each input (in) or output (out).")
    ] = None,
    auxiliary_to_backbone: Annotated[
        bool, typer.Option("--auxiliary-to-backbone", help="Let its gradient through to the backbone.")
    ] = False,
    labels: Annotated[int | None, typer.Option("--P", help="Labels in the global batch.")] = None,
    images: Annotated[int | None, typer.Option("--K", help="Images of each label in it.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    backbone: given.Backbone = None,
    weights: given.Weights = None,
    batch_norm: Annotated[
        str | None, typer.Option(help="batch (of the whole batch), or frozen: pretrained ones.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Recipe: authors, authors-sop or glyphs.")] = None,
    combine: Annotated[
        str | None, typer.Option(help="Learners at test time: share (default), sqrt or concat.")
    ] = None,
    precision: given.Precision = None,
    seed: given.Seed = None,
    train_classes: given.TrainClasses = None,
    val_classes: given.ValClasses = None,
    skip_bad_images: given.SkipBadImages = False,
    allow_counts: given.AllowCounts = False,
    deterministic: given.Deterministic = False,
    config: given.Config = None,
    set_: given.Set = None,
    ranks: Annotated[int | None, typer.Option(help="Processes that train it together.")] = None,
    checkpoint_steps: Annotated[
        int | None, typer.Option(help="Steps between two checkpoints. (default: 500)")
    ] = None,
    eval_memory: given.EvalMemory = None,
    name: given.Name = None,
    storage: given.StoreRoot = None,
    address: Address = None,
    detach: Detach = False,
    dry_run: given.DryRun = False,
    as_json: AsJson = False,
) -> None:
    """BIER: one network, its last layer split into boosted learners; N ranks train it as one job."""
    flags = {
        **common_flags(locals()), "method": "bier", "combine": combine, "bier.sizes": _sizes(learners),
        "bier.boost": boost, "bier.variant": variant, "bier.auxiliary": auxiliary, "bier.lambda_div": lambda_div,
        "bier.lambda_weight": lambda_weight, "bier.weight_norm_axis": weight_norm_axis,
        "bier.auxiliary_to_backbone": auxiliary_to_backbone or None, "bier.labels": labels, "bier.images": images,
        "bier.steps": steps, "ensemble.batch_norm": batch_norm, "resources.ranks": ranks,
        "resources.checkpoint_steps": checkpoint_steps,
    }  # fmt: skip
    go(load(config, flags, set_ or []), address, detach, dry_run, as_json)


def _sizes(text: str | None) -> Any:
    """ "96,160,256" as numbers; what is none stays text, for the message about all mistakes."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    return tuple(int(part) if re.fullmatch(r"-?\d{1,9}", part) else part for part in parts)


def go(request: Any, address: str | None, detach: bool, dry_run: bool, as_json: bool) -> None:
    request = placed(request, address)
    if dry_run:
        show_preview(request, address, as_json)
    else:
        run_launch(request, address, detach, as_json)
