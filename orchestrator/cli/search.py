"""`muster search`: from flags to a search request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from muster.orchestrator.cli.launch_options import command_of
from muster.orchestrator.cli.options import guarded
from muster.orchestrator.client.session import go
from muster.orchestrator.jobs.search.request import SearchSettings, load_search
from muster.orchestrator.methods.flags import flag_of, flagged, flags_of
from muster.orchestrator.methods.loading import USUAL
from muster.orchestrator.methods.registry import FRONTENDS

MOST_L = 8
#: Flags of a launch that a search has none of: it varies D and L, and its other trials are as the recipe has them.
LEFT_OUT = {"ensemble.D", "ensemble.L", "recipe.normalize_logits", "data.allow_counts"}
OWN: dict[str, Any] = {
    "D": Annotated[
        str | None,
        typer.Option(
            "--D",
            help="Meta-classes to try: 12,25,50,100 or a range 12..100[:linear|log][:POINTS].",
            rich_help_panel="Search",
        ),
    ],
    "max_L": Annotated[
        int | None,
        typer.Option(
            "--max-L", help=f"Members of the largest ensemble. (default: {MOST_L})", rich_help_panel="Search"
        ),
    ],
    "search_": Annotated[
        list[str] | None,
        typer.Option(
            "--search",
            help="Vary another setting too, as key=spec; may be repeated.",
            rich_help_panel="Search",
        ),
    ],
}


def _run(
    settings: dict[str, Any],
    *,
    D: str | None,
    max_L: int | None,
    search_: list[str] | None,
    config: Path | None,
    set_: list[str] | None,
    address: str | None,
    detach: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    steering = {name: settings.pop(f"search.{name}") for name in STEERING}
    flags = {**settings, "method": USUAL, "ensemble.L": MOST_L if max_L is None else max_L}
    request = load_search(config, flags, set_ or [], D, search_ or [], steering)
    go(request, address, detach, dry_run, as_json)


STEERING = [field.name for field in flagged(SearchSettings)]


def search() -> None:
    """Finds a good number of meta-classes D and ensemble size L at the least cost."""


def command() -> Any:
    """The command, made when it is wanted."""
    frontend = FRONTENDS[USUAL]
    flags = [
        *(flag_of("search", SearchSettings, field) for field in flagged(SearchSettings)),
        *(flag for flag in flags_of(frontend) if flag.setting not in LEFT_OUT),
    ]
    app = typer.Typer(add_completion=False)
    app.command("search", help=search.__doc__)(guarded(command_of(flags, _run, frontend, OWN)))
    return typer.main.get_command(app)
