"""The command line: parse, call one function, print.

Standard output is the answer (a table, or with `--json` one JSON document); everything else goes to standard
error. Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 partial, 130 interrupted.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

import muster
from muster.cluster.errors import ClusterError
from muster.orchestrator.console.say import refuse
from muster.orchestrator.machine.complaints import argument_problems, explained
from muster.orchestrator.machine.outlets import answering
from muster.orchestrator.records.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, Detached
from muster.workers.errors import MusterError, UsageError


class Entry(NamedTuple):
    """A command of the top: the panel of the help that it stands in, and where it is."""

    panel: str
    module: str
    name: str
    "A function of the module that is the command; an app of several; or what makes a command of the words behind it."
    text: str = ""
    "What it says it does; of a function its docstring."


TRAIN, LOOK, PLACES = "Train", "Look", "Data and cluster"
MADE = "command"
COMMANDS = {
    "launch": Entry(TRAIN, "launch", "app", "Train, gather, evaluate and report an ensemble, or one model."),
    "search": Entry(TRAIN, "search", MADE),
    "reproduce": Entry(TRAIN, "reproduce", MADE),
    **{name: Entry(TRAIN, "runs", name) for name in ("resume", "stop")},
    **{
        name: Entry(LOOK, "runs", name)
        for name in ("status", "runs", "logs", "gather", "evaluate", "correlation")
    },
    "doctor": Entry(PLACES, "cluster", "doctor"),
    "data": Entry(PLACES, "data", "app", "Data sets: which there are, whether a copy is whole, packing."),
    "cluster": Entry(PLACES, "cluster", "app", "The local Ray head: up, down, status."),
}


class TopGroup(TyperGroup):
    """Lists all commands and loads the one that is run: their list needs none of what they do."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """What stands for a command in the list."""
        if (entry := COMMANDS.get(cmd_name)) is None:
            return None
        text = entry.text or _docstring(entry.module, cmd_name if entry.name == MADE else entry.name)
        return TyperCommand(cmd_name, help=text, rich_help_panel=entry.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        self.commands = dict.fromkeys(COMMANDS, TyperCommand(None))  # near ones are suggested from it
        name, _, rest = super().resolve_command(ctx, args)
        return name, _loaded(str(name), rest), rest


def _loaded(name: str, words: Sequence[str]) -> Any:
    """The command itself; some have options that depend on the words behind it."""
    entry = COMMANDS[name]
    found = getattr(importlib.import_module(f"muster.orchestrator.cli.{entry.module}"), entry.name)
    if entry.name == MADE:
        return found(words)
    if not isinstance(found, typer.Typer):
        function, found = found, typer.Typer(add_completion=False)
        found.command(name)(function)
    command = typer.main.get_command(found)
    command.help = entry.text or command.help
    return command


def _docstring(module: str, function: str) -> str:
    """Read from the source: loading takes longer than all the rest of a list."""
    tree = ast.parse(Path(__file__).with_name(f"{module}.py").read_text())
    (found,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
    return ast.get_docstring(found) or ""


app = typer.Typer(
    cls=TopGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train ensembles of image embeddings on a Ray cluster.",
)


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
    """Runs the command; its exit code. The one place where errors become messages."""
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
    except (MusterError, ClusterError) as error:
        refuse(error.problems if isinstance(error, UsageError) else [str(error)], error.exit_code, as_json)
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
