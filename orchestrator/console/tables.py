"""How answers look: one source of rows, as a table or as JSON. Nothing is computed here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from muster.cluster.text import printable
from muster.orchestrator.console.screen import out, shown
from muster.orchestrator.records.rows import PaperTable
from muster.workers.score.metrics import RECALL, SHOWN, is_share, title_of


def show_document(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=1, default=str))


def show_rows(rows: Sequence[dict[str, Any]], title: str) -> None:
    """A table whose columns are the keys of all rows; a row may lack some."""
    rows = shown(list(rows), keep="")  # a name that breaks a line could look like another row
    if title:
        out.print(Text(printable(title)), soft_wrap=True)
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        numeric = all(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(name))) for name in names))
    out.print(table)


def show_paths(paths: Mapping[str, str]) -> None:
    """Where an answer's files are, a line each."""
    width = max((len(name) for name in paths), default=0)
    for name, path in shown(paths, keep="").items():
        out.print(Text(f"  {name.replace('_', ' '):{width}} {path}"), soft_wrap=True)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def answer_table(answer: dict[str, Any], message: str) -> None:
    """The curve over L, then where everything is."""
    answer, message = shown(answer), printable(message)
    from muster.orchestrator.console.progress import print_curve
    from muster.orchestrator.records.scores import gain_text, percent, recall_ks, spread_text

    floors = answer.get("floors", ())
    print_curve(out, answer["curve"], recall_ks(answer["curve"]), answer.get("interval"), floors)
    out.print()
    if answer.get("learners"):
        shown_too = ("learner", "dimension", *(metric.name for metric in SHOWN))
        rows = [
            {
                title_of(key): percent(row[key]) if is_share(key) else row[key]
                for key in row
                if key in shown_too or key.startswith(RECALL)
            }
            for row in answer["learners"]
        ]
        show_rows(rows, title="Each learner alone, in percent")
    if found := answer.get("correlation"):
        alike = ", ".join(
            f"{percent(found[name])} % {name.replace('_', ' ')}"
            for name in ("between_learners", "between_dimensions")
        )
        out.print(Text(f"Correlation: {alike}.\n"), soft_wrap=True)
    out.print(Text(message), soft_wrap=True)
    for text in (answer.get("protocol"), spread_text(answer["curve"][-1]), gain_text(answer.get("gain"))):
        if text:
            out.print(Text(text[0].upper() + text[1:].rstrip(".") + "."), soft_wrap=True)
    _show_warnings(answer)
    show_paths(answer.get("paths", {}))


def _show_warnings(answer: dict[str, Any]) -> None:
    for text in answer.get("warnings", ()):
        out.print(Text(f"warning: {text}", style="yellow"), soft_wrap=True)


def search_table(answer: dict[str, Any], message: str) -> None:
    """The trials, the Pareto front, what is recommended and how to get it."""
    answer, message = shown(answer), printable(message)
    metric, split = answer["chosen_on"]["metric"], answer["chosen_on"]["split"]
    hidden = {"message", "reused", "trained"}
    if all(row["L"] <= 1 for row in answer["trials"]):  # one model each
        hidden |= {"L", "best_L", f"best_{split}_{metric}"}
    rows = [{key: value for key, value in row.items() if key not in hidden} for row in answer["trials"]]
    show_rows([_in_percent(row) for row in rows], title=f"Trials, chosen on {answer['chosen_on']['text']}")
    out.print()
    fields = [key for key in answer["pareto"][0] if key not in {metric, f"test_{metric}"}]
    front = [
        {
            **{key: row[key] for key in fields},
            f"{split}_{metric}": row[metric],
            f"test_{metric}": row[f"test_{metric}"],
        }
        for row in answer["pareto"]
    ]
    show_rows([_in_percent(row) for row in front], title="Not beaten in quality, networks and dimensions")
    out.print()
    if floors := answer.get("floors"):
        kept = {"floor", f"{split}_{metric}", f"test_{metric}"}
        rows = [{key: value for key, value in row.items() if key in kept} for row in floors]
        show_rows([_in_percent(row) for row in rows], title="Without any training")
        out.print()
    for text in (message, answer["recommended"]["training"]["text"]):
        out.print(Text(text), soft_wrap=True)
    out.print(Text(f"  {answer['recommended']['command']}"), soft_wrap=True)
    _show_warnings(answer)
    show_paths(answer["paths"])


