"""From ensembles that are asked for to trained members, the same for every kind of job: pack, plan, train."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from muster.orchestrator.ensemble.plan import (
    Plan,
    PlannedEnsemble,
    prepare_ensembles,
)
from muster.orchestrator.ensemble.requests import EnsembleRequest
from muster.orchestrator.fleet.client import FleetClient
from muster.orchestrator.fleet.scheduler import FleetSettings
from muster.orchestrator.records.events import event
from muster.orchestrator.records.forecast import Forecast
from muster.orchestrator.records.stages import Emit, pack_ticker, stage
from muster.workers.store.layout import Store
from muster.workers.store.runs import RunFolder
from muster.workers.task import MemberTask


def pack(
    requests: Iterable[EnsembleRequest], store: Store, emit: Emit, *, all_needed: bool
) -> list[PlannedEnsemble]:
    """Packs the images of all ensembles and tells what is odd about them.

    What is wrong with one's data is told too, and the others go on; with `all_needed` it is raised.
    """
    with stage(emit, "pack"):
        ensembles = prepare_ensembles(requests, store, pack_ticker(emit), all_needed=all_needed)
        warnings = [text for one in ensembles if one.prepared for text in one.prepared.warnings]
        troubles = [one.trouble for one in ensembles if one.trouble]
        for text in dict.fromkeys([*troubles, *warnings]):
            emit(event("message", level="warning", text=text))
    return ensembles


def train(
    plan: Plan,
    run: RunFolder,
    emit: Emit,
    fleet_name: str,
    *,
    parallel: int,
    gpus: float,
    floors: Sequence[MemberTask] = (),
) -> FleetClient:
    """Has a fleet of this name bring all members of the plan into the store; how they ended, and the fleet's client.

    `parallel` and `gpus` are as in `FleetSettings`; `floors` are made beside them, for no ensemble.
    """
    settings = FleetSettings(run.files.root, run.run, parallel, gpus)
    forecast = Forecast(plan.cost.members, plan.cost.seconds_each)
    client = FleetClient(settings, fleet_name, emit, forecast, plan.to_train)
    with stage(emit, "train"):
        wanted = [(one.request.name, [plan.tasks[key] for key in one.keys]) for one in plan.ensembles]
        client.train((name, tasks) for name, tasks in [*wanted, ("", list(floors))] if tasks)
    return client
