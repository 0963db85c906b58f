"""What the commands share: options, how errors leave, paths, and one line to standard error."""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import ArgumentInfo

from muster.orchestrator.console.watching import number_shown
from muster.orchestrator.records.exit_codes import EXIT_INTERRUPTED
from muster.workers.errors import UsageError
from muster.workers.watch import shown_by

#: An address that names the local head, as no address does.
AUTO = "auto"
Storage = Annotated[
    str, typer.Option("--storage", envvar="MUSTER_STORAGE", help="Root folder or URI of the store.")
]
Backbone = Annotated[
    str | None, typer.Option(help="The run's network of your own, named again: its code is imported.")
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        envvar="MUSTER_ADDRESS",
        help="A cluster, http://HOST:8265; without it a local head is used.",
        callback=lambda address: None if address == AUTO else address,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Detach = Annotated[bool, typer.Option("--detach", help="Submit, and don't wait.")]
Run = Annotated[str, typer.Argument(help="The run's name: see `muster runs`.")]


def guarded(function: Callable[..., None]) -> Callable[..., None]:
    """Refuses options that were given as "", and shows how large numbers grow while the function runs."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            _refuse_empty(function, kwargs)
            with shown_by(number_shown):
                function(*args, **kwargs)
        except KeyboardInterrupt:  # said where all commands end
            raise typer.Exit(EXIT_INTERRUPTED) from None

    return run


def _refuse_empty(function: Callable[..., None], given: Mapping[str, Any]) -> None:
    """Raises UsageError for options that were given as "": a shell variable that is not set, most often, and never
    the current folder."""
    empty = [name for name, value in given.items() if _is_empty(value)]
    if empty:
        raise UsageError([f"{_flag(function, name)} is empty: is a shell variable unset?" for name in empty])


def _is_empty(value: Any) -> bool:
    # typer makes "." of an empty path; nobody names the current folder as a file
    return (isinstance(value, str) and not value.strip()) or value == Path()


def _flag(function: Callable[..., None], parameter: str) -> str:
    """How a command's parameter is written on the command line."""
    hint = typing.get_type_hints(function, include_extras=True)[parameter]
    info = next((item for item in getattr(hint, "__metadata__", ()) if hasattr(item, "param_decls")), None)
    if isinstance(info, ArgumentInfo):
        return parameter.upper()
    flags = [name for name in (info and info.param_decls) or () if name.startswith("--")]
    return flags[0] if flags else f"--{parameter.replace('_', '-')}"
