"""What the command line offers: commands, flags, their defaults and the variables that they read."""

from __future__ import annotations

from typing import Any

import typer


def surface() -> dict[str, Any]:
    """For each command its parameters: flags, whether it is a switch, may be repeated or must be given, its default."""
    from muster.orchestrator.cli.app import app

    found: dict[str, Any] = {}
    _walk(typer.main.get_command(app), "muster", found)
    return found


def _walk(command: Any, name: str, found: dict[str, Any]) -> None:
    group = hasattr(command, "list_commands")
    for child in sorted(command.list_commands(None)) if group else []:
        _walk(command.resolve_command(None, [child])[1], f"{name} {child}", found)
    if not group:
        found[name] = sorted((_parameter(item) for item in command.params), key=lambda item: item["flags"])


def _parameter(item: Any) -> dict[str, Any]:
    return {
        "flags": sorted([*item.opts, *item.secondary_opts]),
        "argument": item.param_type_name == "argument",
        "switch": bool(getattr(item, "is_flag", False)),
        "repeated": bool(item.multiple),
        "required": bool(item.required),
        "variable": item.envvar,
    }
