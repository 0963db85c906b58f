"""What a run leaves for people: metrics, the curve as a table and as plots, and the report.

It computes no score and decides nothing: it turns what the run found into files of the run folder, and back
into the answer that the command line prints.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from muster.orchestrator.ensemble.compared import references
from muster.orchestrator.ensemble.requests import EnsembleResult
from muster.orchestrator.fleet.budget import images_per_s
from muster.orchestrator.records.scores import gain_text, spread_text
from muster.orchestrator.report import plots
from muster.orchestrator.report.heatmap import heat_map, heat_title
from muster.orchestrator.report.page import DataSet, Reference, ReportData, render_report
from muster.orchestrator.settings.request import LaunchRequest
from muster.orchestrator.vectors.protocols import protocol_text
from muster.orchestrator.vectors.queries import queries_name
from muster.orchestrator.vectors.vectors import member_vectors
from muster.workers.errors import CorruptFileError
from muster.workers.quantities import time_text
from muster.workers.score.combine import correlation
from muster.workers.store.layout import Store
from muster.workers.store.parquet import table_bytes
from muster.workers.store.runs import RunFolder
from muster.workers.task import read_history

if TYPE_CHECKING:
    from muster.orchestrator.fleet.work import Outcome
    from muster.orchestrator.vectors.gather import Gathered
    from muster.workers.task import MemberTask


#: What the floors are, for the report.
FLOORS = (
    "pixels: cosine of the test pictures themselves, shrunk to 32 x 32, each less its mean.",
    "network: cosine of what comes into the network's last layer before it is trained.",
)


def write_results(
    store: Store,
    run: RunFolder,
    result: EnsembleResult,
    outcomes: Sequence[Outcome],
    trained: Collection[str],
    gathered: dict[str, Gathered],
) -> dict[str, str]:
    """Writes metrics.json, curves.parquet, plots and report.html; the paths, by what they are."""
    request, metrics = result.request.launch, result.metrics or {}
    run.write("metrics.json", metrics)
    curve = metrics["splits"]["test"]["curve"]
    rows = [{"split": split, **row} for split, found in metrics["splits"].items() for row in found["curve"]]
    beside = references(store, result)
    others = [(one.name, one.curve) for one in beside]
    files = {
        "curves.parquet": table_bytes(rows),
        "plots/curve.png": plots.curve_png(curve, _title(request), others=others),
        "plots/curve.svg": plots.curve_svg(curve, _title(request), others=others),
    }
    heat = _heat_maps(store, request, result, metrics)
    files |= {f"plots/correlation-test.{kind}": data for kind, data in heat.items()}
    members = member_rows(store, result, outcomes, trained)
    files["report.html"] = _report(
        store, run, result, members, gathered["test"], beside, heat.get("png", b"")
    ).encode()
    for name, data in files.items():
        store.files.put(run / name, data)
    paths = {split: found.folder for split, found in gathered.items()}
    return {
        "gathered": paths["test"],
        **{f"gathered_{split}": path for split, path in paths.items() if split != "test"},
        "report": store.files.path(run / "report.html"),
        "plot_png": store.files.path(run / "plots/curve.png"),
        "plot_svg": store.files.path(run / "plots/curve.svg"),
        "curves": store.files.path(run / "curves.parquet"),
        "queries": store.files.path(run / queries_name("test")),
        "metrics": store.files.path(run / "metrics.json"),
        **{f"heat_{kind}": store.files.path(run / f"plots/correlation-test.{kind}") for kind in heat},
    }


def _title(request: LaunchRequest) -> str:
    what = f"{request.settings.title} on {request.data.dataset}, {request.ensemble.backbone}"
    return f"{what}, {request.settings.caption(request)}"


def member_rows(
    store: Store, result: EnsembleResult, outcomes: Sequence[Outcome], trained: Collection[str]
) -> list[dict[str, Any]]:
    """A row for each member: how it ended, and what its record says."""
    rows = []
    for task, outcome in zip(result.tasks, outcomes, strict=True):
        row: dict[str, Any] = {"index": task.spec.index, "key": task.key}
        row["state"] = outcome.state
        if outcome.in_store:
            row["state"] = "trained" if task.key in trained else "reused"
        done = store.model(task.key).done()
        if done is not None:
            facts = done.facts
            row |= {"epochs": facts["epochs"], "final_loss": facts["loss"], "seconds": facts["seconds"]}
            row |= {"device": facts["device"], "node": facts["node"]}
            row["images_per_s"] = images_per_s(facts)
        if outcome.attempts:
            row["attempts"] = outcome.attempts
        if outcome.message:
            row["message"] = outcome.message
        rows.append(row)
    return rows


def _report(
    store: Store,
    run: RunFolder,
    result: EnsembleResult,
    members: list[dict[str, Any]],
    shards: Gathered,
    beside: Sequence[Reference],
    heat: bytes,
) -> str:
    assert result.prepared is not None  # it has members
    request, metrics, facts = result.request.launch, result.metrics or {}, result.prepared.facts
    splits = [
        {
            "split": name,
            "images": facts[f"{name}_images"],
            "classes": facts[f"{name}_classes"],
            "names": result.prepared.classes_named.get(name, ""),
        }
        for name in ("train", "test")
    ]
    test = metrics["splits"]["test"]
    folder, (losses, troubles) = shards.folder, _losses(store, result.tasks)
    return render_report(
        ReportData(
            name=run.run,
            created=time_text(),
            state=metrics["state"],
            command=shlex.join(["muster", "resume", run.run, "--storage", store.root]),
            request=_flat(request.document()),
            dataset=DataSet(str(facts["dataset"]), str(facts["test_digest"])[:16], splits),
            members=members,
            curve=test["curve"],
            ks=metrics["ks"],
            title=_title(request),
            notes=[*(one.text for one in beside), *_notes(request, metrics)],
            references=beside,
            interval=test.get("interval") or {},
            gain=test.get("gain") or {},
            floors=test.get("floors", ()),
            near_ties=test["near_ties"],
            gathered=shards.shards,
            examples=reading_examples(folder, run.place(queries_name("test")), len(result.members)),
            versions=_versions(store, result.tasks),
            warnings=[*metrics["warnings"], *troubles],
            losses=losses,
            learners=test.get("learners", ()),
            correlation=test.get("correlation") or {},
            heat_map=heat,
        )
    )


def _heat_maps(
    store: Store, request: LaunchRequest, result: EnsembleResult, metrics: dict[str, Any]
) -> dict[str, bytes]:
    """The learners' correlation on the test images as pictures, by kind; none for a model without learners."""
    combination = request.settings.combination
    if combination is None or not metrics["splits"]["test"].get("correlation"):
        return {}
    raw = member_vectors(store, result.tasks[0].key, result.target("test").digest)
    return heat_map(correlation(raw, combination.sizes).table, combination.sizes, heat_title(request))


