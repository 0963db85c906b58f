"""A figure's page for one data set: the drawing, the numbers behind it, and what they show. The owner of its files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muster.orchestrator.ensemble.requests import EnsembleResult
from muster.workers.errors import CorruptFileError, MusterError
from muster.workers.store import documents
from muster.workers.store.layout import Store
from muster.workers.store.records import parse_json, to_json

CAPTIONS = "captions.json"
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One figure of one data set. `rows`, all with the same names, become the CSV."""

    dataset: str
    title: str
    caption: str
    "What is drawn, and how it was computed."
    finding: tuple[str, ...]
    "What it shows: two sentences made from the numbers."
    note: str
    'What must stand on it: that it is a rehearsal, or lacks members; "" if nothing.'
    svg: bytes
    png: bytes
    rows: Sequence[Row]


def write(
    store: Store, folder: str, figure: str, sheets: Sequence[Sheet], lacking: Sequence[str]
) -> list[str]:
    """Puts the sheets' files below `folder`, a name in the store, and the captions last; their names.

    `figure` begins the files' names: dreml-fig3-glyphs.svg. `lacking` says which data sets could not be drawn.
    """
    written, captions = [], []
    for sheet in sheets:
        files = {"svg": sheet.svg, "png": sheet.png, "csv": as_csv(sheet.rows)}
        names = {kind: f"{figure}-{sheet.dataset}.{kind}" for kind in files}
        for kind, data in files.items():
            store.files.put(f"{folder}/{names[kind]}", data)
            written.append(f"{folder}/{names[kind]}")
        words = {name: getattr(sheet, name) for name in ("dataset", "title", "caption", "finding", "note")}
        captions.append({**words, "files": names})
    store.files.put(f"{folder}/{CAPTIONS}", to_json({"sheets": captions, "lacking": list(lacking)}))
    return [*written, f"{folder}/{CAPTIONS}"]


def captions(store: Store, folder: str) -> list[dict[str, Any]]:
    """Of each data set that `write` put there: dataset, title, caption, finding, note, and files by kind."""
    data = store.files.find(f"{folder}/{CAPTIONS}")
    try:
        found: list[dict[str, Any]] = [] if data is None else parse_json(data, documents.CAPTIONS)["sheets"]
    except ValueError as error:
        raise CorruptFileError(
            f"{store.files.path(f'{folder}/{CAPTIONS}')} is damaged: {error}. Delete it, and draw it again."
        ) from error
    return found


def as_csv(rows: Sequence[Row]) -> bytes:
    """Rows of the same names as CSV, shares and similarities with six digits."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{v:.6f}" if isinstance(v, float) else v for key, v in row.items()})
    return out.getvalue().encode()


def drawable(
    figure: str, got: Mapping[str, EnsembleResult]
) -> tuple[dict[str, list[EnsembleResult]], list[str]]:
    """The data sets that have members, with those of their ensembles that have, and a sentence for each that has none.

    Raises MusterError if there is nothing to draw from at all.
    """
    by_dataset: dict[str, list[EnsembleResult]] = {}
    for one in got.values():
        by_dataset.setdefault(one.request.launch.data.dataset, []).append(one)
    found = {name: [one for one in mine if one.members] for name, mine in by_dataset.items()}
    lacking = [
        f"{name}: {'; '.join(dict.fromkeys(one.trouble or 'no member was trained' for one in mine))}."
        for name, mine in by_dataset.items()
        if not found[name]
    ]
    if not any(found.values()):
        causes = " ".join(lacking) or "it has no ensembles."
        raise MusterError(
            f"{figure} can't be drawn. {causes} Run the same command again once that is mended."
        )
    return {name: mine for name, mine in found.items() if mine}, lacking


def note_of(mine: Sequence[EnsembleResult]) -> str:
    """What must stand on a figure made of these: a rehearsal's mark, and which ensembles lack members."""
    notes = list(dict.fromkeys(one.request.note for one in mine if one.request.note))
    for one in mine:
        if not one.members:
            notes.append(f"Without {one.request.name}: {one.trouble or 'no member was trained'}.")
        elif len(one.members) < len(one.tasks):
            notes.append(f"{one.request.name}: {len(one.members)} of {len(one.tasks)} members.")
    return " ".join(notes)


def counted(count: int, what: str) -> str:
    """How many, for people: "1 member", "2 members"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def listed(parts: Sequence[str]) -> str:
    """Parts of a sentence as "a, b and c"."""
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)
