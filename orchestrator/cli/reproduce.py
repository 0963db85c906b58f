"""`muster reproduce`: from flags to a reproduction's request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from muster.orchestrator.cli.made import command_of
from muster.orchestrator.client.session import go
from muster.orchestrator.methods.flags import JOB_FLAGS, flag_of, flagged, top_flag
from muster.orchestrator.settings.resources import Resources

#: What all of its launches share of what a launch may use.
SHARED = ("parallel", "gpus_per_member", "ranks", "eval_memory", "floors")


def _run(
    settings: dict[str, Any],
    *,
    target: str,
    weights: list[str] | None,
    address: str | None,
    detach: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    from muster.orchestrator.jobs.reproduce.targets import load_options

    given = {name: value for name, value in settings.items() if value is not None}
    go(load_options(target, given, tuple(weights or ())), address, detach, dry_run, as_json)


def reproduce() -> None:
    """Runs the papers' tables and figures, and sets each number beside the published one."""


def command(words: Sequence[str] = ()) -> Any:
    """The command, made when it is wanted."""
    from muster.orchestrator.jobs.reproduce.request import ReproduceOptions
    from muster.orchestrator.jobs.reproduce.targets import ALL, TARGETS

    del words  # all targets have the same options
    flags = [
        *(flag_of("reproduce", ReproduceOptions, field) for field in flagged(ReproduceOptions)),
        *(flag_of("resources", Resources, field) for field in flagged(Resources) if field.name in SHARED),
        *(top_flag(name) for name in JOB_FLAGS),
    ]
    own = {
        "target": Annotated[str, typer.Argument(help=f"{', '.join(TARGETS)}, or {ALL}.")],
        "weights": Annotated[
            list[str] | None,
            typer.Option(
                help="Initial weights: none, imagenet (default), and BACKBONE=FILE; may be repeated.",
                rich_help_panel="Reproduction",
            ),
        ],
    }
    return command_of("reproduce", str(reproduce.__doc__), flags, _run, own)
