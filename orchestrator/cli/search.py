"""`muster search`: from flags to a search request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from muster.orchestrator.cli.options import Address, AsJson, Detach, guarded
from muster.orchestrator.client.session import go
from muster.orchestrator.jobs.search.request import load_search


@guarded
def search(
    D: Annotated[
        str | None,
        typer.Option(
            "--D", help="Meta-classes to try: 12,25,50,100 or a range 12..100[:linear|log][:POINTS]."
        ),
    ] = None,
    max_L: Annotated[int, typer.Option("--max-L", help="Members of the largest ensemble.")] = 8,
    search_: Annotated[
        list[str] | None,
        typer.Option("--search", help="Vary another setting too, as key=spec; may be repeated."),
    ] = None,
    algorithm: Annotated[str | None, typer.Option(help="grid, random or optuna. (default: grid)")] = None,
    samples: Annotated[int | None, typer.Option(help="Trials of random and optuna. (default: 16)")] = None,
    scheduler: Annotated[str | None, typer.Option(help="halving, asha or none. (default: halving)")] = None,
    first_rung: Annotated[
        int | None, typer.Option(help="Members before any trial is cut. (default: 3)")
    ] = None,
    reduction: Annotated[
        int | None,
        typer.Option(
            help="One trial in so many goes on at a rung. (default: 2, or more, to train at most half of the grid)"
        ),
    ] = None,
    plateau: Annotated[
        str | None, typer.Option(help="k:epsilon ends a trial whose last k members added less than epsilon.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="What steers. (default: recall_at_1)")] = None,
    select_on: Annotated[
        str | None, typer.Option(help="val, or test as in the paper's Fig. 3. (default: val)")
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Members of a trial asked for at once. (default: 4)")
    ] = None,
    budget_members: Annotated[int | None, typer.Option(help="Train at most so many members.")] = None,
    budget_gpu_hours: Annotated[float | None, typer.Option(help="Train for at most so long.")] = None,
    dataset: Annotated[str | None, typer.Option(help="glyphs (embedded) or folder.")] = None,
    data_root: Annotated[str | None, typer.Option(help="Where the images lie, as the nodes see it.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Picture side in px.")] = None,
    val_classes: Annotated[int | None, typer.Option(help="Hold N training classes out to choose on.")] = None,
    train_classes: Annotated[int | None, typer.Option(help="Train on the first N classes only.")] = None,
    backbone: Annotated[str | None, typer.Option(help="conv4, resnet18, googlenet, ...")] = None,
    weights: Annotated[str | None, typer.Option(help="Initial weights: none, imagenet, or a file.")] = None,
    preset: Annotated[str | None, typer.Option(help="Recipe: paper, code or glyphs.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32 or bf16.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of members, of the validation split and of draws.")
    ] = None,
    skip_bad_images: Annotated[bool, typer.Option("--skip-bad-images")] = False,
    deterministic: Annotated[bool, typer.Option("--deterministic")] = False,
    config: Annotated[Path | None, typer.Option(help="A TOML file; flags and --set win over it.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting, as key=value; may be repeated.")
    ] = None,
    parallel: Annotated[int | None, typer.Option(help="Members at once. (default: as many as fit)")] = None,
    gpus_per_member: Annotated[float | None, typer.Option(help="A member's share of a GPU.")] = None,
    eval_memory: Annotated[
        str | None, typer.Option(help="Memory of the running similarities, e.g. 4GB.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The run's name. (default: made from the request)")] = None,
    storage: Annotated[str | None, typer.Option(envvar="MUSTER_STORAGE", help="Root of the store.")] = None,
    address: Address = None,
    detach: Detach = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it may cost; start nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Finds a good number of meta-classes D and ensemble size L at the least cost."""
    flags = {
        "ensemble.L": max_L,
        "data.dataset": dataset, "data.root": data_root, "image_size": image_size,
        "ensemble.backbone": backbone, "ensemble.weights": weights, "preset": preset, "recipe.epochs": epochs,
        "ensemble.precision": precision, "ensemble.seed": seed, "data.train_classes": train_classes,
        "data.val_classes": val_classes, "data.skip_bad_images": skip_bad_images or None,
        "ensemble.deterministic": deterministic or None, "resources.parallel": parallel,
        "resources.gpus_per_member": gpus_per_member, "resources.eval_memory": eval_memory, "name": name,
        "storage": storage,
    }  # fmt: skip
    steering = {
        "algorithm": algorithm, "samples": samples, "scheduler": scheduler, "first_rung": first_rung,
        "reduction": reduction, "plateau": plateau, "metric": metric, "select_on": select_on, "window": window,
        "budget_members": budget_members, "budget_gpu_hours": budget_gpu_hours,
    }  # fmt: skip
    request = load_search(config, flags, set_ or [], D, search_ or [], steering)
    go(request, address, detach, dry_run, as_json)
