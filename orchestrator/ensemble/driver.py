"""The driver's hands: it starts the fleet, waits for members while passing their events on, and has the
finished ones gathered and evaluated. It never trains, embeds or scores in its own process.
"""

from __future__ import annotations

from typing import Any

from muster.orchestrator.ensemble.plan import Plan, metrics_identity
from muster.orchestrator.fleet.client import FleetClient
from muster.orchestrator.fleet.device_time import taken
from muster.orchestrator.fleet.scheduler import FleetSettings
from muster.orchestrator.fleet.work import Outcome
from muster.orchestrator.records.events import event
from muster.orchestrator.records.forecast import Forecast
from muster.orchestrator.records.stages import Emit
from muster.orchestrator.settings.request import LaunchRequest
from muster.orchestrator.settings.resources import parse_bytes
from muster.orchestrator.vectors.evaluate import evaluate_on_ray
from muster.orchestrator.vectors.gather import Gathered, gather
from muster.orchestrator.vectors.protocols import draws_of, recall_at
from muster.workers.errors import MusterError
from muster.workers.store.layout import Store
from muster.workers.task import MemberTask


class Driver:
    """A run's members, from plan to scores."""

    def __init__(
        self, request: LaunchRequest, store: Store, plan: Plan, emit: Emit, gpus: float, fleet_name: str
    ) -> None:
        self.request, self.store, self.plan, self.emit = request, store, plan, emit
        settings = FleetSettings(store.root, request.run, request.resources.parallel, gpus)
        forecast = Forecast(len(plan.tasks), plan.seconds_each)
        self.client = FleetClient.start(settings, fleet_name, emit, forecast, plan.to_train)

    def train(self) -> list[Outcome]:
        """Asks the fleet for all members; how each ended, in index order."""
        self.client.train([("", self.plan.tasks)])
        return self.outcomes()

    def outcomes(self) -> list[Outcome]:
        return [self.client.outcomes[task.key] for task in self.plan.tasks]

    def gather(self, outcomes: list[Outcome]) -> dict[str, Gathered]:
        """The shards of the finished members, for each split wanted."""
        members = self._members(outcomes)
        facts = {
            "run": self.request.run,
            "dataset": self.request.data.dataset,
            "method": self.request.method,
            "D": self.request.ensemble.D,
            "asked": len(self.plan.tasks),
            "seed": self.request.ensemble.seed,
        }
        dtype = self.request.resources.embedding_type
        return {
            target.split: gather(
                self.store, self.request.run, target, members, facts, dtype, self.plan.combination
            )
            for target in self.plan.tasks[0].targets
        }

    def evaluate(self, outcomes: list[Outcome]) -> dict[str, Any]:
        """The scores of every split, from the run folder if they are those of these members."""
        members = self._members(outcomes)
        keys = [task.key for task in members]
        ks, nmi, draws = recall_at(self.request), self.request.resources.nmi, draws_of(self.request.data)
        identity = metrics_identity(self.plan, keys, ks, nmi, draws)
        found = self.store.run(self.request.run).read("metrics.json", "identity")
        if found is None or found["identity"] != identity:
            memory = parse_bytes(self.request.resources.eval_memory)
            splits = {
                target.split: evaluate_on_ray(
                    self.store,
                    target,
                    members,
                    ks,
                    memory=memory,
                    nmi=nmi,
                    combination=self.plan.combination,
                    draws=draws,
                )
                for target in self.plan.tasks[0].targets
            }
            found = {"identity": identity, "ks": list(ks), "splits": splits}
        done, asked = len(keys), len(self.plan.tasks)
        missing = [str(o.index) for o in outcomes if o.state not in {"done", "reused"}]
        found["state"] = "done" if done == asked else f"partial {done} of {asked}"
        found["warnings"] = [f"{done} of {asked} members: without {', '.join(missing)}."] if missing else []
        found["device_seconds"] = sum(self._seconds(key) for key in keys)
        self.emit(event("curve", rows=found["splits"]["test"]["curve"]))
        return dict(found)

    def _seconds(self, key: str) -> float:
        done = self.store.model(key).done()
        return 0.0 if done is None else taken(done.facts, self.request.resources)

    def _members(self, outcomes: list[Outcome]) -> list[MemberTask]:
        """The finished members in index order. Raises MusterError if there are none."""
        done = {outcome.key for outcome in outcomes if outcome.state in {"done", "reused"}}
        if not done:
            causes = "\n".join(sorted({outcome.message for outcome in outcomes}))
            raise MusterError(f"No member was trained, so there is nothing to gather.\n{causes}")
        return [task for task in self.plan.tasks if task.key in done]