def reading_examples(folder: str, queries: str, members: int) -> dict[str, str]:
    """How other programs open the shards, and the table of an ensemble's queries."""
    return {
        "DuckDB": f"SELECT image_id, label, embedding FROM '{folder}/*.parquet'",
        "Polars": f"pl.read_parquet('{folder}/*.parquet')",
        "Queries that find a wrong image first, DuckDB": "SELECT image_id, label, nearest[1], nearest_label[1] "
        f"FROM '{queries}' WHERE rank_L{members} > 1",
    }


def _notes(request: LaunchRequest, metrics: dict[str, Any]) -> list[str]:
    test = metrics["splits"]["test"]
    found = [
        f"{test['queries']} queries: {protocol_text(request.data)}; shares in per cent.",
        *filter(None, [spread_text(test["curve"][-1]), gain_text(test.get("gain"))]),
        *(
            ["95 %: over 1,000 draws of as many test classes, with repetition."]
            if test.get("interval")
            else []
        ),
        *(FLOORS if test.get("floors") else ()),
        "A wrong image exactly as similar as the right one counts as nearer.",
        "MAP@R and R-precision as in Musgrave et al. 2020.",
    ]
    if metrics["identity"]["nmi"]:
        means = f"k-means on {test['scored_on']}" if test.get("scored_on") else "faiss k-means"
        found.append(
            f"NMI: {means} with as many clusters as test classes, 5 starts of 100 iterations, arithmetic."
        )
    found += [*request.settings.notes(), *filter(None, [request.settings.fitted(request.preset)])]
    if request.ensemble.weights == "none":
        found.append("Networks start from random weights, not from ImageNet as in the paper.")
    return found


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif value not in ("", None):
            flat[f"{prefix}{name}"] = value
    return flat


def _versions(store: Store, tasks: Sequence[MemberTask]) -> dict[str, Any]:
    """What trained the members: devices, CPUs and versions; several, where they differ."""
    found: dict[str, set[str]] = {}
    for task in tasks:
        done = store.model(task.key).done()
        facts = done.facts if done else {}
        made = {name: facts[name] for name in ("device", "cpu") if name in facts} | facts.get("versions", {})
        for name, value in made.items():
            found.setdefault(name, set()).add(str(value))
    return {name: ", ".join(sorted(values)) for name, values in found.items()}


def _losses(store: Store, tasks: Sequence[MemberTask]) -> tuple[dict[int, list[float | None]], list[str]]:
    """The losses of the members' training, and whose could not be read."""
    found: dict[int, list[float | None]] = {}
    troubles = []
    for task in tasks:
        folder = store.model(task.key)
        try:
            if (done := folder.done()) is not None:
                found[task.spec.index] = [row["loss"] for row in read_history(folder, done)]
        except CorruptFileError as error:  # the weights and the vectors are none the worse for it
            cure = (
                f"Its losses are not shown; delete {store.files.path(folder.name)} to have it trained again."
            )
            troubles.append(f"member {task.spec.index}: {error} {cure}")
    return found, troubles
