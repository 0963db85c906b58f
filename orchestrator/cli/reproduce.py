"""`muster reproduce`: from flags to a reproduction's request."""

from __future__ import annotations

from typing import Annotated

import typer

from muster.orchestrator.cli.options import Address, AsJson, Detach, guarded
from muster.orchestrator.client.session import go
from muster.orchestrator.jobs.reproduce.targets import ALL, TARGETS, load_options


@guarded
def reproduce(
    target: Annotated[str, typer.Argument(help=f"{', '.join(TARGETS)}, or {ALL}.")],
    data_root: Annotated[
        str | None, typer.Option(help="Where your copies lie, as the nodes see it: DIR/cub200, DIR/sop, ...")
    ] = None,
    rows: Annotated[str | None, typer.Option(help="Rows of a table, by commas. (default: all)")] = None,
    datasets: Annotated[str | None, typer.Option(help="By commas. (default: the paper's)")] = None,
    seeds: Annotated[int, typer.Option(help="Each row with so many seeds: mean and spread.")] = 1,
    scale: Annotated[
        float, typer.Option(help="A rehearsal with this share of classes, epochs and members.")
    ] = 1.0,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="Initial weights: none, imagenet (default), and BACKBONE=FILE; may be repeated."),
    ] = None,
    allow_counts: Annotated[
        bool, typer.Option("--allow-counts", help="Go on with copies that are not as published.")
    ] = False,
    vehicleid_protocol: Annotated[
        str, typer.Option(help="self (each image asks all others), or reid: ten random galleries.")
    ] = "self",
    parallel: Annotated[int | None, typer.Option(help="Members at once. (default: as many as fit)")] = None,
    gpus_per_member: Annotated[
        float | None, typer.Option(help="A member's share of a GPU, e.g. 0.25.")
    ] = None,
    ranks: Annotated[
        int | None, typer.Option(help="Processes that train a model together, where several can.")
    ] = None,
    eval_memory: Annotated[str | None, typer.Option(help="Memory of evaluation's blocks, e.g. 2GB.")] = None,
    name: Annotated[str | None, typer.Option(help="The run's name. (default: made from the request)")] = None,
    storage: Annotated[
        str | None, typer.Option(envvar="MUSTER_STORAGE", help="Root of the store. (default: store)")
    ] = None,
    address: Address = None,
    detach: Detach = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, what the store has, and the cost.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Runs the papers' tables and figures, and sets each number beside the published one."""
    resources = {
        "resources.parallel": parallel, "resources.gpus_per_member": gpus_per_member,
        "resources.eval_memory": eval_memory, "resources.ranks": ranks,
    }  # fmt: skip
    options = load_options(
        target, names=datasets, rows=rows, seeds=seeds, scale=scale, resources=resources,
        vehicleid_protocol=vehicleid_protocol,
        data_root=data_root, weights=tuple(weights or ()), allow_counts=allow_counts, name=name, storage=storage,
    )  # fmt: skip
    go(options, address, detach, dry_run, as_json)
