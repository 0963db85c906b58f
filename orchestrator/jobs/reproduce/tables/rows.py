"""A table's rows: what is published beside what was measured. The one source of the terminal's table and of
every file. All scores are in per cent; nothing is scored here.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from muster.orchestrator.ensemble.floors import better_floors
from muster.orchestrator.ensemble.requests import EnsembleResult
from muster.orchestrator.fleet.budget import taken
from muster.orchestrator.jobs.reproduce.request import ReproduceOptions
from muster.orchestrator.jobs.reproduce.tables import published
from muster.orchestrator.jobs.reproduce.tables.papers import Place, Row, Table, Want, places
from muster.orchestrator.methods.command import launch_command
from muster.orchestrator.records.scores import near_tie_text
from muster.orchestrator.settings.request import LaunchRequest
from muster.orchestrator.settings.resources import Resources
from muster.orchestrator.vectors.protocols import draws_of, protocol_text
from muster.workers import datasets
from muster.workers.store.layout import Store

Answer = dict[str, Any]
#: How a row was trained.
FACTS = ("recipe", "precision", "device", "device_hours", "protocol", "command")

#: What is found without any training (`floors.made_floors`), by the name of the ensemble that it stands beside.
FloorScores = dict[str, list[dict[str, Any]]]


def table_answer(
    options: ReproduceOptions,
    table: Table,
    got: Mapping[str, EnsembleResult],
    floors: FloorScores,
    store: Store,
) -> dict[str, Any]:
    """The whole table: `rows`, one for each row and data set (`place`), those without training last; and the notes."""
    wants = table.wants(options)
    rows = []
    for place in places(options.datasets):
        for row in table.chosen_rows(options):
            mine = [want for want in wants if want.row is row and want.place == place]
            found = _row(table, row, place, mine, got, floors, store)
            if mine or any(cell["source"] for cell in found["cells"]):  # else it says nothing there
                rows.append(found)
        here = [got[want.name] for want in wants if want.place == place and want.name in got]
        rows += _floor_rows(table, place, here, floors)
    return {
        "target": table.name,
        "kind": "table",
        "title": table.title,
        "state": _state(rows),
        "notes": [*table.notes, *_clusterings(got[want.name] for want in wants if want.name in got)],
        "rows": rows,
    }


def _clusterings(scored: Iterable[EnsembleResult]) -> list[str]:
    """A note where NMI is not of faiss."""
    tests = [one.metrics["splits"]["test"] for one in scored if one.metrics is not None]
    clustered = [test for test in tests if test["curve"][-1].get("nmi") is not None]
    devices = dict.fromkeys(test["scored_on"] for test in clustered if test.get("scored_on"))
    return [f"NMI on {', '.join(devices)}: k-means of muster, with these settings."] if devices else []


def _state(rows: Sequence[Answer]) -> str:
    trained = [row for row in rows if row["method"]]
    whole = sum(row["complete"] for row in trained)
    return "done" if whole == len(trained) else f"partial {whole} of {len(trained)} rows"


def _row(
    table: Table,
    row: Row,
    place: Place,
    wants: Sequence[Want],
    got: Mapping[str, EnsembleResult],
    floors: FloorScores,
    store: Store,
) -> Answer:
    found = [got[want.name] for want in wants if want.name in got]
    measured = [one for one in found if one.metrics is not None]
    troubles = [want.refusal for want in wants if want.refusal]
    troubles += [one.trouble for one in found if one.trouble]
    troubles += [text for one in measured if (text := _near_ties(one))]
    troubles += [text for one in measured if (text := _no_better(one, floors))]
    asked, done = (sum(len(part) for part in parts) for parts in _members(found))
    return {
        "target": table.name,
        "place": place.name,
        "dataset": place.dataset,
        "row": row.name,
        "label": row.label,
        "method": row.method if wants else "",
        "complete": bool(wants) and len(measured) == len(wants) and done == asked,
        "seeds": len(measured),
        "members": f"{done} of {asked}" if asked else "",
        "trouble": "; ".join(dict.fromkeys(troubles)),
        "not_compared": _not_compared(measured),
        **_facts(measured, store),
        "cells": _cells(table, row, place, measured),
    }


def _floor_rows(
    table: Table, place: Place, here: Sequence[EnsembleResult], floors: FloorScores
) -> list[Answer]:
    """A row for the pixels of a data set, and for each network before its training."""
    found: dict[str, Mapping[str, Any]] = {}
    for one in here:
        for floor in floors.get(one.request.name, ()):
            of = "pixels" if floor["name"] == "pixels" else one.request.launch.ensemble.backbone
            found.setdefault(of, floor["curve"][-1])
    metrics = table.metrics(recall_at(place))
    return [
        {
            "target": table.name,
            "place": place.name,
            "dataset": place.dataset,
            "row": f"untrained {of}",
            "label": f"no training: {of}",
            "method": "",
            "complete": True,
            "seeds": 1,
            "members": "",
            "trouble": "",
            "not_compared": "",
            **dict.fromkeys(FACTS),
            "cells": [_floor_cell(metric, scores) for metric in metrics],
        }
        for of, scores in found.items()
    ]


def _floor_cell(metric: str, scores: Mapping[str, Any]) -> Answer:
    value = scores.get(metric)
    measured = None if value is None else 100 * value
    absent = dict.fromkeys(("published", "source", "spread", "difference"))
    return {
        "metric": metric,
        **absent,
        "measured": measured,
        "by_seed": [] if measured is None else [measured],
    }


def _no_better(one: EnsembleResult, floors: FloorScores) -> str:
    assert one.metrics is not None
    beside = {"curve": one.metrics["splits"]["test"]["curve"], "floors": floors.get(one.request.name, ())}
    names = better_floors(beside, one.request.launch)
    return f"no better than {names}" if names else ""


def _members(found: Sequence[EnsembleResult]) -> tuple[list[Any], list[Any]]:
    return [one.tasks for one in found], [one.members for one in found]


def _facts(measured: Sequence[EnsembleResult], store: Store) -> Answer:
    """How the row was trained, from its members' records."""
    if not measured:
        return dict.fromkeys(FACTS)
    request = measured[0].request.launch
    members = {task.key: task for one in measured for task in one.members}
    records = [done.facts for key in members if (done := store.model(key).done()) is not None]
    return {
        "recipe": recipe_in_words(request),
        "precision": ", ".join(sorted({task.spec.precision for task in members.values()})),
        "device": ", ".join(sorted({str(facts["device"]) for facts in records})),
        "device_hours": taken(store, members.values(), request.resources) / 3600,
        "protocol": protocol_text(request.data),
        "command": launch_command(dataclasses.replace(request, resources=Resources(), name="")),
    }


