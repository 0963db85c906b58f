"""`muster search`: from flags to a search request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from muster.orchestrator.cli.made import FROM_FILES, command_of
from muster.orchestrator.client.session import go
from muster.orchestrator.jobs.search.request import SearchSettings, load_search
from muster.orchestrator.methods.flags import flag_of, flagged, flags_of, preset_values
from muster.orchestrator.methods.loading import USUAL, check_method
from muster.orchestrator.methods.registry import FRONTENDS
from muster.orchestrator.settings.request import EnsembleSettings
from muster.workers.methods.registry import METHODS, NAMES

#: Flags of a launch that a search has none of: it varies D and L, and its other trials are as the recipe has them.
LEFT_OUT = {"ensemble.D", "ensemble.L", "recipe.normalize_logits", "data.allow_counts"}
#: What a search by L has, and one of single models has no use for.
BY_L = {f"search.{name}" for name in ("scheduler", "first_rung", "reduction", "plateau", "window")}


def _own(annotation: Any, *names: str, text: str) -> Any:
    return Annotated[annotation, typer.Option(*names, help=text, rich_help_panel="Search")]


METHOD = {
    "method": _own(
        str,
        "--method",
        text=f"Whose settings are searched: {', '.join(NAMES)}; each has its own flags. (default: {USUAL})",
    )
}
SHAPE = {
    "D": _own(
        str | None, "--D", text="Meta-classes to try: 12,25,50,100 or a range 12..100[:linear|log][:POINTS]."
    ),
    "max_L": _own(
        int | None, "--max-L", text=f"Members of the largest ensemble. (default: {EnsembleSettings.L})"
    ),
}
AXES = {
    "search_": _own(
        list[str] | None, "--search", text="Vary another setting too, as key=spec; may be repeated."
    )
}


def _run(
    settings: dict[str, Any],
    *,
    method: str | None,
    search_: list[str] | None,
    config: Path | None,
    set_: list[str] | None,
    address: str | None,
    detach: bool,
    dry_run: bool,
    as_json: bool,
    D: str | None = None,
    max_L: int | None = None,
) -> None:
    method = method or USUAL
    steering = {
        name.removeprefix("search."): settings.pop(name)
        for name in list(settings)
        if name.startswith("search.")
    }
    settings["ensemble.L"] = max_L
    request = load_search(config, {**settings, "method": method}, set_ or [], D, search_ or [], steering)
    go(request, address, detach, dry_run, as_json)


def search() -> None:
    """Finds a good number of meta-classes D and ensemble size L, or other settings of a method, at the least cost."""


def command(words: Sequence[str] = ()) -> Any:
    """The command with the flags of the method that `words` ask for, made when it is wanted. Raises UsageError."""
    method = _method_of(words)
    check_method(method)
    frontend, several = FRONTENDS[method], METHODS[method].ensemble
    flags = [
        *(flag_of("search", SearchSettings, field) for field in flagged(SearchSettings)),
        *flags_of(frontend),
    ]
    left_out = LEFT_OUT if several else LEFT_OUT | BY_L
    kept = [flag for flag in flags if flag.setting not in left_out]
    own = {**METHOD, **SHAPE, **AXES} if several else {**METHOD, **AXES}
    extra = {**own, **FROM_FILES}
    return command_of("search", str(search.__doc__), kept, _run, extra, preset_values(frontend))


def _method_of(words: Sequence[str]) -> str:
    """What follows the last --method, or stands in it."""
    found = USUAL
    for n, word in enumerate(words):
        if word == "--method" and n + 1 < len(words):
            found = words[n + 1]
        elif word.startswith("--method="):
            found = word.partition("=")[2]
    return found
