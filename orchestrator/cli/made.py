"""Commands whose options are made from the settings' own fields: each is said once, there."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer
from typer.models import ArgumentInfo

from muster.orchestrator.cli.options import Address, AsJson, Detach, guarded
from muster.orchestrator.methods.flags import PANELS, Flag, help_text

RUN = PANELS["run"]


def _in_run(annotation: Any) -> Any:
    """An option that many commands have, in the panel that it has here."""
    kind, info = annotation.__origin__, copy.copy(annotation.__metadata__[0])
    info.rich_help_panel = RUN
    return Annotated[kind, info]


Config = Annotated[
    Path | None, typer.Option(help="A TOML file; flags and --set win over it.", rich_help_panel=RUN)
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting, as key=value; may be repeated.", rich_help_panel=RUN),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Say what it would train, and the cost; start nothing.", rich_help_panel=RUN
    ),
]


#: Of a command whose settings a file may hold too.
FROM_FILES: Mapping[str, Any] = {"config": Config, "set_": Set}


def command_of(
    name: str,
    text: str,
    flags: Iterable[Flag],
    run: Callable[..., None],
    extra: Mapping[str, Any],
    by_preset: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Any:
    """The command of this name and help, with an option for each flag.

    It calls `run` with the flags by their settings' dotted names (None: not given), then the `extra` parameters
    (annotations by name, None by default), `address`, `detach`, `dry_run` and `as_json`.
    """
    app = typer.Typer(add_completion=False)
    job = {
        "address": _in_run(Address),
        "detach": _in_run(Detach),
        "dry_run": DryRun,
        "as_json": _in_run(AsJson),
    }
    app.command(name, help=text)(guarded(function_of(list(flags), run, {**extra, **job}, by_preset)))
    return typer.main.get_command(app)


def function_of(
    flags: list[Flag],
    run: Callable[..., None],
    extra: Mapping[str, Any],
    by_preset: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Callable[..., None]:
    """A function with a parameter for each option, panel by panel, as typer reads it; it calls `run` with the flags by
    their settings' dotted names, and with the `extra` parameters."""
    parameters = {parameter_name(flag): flag for flag in flags}
    found: dict[str, Any] = {
        **extra,
        **{name: _annotation(flag, help_text(flag, by_preset)) for name, flag in parameters.items()},
    }
    annotations = dict(sorted(found.items(), key=lambda item: _place(item[1])))

    def command(**given: Any) -> None:
        rest = {name: value for name, value in given.items() if name not in parameters}
        run(settings_of(flags, given), **rest)

    switches = {name for name, annotation in extra.items() if annotation.__origin__ is bool}
    command.__annotations__ = annotations
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty
                if _is_argument(annotation)
                else name not in switches and None,
                annotation=annotation,
            )
            for name, annotation in annotations.items()
        ]
    )
    return command


def _is_argument(annotation: Any) -> bool:
    return isinstance(annotation.__metadata__[0], ArgumentInfo)


def _place(annotation: Any) -> int:
    """Where an option stands: in its panel, and what has none first."""
    panel = annotation.__metadata__[0].rich_help_panel
    return list(PANELS.values()).index(panel) if panel else -1


def settings_of(flags: Iterable[Flag], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a command's parameters stand for, by dotted name; None: not given."""
    return {flag.setting: _read(flag, given[parameter_name(flag)]) for flag in flags}


def parameter_name(flag: Flag) -> str:
    """A flag's name as Python writes it."""
    return flag.name.removeprefix("--").replace("-", "_")


def _annotation(flag: Flag, text: str) -> Any:
    option = typer.Option(
        *flag.declarations, help=text, rich_help_panel=flag.panel, envvar=flag.variable or None
    )
    return Annotated[flag.kind | None, option]


def _read(flag: Flag, value: Any) -> Any:
    """A flag's value as its setting takes it; what is none stays text, for the message about all mistakes."""
    if value is None or not isinstance(flag.default, tuple):
        return value
    parts = [part.strip() for part in str(value).split(",")]
    return tuple(int(part) if re.fullmatch(r"-?\d{1,9}", part) else part for part in parts)