def recipe_in_words(request: LaunchRequest) -> str:
    """What was trained and how, in one line, from the settings themselves."""
    ensemble, recipe, view = request.ensemble, request.recipe, request.view
    start = [
        f"{ensemble.backbone} from {ensemble.weights if ensemble.weights != 'none' else 'random weights'}"
    ]
    input_ = [
        f"{recipe.resize} crop {recipe.crop}",
        f"test {view.resize} crop {view.crop}",
        *([f"first {request.data.train_classes} classes"] if request.data.train_classes else []),
    ]
    return ", ".join([*start, *request.settings.in_words(request), *input_])


def _cells(table: Table, row: Row, place: Place, measured: Sequence[EnsembleResult]) -> list[Answer]:
    """A cell for each metric: published with its source, measured mean and spread, difference in points."""
    found = []
    comparable = not _not_compared(measured)
    for metric in table.metrics(recall_at(place)):
        printed = published.cell(table.name, row.name, place.name, metric)
        values = [100 * value for one in measured if (value := _score(one, metric)) is not None]
        mean = statistics.mean(values) if values else None
        found.append(
            {
                "metric": metric,
                "published": printed.value if printed else None,
                "source": str(printed.source) if printed else None,
                "measured": mean,
                "spread": statistics.stdev(values) if len(values) > 1 else None,
                "difference": mean - printed.value if printed and mean is not None and comparable else None,
                "by_seed": values,
            }
        )
    return found


def _not_compared(measured: Sequence[EnsembleResult]) -> str:
    """Why what was measured can't be set against what was published, and what was measured then; else ""."""
    launches = [one.request.launch for one in measured]
    causes = {
        "another protocol than the paper's": any(draws_of(launch.data) for launch in launches),
        "a rehearsal": any(one.request.note for one in measured),
        "not the published images": any(one.prepared and one.prepared.differences for one in measured),
    }
    if not any(causes.values()):
        return ""
    shape = launches[0].settings.in_words(launches[0])[:2]
    images = sorted({int(str(one.prepared.facts["test_images"])) for one in measured if one.prepared})
    trained = [*shape, f"{' or '.join(f'{count:,}' for count in images)} test images"]
    return f"{' and '.join(cause for cause, here in causes.items() if here)}: {', '.join(trained)}"


def _near_ties(one: EnsembleResult) -> str:
    assert one.metrics is not None
    test = one.metrics["splits"]["test"]
    return near_tie_text(test["curve"], test.get("queries", 0))


def _score(one: EnsembleResult, metric: str) -> float | None:
    assert one.metrics is not None
    value = one.metrics["splits"]["test"]["curve"][-1].get(metric)
    return None if value is None else float(value)


def recall_at(place: Place) -> tuple[int, ...]:
    """The K of recall@K that are usual for a data set; no copy of it is needed."""
    return datasets.open_data_set(place.dataset, ".").traits.recall_at
