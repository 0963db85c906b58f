"""A reproduction's tables as JSON, CSV, Markdown and HTML, and as lines for the terminal: one source of rows.

Below each row of the paper stand what it published, what was measured, the spread over seeds and the difference.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from muster.orchestrator.records.rows import PaperTable
from muster.workers.datasets import PUBLISHED
from muster.workers.store.records import to_json

Answer = Mapping[str, Any]
KINDS = ("published", "measured", "spread", "difference")
DETAILS = ("members", "seeds", "recipe", "precision", "device", "device_hours", "protocol")
SPREAD = "Spread: standard deviation over the seeds (n - 1)."
CSV_COLUMNS = (
    "target", "place", "row", "label", "metric", *KINDS, "source", *DETAILS, "trouble", "not_compared", "command",
    "rehearsal",
)  # fmt: skip


def files(answer: Answer) -> dict[str, bytes]:
    """table.json, .csv, .md and .html of all tables of an answer."""
    tables = [target for target in answer["targets"] if target["kind"] == "table"]
    shared = ("run", "state", "rehearsal", "scale", "unit", "warnings", "models", "device_hours", "resume")
    document = {**{name: answer[name] for name in shared}, "tables": tables}
    return {
        "table.json": to_json(document),
        "table.csv": _csv(answer, tables).encode(),
        "table.md": _markdown(answer, tables).encode(),
        "table.html": _html(answer, tables).encode(),
    }


def metric_name(metric: str) -> str:
    """As the papers write it: R@1, NMI."""
    return metric.upper().replace("RECALL_AT_", "R@")


def shown(kind: str, value: float | None) -> str:
    """A number of a cell with one decimal; a difference with its sign; "" if there is none."""
    if value is None:
        return ""
    return f"{value:+.1f}" if kind == "difference" else f"{value:.1f}"


def paper_table(table: Answer) -> PaperTable:
    """A table and what stands below it: sources, notes, how the spread is meant."""
    sources = enumerate(list_sources(table), 1)
    notes = [*(f"[{n}] {source}" for n, source in sources), *table["notes"], SPREAD]
    return PaperTable(blocks(table), notes)


def blocks(table: Answer) -> list[dict[str, Any]]:
    """A table's parts, one for each data set: `title`, `columns`, `rows`, and the rows' `notes`.

    A row has `label`, `lines` (kind and cells; only those that say anything), `refs` (numbers of its sources),
    `note` (trouble, or members that are missing) and the row itself.
    """
    sources = list_sources(table)
    found = []
    for place in dict.fromkeys(row["place"] for row in table["rows"]):
        mine = [row for row in table["rows"] if row["place"] == place]
        columns = [metric_name(cell["metric"]) for cell in mine[0]["cells"]]
        rows = [_block_row(row, sources) for row in mine]
        found.append(
            {"title": place_title(place), "columns": columns, "rows": rows, "notes": _shared_notes(rows)}
        )
    return found


def _block_row(row: Answer, sources: Sequence[str]) -> dict[str, Any]:
    lines = [(kind, [shown(kind, cell[kind]) for cell in row["cells"]]) for kind in KINDS]
    told = [(kind, cells) for kind, cells in lines if any(cells)]
    refs = sorted({sources.index(cell["source"]) + 1 for cell in row["cells"] if cell["source"]})
    return {"label": row["label"], "lines": told or [("published", [""] * len(row["cells"]))], "refs": refs,
            "note": note_of(row), "row": row}  # fmt: skip


def note_of(row: Answer) -> str:
    """What a reader must know before trusting a row's numbers."""
    done, _, asked = row["members"].partition(" of ")
    partial = f"partial: {row['members']} members" if done != asked else ""
    return "; ".join(text for text in (row["trouble"] or partial, row.get("not_compared", "")) if text)


def _shared_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The notes of a block's rows; rows that share one are told together."""
    notes = dict.fromkeys(row["note"] for row in rows if row["note"])
    return [f"{', '.join(row['label'] for row in rows if row['note'] == note)}: {note}" for note in notes]


def list_sources(table: Answer) -> list[str]:
    """The sources of a table's published cells, in the order in which they appear."""
    cells = [cell for row in table["rows"] for cell in row["cells"]]
    return list(dict.fromkeys(cell["source"] for cell in cells if cell["source"]))


def place_title(place: str) -> str:
    """A data set's name as the papers have it."""
    name, _, test_list = place.partition("-")
    title = PUBLISHED[name].about.title if name in PUBLISHED else name
    return f"{title}, {test_list} test list" if test_list else title


def measured_rows(table: Answer) -> list[Answer]:
    """Rows with anything to tell of how they were trained."""
    return [row for row in table["rows"] if row["recipe"]]


def detail(row: Answer, name: str) -> str:
    """One of DETAILS as text."""
    value = row[name]
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _csv(answer: Answer, tables: Sequence[Answer]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for table in tables:
        for row in table["rows"]:
            for cell in row["cells"]:
                writer.writerow({**row, **cell, "rehearsal": answer["rehearsal"]})
    return out.getvalue()


def _markdown(answer: Answer, tables: Sequence[Answer]) -> str:
    parts = [f"**{answer['rehearsal']}**"] if answer["rehearsal"] else []
    parts += [f"* {warning}" for warning in answer["warnings"]]
    for table in tables:
        parts.append(f"## {table['title']}")
        if answer["rehearsal"]:
            parts.append(f"Rehearsal at scale {answer['scale']:g}. In per cent.")
        parts += [_markdown_block(block) for block in blocks(table)]
        sources = list_sources(table)
        parts.append("\n".join(f"[{n}] {source}.  " for n, source in enumerate(sources, 1)))
        parts.append("\n".join(f"* {note}" for note in [*table["notes"], SPREAD]))
        if rows := measured_rows(table):
            cells = [[row["place"], row["label"], *(detail(row, name) for name in DETAILS)] for row in rows]
            parts.append(
                _markdown_table(["data set", "row", *(name.replace("_", "-") for name in DETAILS)], cells)
            )
            commands = "\n".join(dict.fromkeys(row["command"] for row in rows))
            parts.append(f"The rows' launches, with their first seed:\n\n```\n{commands}\n```")
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_block(block: Mapping[str, Any]) -> str:
    cells = []
    for row in block["rows"]:
        refs = "".join(f"[{n}]" for n in row["refs"])
        for n, (kind, values) in enumerate(row["lines"]):
            label = row["label"] if n == 0 else ""
            cells.append([label, f"{kind} {refs}".strip() if kind == "published" else kind, *values])
    notes = "".join(f"\n* {note}" for note in block["notes"])
    table = _markdown_table(["", "", *block["columns"]], cells)
    return f"### {block['title']}\n\n{table}" + (f"\n{notes}" if notes else "")


def _markdown_table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    escaped = [[str(cell).replace("|", "\\|") for cell in line] for line in cells]
    rows = [list(head), ["---"] * len(head), *escaped]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _html(answer: Answer, tables: Sequence[Answer]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    env = Environment(
        loader=PackageLoader("muster.orchestrator.jobs.reproduce.tables"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["detail"] = detail
    return env.get_template("table.html.j2").render(
        answer=answer,
        tables=[
            {
                **table,
                "blocks": blocks(table),
                "sources": list_sources(table),
                "measured": measured_rows(table),
            }
            for table in tables
        ],
        details=DETAILS,
        spread=SPREAD,
    )