def reproduce_table(answer: dict[str, Any], message: str, layout: Callable[[Any], PaperTable]) -> None:
    """The papers' tables with what was measured, the figures' files, and what it took; `layout` shapes a table."""
    answer, message = shown(answer), printable(message)
    if answer["rehearsal"]:
        out.print(Text(answer["rehearsal"], style="yellow"), soft_wrap=True)
    _show_warnings(answer)
    for target in answer["targets"]:
        out.print()
        out.print(Text(target["title"], style="bold"), soft_wrap=True)
        if target["kind"] == "figure":
            for line in target["files"] or [target["trouble"]]:
                out.print(Text(f"  {line}"), soft_wrap=True)
            for sheet in target.get("sheets", []):
                out.print(Text(f"{sheet['dataset']}: {' '.join(sheet['finding'])}"))
                out.print(Text(sheet["note"], style="yellow"), end="\n" if sheet["note"] else "")
            continue
        table = layout(target)
        for block in table.blocks:
            _paper_table(block)
        for line in table.notes:
            out.print(Text(line, style="dim"))
    out.print()
    out.print(Text(message), soft_wrap=True)
    show_paths(answer["paths"])


def _paper_table(block: dict[str, Any]) -> None:
    """One data set's part of a paper's table, in per cent: at most 80 columns wide."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column(block["title"], overflow="fold", max_width=20)
    table.add_column("", style="dim")
    for name in block["columns"]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in block["rows"]:
        refs = "".join(f"[{n}]" for n in row["refs"])
        for n, (kind, cells) in enumerate(row["lines"]):
            style = "bold" if kind == "measured" else ""
            label = Text(row["label"] if n == 0 else "")
            table.add_row(label, Text(f"{kind} {refs}" if kind == "published" else kind), *cells, style=style)
    out.print(table)
    for note in block["notes"]:
        out.print(Text(f"  {note}", style="yellow"), soft_wrap=True)


def _in_percent(row: dict[str, Any]) -> dict[str, Any]:
    from muster.orchestrator.records.scores import percent

    return {
        key.replace(RECALL, "R@"): percent(value) if is_share(key) else value for key, value in row.items()
    }


def status_table(status: dict[str, Any]) -> None:
    """A run's state and its members."""
    status = shown(status)
    counts = f"{status['done']} of {status['asked']} members, heard of {status['heard'] or 'never'}"
    out.print(Text(f"{status['run']}: {status['state']}, {counts}"))
    if text := status["message"] or status["plan"]:  # once it has ended, what was planned is history
        out.print(Text(text), soft_wrap=True)
    for text in status.get("gpus", ()):
        out.print(Text(text), soft_wrap=True)
    if status["trials"]:
        names = dict.fromkeys(name for row in status["trials"] for name in row if name != "message")
        rows = [{name: row.get(name) for name in (*names, "message")} for row in status["trials"]]
        show_rows([_in_percent(row) for row in rows], title="")
        out.print()
    if status["ensembles"]:
        show_rows(status["ensembles"], title="")
        out.print()
    lost = any(member["state"] == "lost" for member in status["members"])
    several = len({member.get("D") for member in status["members"]}) > 1
    rows = [
        {
            "member": member["index"],
            **({"D": member.get("D")} if several else {}),
            "state": member["state"],
            "epoch": f"{member.get('epoch', 0)}/{member.get('epochs', '?')}" if "epoch" in member else "-",
            "loss": member.get("loss"),
            "images_per_s": member.get("images_per_s"),
            "node": member.get("node"),
            **({"message": member.get("message")} if lost else {}),
        }
        for member in status["members"]
    ]
    show_rows(rows, title="")
