"""The command line: parse, call one function, print.

Standard output is the answer (a table, or with `--json` one JSON document); everything else goes to standard
error. Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 partial, 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import muster
from muster.orchestrator.cli import cluster as commands_cluster
from muster.orchestrator.cli import data as commands_data
from muster.orchestrator.cli import reproduce as commands_reproduce
from muster.orchestrator.cli import runs as commands_run
from muster.orchestrator.cli import search as commands_search
from muster.orchestrator.cli.launch import LaunchGroup
from muster.orchestrator.console.say import refuse
from muster.orchestrator.machine.complaints import argument_problems, explained
from muster.orchestrator.machine.outlets import answering
from muster.orchestrator.records.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, Detached
from muster.workers.errors import UsageError

MADE = {"search": commands_search.command, "reproduce": commands_reproduce.command}


class TopGroup(TyperGroup):
    """Lists first what most people come for; groups would stand behind all commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=lambda name: name != "launch")

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is run; options that come from settings are made only now: the list of commands needs none
        of them."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, MADE[name](rest) if name in MADE else command, rest


app = typer.Typer(
    cls=TopGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train ensembles of image embeddings on a Ray cluster.",
)
TRAIN, LOOK, PLACES = "Train", "Look", "Data and cluster"
launch = typer.Typer(
    cls=LaunchGroup,
    no_args_is_help=True,
    help="Train, gather, evaluate and report an ensemble, or one model.",
)
cluster = typer.Typer(no_args_is_help=True, help="The local Ray head: up, down, status.")
cluster.command("up")(commands_cluster.cluster_up)
cluster.command("down")(commands_cluster.cluster_down)
cluster.command("status")(commands_cluster.cluster_status)
data = typer.Typer(no_args_is_help=True, help="Data sets: which there are, whether a copy is whole, packing.")
data.command("list")(commands_data.data_list)
data.command("check")(commands_data.data_check)
data.command("pack")(commands_data.data_pack)

app.add_typer(launch, name="launch", rich_help_panel=TRAIN)
for panel, commands in {
    TRAIN: (commands_search.search, commands_reproduce.reproduce, commands_run.resume, commands_run.stop),
    LOOK: (
        commands_run.status,
        commands_run.runs,
        commands_run.logs,
        commands_run.gather,
        commands_run.evaluate,
        commands_run.correlation,
    ),
}.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(data, name="data", rich_help_panel=PLACES)
app.add_typer(cluster, name="cluster", rich_help_panel=PLACES)
app.command(rich_help_panel=PLACES)(commands_cluster.doctor)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"muster {muster.__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Say which muster this is, and exit.", callback=_say_version, is_eager=True
        ),
    ] = False,
) -> None:
    """What stands before any command."""


def main() -> None:
    """Entry point, once `muster.__main__` has seen to signals and links."""
    with answering():
        sys.exit(_answered(sys.argv[1:]))


def _answered(words: list[str]) -> int:
    """Runs the command; its exit code. The one place where what the system refuses becomes a message."""
    as_json = "--json" in words
    try:
        if problems := argument_problems(words):
            raise UsageError(problems)
        code = _run(as_json)
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt  # which the parser had caught
        return code
    except Detached:
        return EXIT_INTERRUPTED
    except UsageError as error:
        refuse(error.problems, error.exit_code, as_json)
        return error.exit_code
    except KeyboardInterrupt:
        refuse(["Interrupted."], EXIT_INTERRUPTED, as_json)
        return EXIT_INTERRUPTED
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        if (text := explained(error)) is None:
            raise
        refuse([text], UsageError.exit_code, as_json)
        return UsageError.exit_code


def _run(as_json: bool) -> int:
    if not as_json:
        try:
            app()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        return 0
    try:
        return int(app(standalone_mode=False) or 0)
    except typer.Abort:
        refuse(["Aborted."], EXIT_FAILED, as_json=True)
        return EXIT_FAILED
    except Exception as error:
        # The parser's errors have it, in click and in the copy of click that newer typers bring.
        if not hasattr(error, "format_message"):
            raise
        code = int(getattr(error, "exit_code", UsageError.exit_code))
        refuse([error.format_message()], code, as_json=True)
        return code
