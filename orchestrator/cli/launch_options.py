"""The options of `muster launch METHOD`, made from the settings' own fields: each is said once, there."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from muster.orchestrator.cli.options import Address, AsJson, Detach
from muster.orchestrator.methods.base import Frontend
from muster.orchestrator.methods.flags import PANELS, Flag, flags_of, help_text, preset_values
from muster.orchestrator.methods.registry import FRONTENDS

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


def command_of(
    flags: Iterable[Flag],
    run: Callable[..., None],
    frontend: Frontend,
    extra: Mapping[str, Any] | None = None,
) -> Callable[..., None]:
    """A function with a parameter for each flag, as typer reads it.

    It calls `run` with the flags by their settings' dotted names (None: not given), then `config`, `set_`, `address`,
    `detach`, `dry_run`, `as_json`, and the `extra` parameters (annotations by name, None by default).
    """
    panels, defaults = list(PANELS.values()), preset_values(frontend)
    flags = sorted(flags, key=lambda flag: panels.index(flag.panel))
    parameters = {parameter_name(flag): flag for flag in flags}
    annotations: dict[str, Any] = {
        **(extra or {}),
        **{name: _annotation(flag, help_text(flag, defaults)) for name, flag in parameters.items()},
        "config": Config,
        "set_": Set,
        "address": _in_run(Address),
        "detach": _in_run(Detach),
        "dry_run": DryRun,
        "as_json": _in_run(AsJson),
    }

    def command(**given: Any) -> None:
        rest = {name: value for name, value in given.items() if name not in parameters}
        run(_settings(flags, given), **rest)

    switches = {"detach", "dry_run", "as_json"}
    command.__annotations__ = annotations
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=name not in switches and None,
                annotation=annotation,
            )
            for name, annotation in annotations.items()
        ]
    )
    return command


def settings_of(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a command's parameters stand for, by dotted name; None: not given."""
    return _settings(flags_of(FRONTENDS[method]), given)


def _settings(flags: Iterable[Flag], given: Mapping[str, Any]) -> dict[str, Any]:
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
