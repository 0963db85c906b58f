"""One reproduction, from request to tables and figures: pack, plan, train under one fleet, evaluate, answer.

Every row and panel asks for ensembles; all their members are trained by one fleet, the lowest index first, those
that two share once. Whatever one ask lacks, data or members, is told in its own row and stops no other.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import ray

from muster.orchestrator.ensemble.plan import store_weights
from muster.orchestrator.fleet.capacity import (
    Amounts,
    check_places_for,
    cluster_resources,
    common_precision,
    gpu_share,
)
from muster.orchestrator.fleet.client import FleetClient
from muster.orchestrator.fleet.scheduler import FleetSettings
from muster.orchestrator.jobs.reproduce.answer import answer_of, end_of, write_answer
from muster.orchestrator.jobs.reproduce.ensembles import Got
from muster.orchestrator.jobs.reproduce.plan import (
    Cost,
    Draft,
    Work,
    check_data,
    cost_of,
    draft,
    plan_asks,
    prepare_asks,
)
from muster.orchestrator.jobs.reproduce.request import ReproduceOptions
from muster.orchestrator.jobs.reproduce.scores import score_asks
from muster.orchestrator.jobs.reproduce.targets import Figure, parse_options
from muster.orchestrator.records.events import event
from muster.orchestrator.records.forecast import Forecast
from muster.orchestrator.records.identity import open_run
from muster.orchestrator.records.stages import Emit, pack_ticker, stage
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.errors import MusterError
from muster.workers.methods.registry import METHODS
from muster.workers.spec import Precision
from muster.workers.store.layout import RunFolder, Store
from muster.workers.task import MemberTask


def reproduce(options: ReproduceOptions, emit: Emit, fleet_name: str) -> int:
    """Runs a reproduction on the Ray cluster that this process is connected to; the exit code.

    Raises MusterError where there is no data for any ask, or not one could be trained.
    """
    started = time.monotonic()
    store = Store(options.storage)
    found = draft(options)
    check_data(found.works)
    run = open_run(options, store, "reproduce", parse_options)
    if options.rehearsal:
        emit(event("message", level="warning", text=options.rehearsal))
    with stage(emit, "pack"):
        prepare_asks(found.works, store, pack_ticker(emit))
        _tell_troubles(found.works, emit)
    with stage(emit, "plan"):
        there = cluster_resources()
        gpus = gpu_share(_any_request(options, found), there)
        tasks, cost = _planned(found, store, run, emit, gpus, there)
    settings = FleetSettings(store.root, options.run, options.resources.parallel, gpus)
    forecast = Forecast(len(tasks), cost.seconds / cost.to_train if cost.seconds and cost.to_train else None)
    client = FleetClient.start(settings, fleet_name, emit, forecast, cost.lacking)
    with stage(emit, "train"):
        client.train((work.ask.name, [tasks[key] for key in work.keys]) for work in found.works if work.tasks)
    with stage(emit, "evaluate"):
        got = score_asks(found.works, client, run)
    if found.works and not any(one.metrics for one in got.values()):
        raise MusterError("\n".join(dict.fromkeys(one.trouble for one in got.values())))
    with stage(emit, "report"):
        drawn = _drawn(found, got, store, run, client)
        answer = answer_of(options, found, got, drawn, store, client)
        answer["seconds"] = round(time.monotonic() - started, 2)
        answer["paths"] = write_answer(run, answer)
    failures = dict.fromkeys(one.message for one in client.outcomes.values() if one.state == "failed")
    end = end_of(answer, list(failures))
    emit(end)
    return int(end["exit_code"])


def _any_request(options: ReproduceOptions, found: Draft) -> LaunchRequest:
    """A request with the run's resources; of an ensemble if there is one, as a rank has a GPU to itself anyway."""
    if not found.works:
        raise MusterError("\n".join(found.troubles.values()) or f"{options.target} asks for nothing.")
    return min(
        (work.ask.request for work in found.works), key=lambda request: not METHODS[request.method].ensemble
    )


def _tell_troubles(works: list[Work], emit: Emit) -> None:
    for trouble in dict.fromkeys(work.trouble for work in works if work.trouble):
        emit(event("message", level="warning", text=trouble))
    prepared = [work.prepared for work in works if work.prepared is not None]
    for warning in dict.fromkeys(text for one in prepared for text in one.warnings):
        emit(event("message", level="warning", text=warning))


def _planned(
    found: Draft, store: Store, run: RunFolder, emit: Emit, gpus: float, there: Amounts
) -> tuple[dict[str, MemberTask], Cost]:
    """The tasks of all asks, told and written down."""

    @functools.cache
    def weights(backbone: str, name: str) -> str:
        return store_weights(requests[backbone, name], store)

    requests: dict[tuple[str, str], LaunchRequest] = {}

    def settle(request: LaunchRequest) -> tuple[str, Precision]:
        check_places_for(request, gpus, there)
        ensemble = request.ensemble
        requests[ensemble.backbone, ensemble.weights] = request
        return weights(ensemble.backbone, ensemble.weights), common_precision(request, gpus, there)

    tasks = plan_asks(found.works, settle)
    cost = cost_of(found.works, tasks, store)
    asks = {
        work.ask.name: {
            "members": work.keys,
            "trouble": work.trouble,
            "weights": work.tasks[0].spec.weights if work.tasks else None,
            "precision": work.tasks[0].spec.precision if work.tasks else None,
        }
        for work in found.works
    }
    run.write("plan.json", {"text": cost.sentence(), "members": list(tasks), "asks": asks})
    reused = cost.members - cost.to_train
    emit(event("plan", asked=cost.members, reused=reused, to_train=cost.to_train, text=cost.sentence()))
    return tasks, cost


def _drawn(
    found: Draft, got: dict[str, Got], store: Store, run: RunFolder, client: FleetClient
) -> dict[str, list[str]]:
    """Has each figure drawn, in a task of its own; the names of its files, by figure. Troubles go to `found`."""
    files: dict[str, list[str]] = {}
    draw = ray.remote(num_cpus=1, max_retries=3)(draw_figure)
    for target, own in found.targets:
        if not isinstance(target, Figure) or target.name in found.troubles:
            continue
        mine = {ask.name: got[ask.name] for ask in target.asks(own)}
        if not any(one.metrics for one in mine.values()):
            troubles = dict.fromkeys(one.trouble for one in mine.values())
            found.troubles[target.name] = "; ".join(troubles) or "it asks for nothing"
            continue
        folder = run / f"figures/{target.name}"
        files[target.name] = client.repaired(
            functools.partial(_got, draw, target.name, store.root, folder, mine),
            (task for one in mine.values() for task in one.asked),
        )
    return files


def _got(draw: Any, *what: Any) -> list[str]:
    names: list[str] = ray.get(draw.remote(*what))
    return names


def draw_figure(name: str, root: str, folder: str, got: dict[str, Got]) -> list[str]:
    """Draws one figure from the vectors in the store; the names of the files it wrote. Raises DamagedMember."""
    from muster.orchestrator.jobs.reproduce.targets import FIGURES

    mine = {ask.removeprefix(f"{name}: "): one for ask, one in got.items()}
    drawn: list[str] = FIGURES[name].module.draw(Store(root), folder, mine)
    return drawn
