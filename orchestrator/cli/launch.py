"""`muster launch METHOD`: from flags to a request. Its commands are made when they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from muster.orchestrator.cli.made import FROM_FILES, command_of
from muster.orchestrator.client.session import go
from muster.orchestrator.methods.flags import flags_of, preset_values
from muster.orchestrator.methods.loading import check_method, load
from muster.orchestrator.methods.registry import FRONTENDS


class LaunchGroup(TyperGroup):
    """A command for each method, made when it is wanted: the help of all commands needs none of their options."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(FRONTENDS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        check_method(args[0])
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in FRONTENDS and cmd_name not in self.commands:
            self.commands[cmd_name] = _command(cmd_name)
        return self.commands.get(cmd_name)


def _command(method: str) -> Any:
    frontend = FRONTENDS[method]

    def run(
        settings: dict[str, Any],
        *,
        config: Path | None,
        set_: list[str] | None,
        address: str | None,
        detach: bool,
        dry_run: bool,
        as_json: bool,
    ) -> None:
        request = load(config, {**settings, "method": method}, set_ or [])
        go(request, address, detach, dry_run, as_json)

    return command_of(method, frontend.help, flags_of(frontend), run, FROM_FILES, preset_values(frontend))


app = typer.Typer(cls=LaunchGroup, no_args_is_help=True, add_completion=False)


@app.callback()
def _group() -> None:
    """Its commands are made, and none is registered."""
