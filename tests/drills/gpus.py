"""Two nodes with eight GPUs each, by Ray's word, and members that only pretend to train on them: what a bad GPU costs.

The fleet, its holders and its processes are the real ones; a GPU fails by its name, where a file says so. Run by
test_gpus.py in a process of its own, as it starts and ends a whole cluster.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ray

from muster.orchestrator.ensemble.plan import make_plan, prepare_ensembles, settle_members
from muster.orchestrator.ensemble.requests import EnsembleRequest
from muster.orchestrator.fleet.actors.fleet import NAMESPACE, RayProcesses
from muster.orchestrator.fleet.places.gpus import Gpu
from muster.orchestrator.fleet.scheduler import FleetSettings, Scheduler
from muster.orchestrator.fleet.work import Work
from muster.orchestrator.methods.loading import load
from muster.workers.store.layout import Store
from muster.workers.store.records import Done
from tests.drills.nodes import machines

MEMBERS, GPUS = 48, 8
#: Steps of a second that a member takes.
STEPS = 6
ECC = "CUDA error: uncorrectable ECC error encountered"


@ray.remote(max_restarts=0)
class PretendedMember:
    """Stands in for MemberActor: the same call; what it says, saves and commits is what a member does."""

    def prepare(self, root: str, task: Any) -> None:
        """Nothing has to be read."""

    def lives(self) -> None:
        """It does."""

    def run(
        self, root: str, run: str, task: Any, attempt: str, share: float, fleet: Any, gpu: Gpu | None
    ) -> None:
        assert gpu is not None
        node = ray.get_runtime_context().get_node_id()
        assert node == gpu.node
        faults, name = Path(root) / "faults", gpu.key.replace("/", "-")
        store = Store(root)
        folder = store.model(task.key)
        store.files.put(store.run(run).log(task.key, attempt), b"")
        say = fleet.report.remote
        say(task.key, attempt, {"state": "starting", "node": gpu.host, "node_id": node})
        if (faults / f"start-{name}").exists():
            time.sleep(0.5)
            raise RuntimeError(ECC)
        for step in range(1, STEPS + 1):
            time.sleep(1)
            if (faults / f"middle-{name}").exists() and step > 1:
                raise RuntimeError(ECC)
            folder.files.put(folder.checkpoint(attempt, step, "0" * 16), b"")
            place = {"epoch": step - 1, "epochs": STEPS, "step": 1, "steps": 1, "loss": 1.0}
            say(task.key, attempt, {**place, "step_seconds": 1.0, "stepping": step < STEPS})
        for target in task.targets:
            folder.embedding(target.digest).commit(Done({}, {}))
        folder.commit(Done({}, {"attempt": attempt, "seconds": float(STEPS), "epochs": 1, "images": 1}))


class Pretended(RayProcesses):
    member = PretendedMember

    async def probe(self, gpu: Gpu, *, alone: bool) -> str:
        """The worst that a bad GPU can do: to compute well when it is looked at."""
        return ""


@ray.remote(num_cpus=0)
class WatchedFleet(Scheduler):
    """The fleet as it is, with members that only pretend; it notes when a GPU's places are taken and left."""

    def __init__(self, settings: FleetSettings) -> None:
        super().__init__(settings, Pretended(settings))
        self.taken: list[tuple[str, str, float, float]] = []
        self.since: dict[str, float] = {}
        take, leave = self.placing.take, self.placing.leave

        def takes(work: Work, held: Any) -> Any:
            self.since[work.task.key] = time.time()
            return take(work, held)

        def leaves(work: Work) -> None:
            leave(work)
            if work.held is not None and (began := self.since.pop(work.task.key, None)) is not None:
                self.taken.append((work.held.gpu.key, work.task.key, began, time.time()))

        self.placing.take, self.placing.leave = takes, leaves  # type: ignore[method-assign]

    async def assignments(self) -> list[tuple[str, str, float, float]]:
        """A GPU, a member, from when, until when."""
        return self.taken


def drill(images: str, home: Path, share: float) -> dict[str, Any]:
    flags = {
        "data.dataset": "folder", "data.root": images, "image_size": 16, "ensemble.backbone": "conv4",
        "ensemble.L": MEMBERS, "ensemble.D": 2, "storage": str(home / "store"),
    }  # fmt: skip
    request = load(None, flags, [])
    store, faults = Store(request.storage), home / "store" / "faults"
    ensembles = prepare_ensembles([EnsembleRequest(launch=request)], store, lambda *_: None)
    settle_members(ensembles, lambda _: ("none", "fp32"))
    plan = make_plan(ensembles, store)
    faults.mkdir(parents=True)
    with machines() as cluster:
        first, second = (cluster.add(cpus=4 * GPUS, gpus=GPUS) for _ in range(2))
        bad = {"start": f"{first}/3", "middle": f"{second}/5"}
        (faults / f"start-{first}-3").touch()
        kind: Any = WatchedFleet
        fleet = kind.options(name="fleet", namespace=NAMESPACE).remote(
            FleetSettings(request.storage, "drill", 0, share)
        )

        def breaks_later() -> None:
            while sum(model.reached()[0] > 1 for model in map(store.model, plan.tasks)) < MEMBERS // 4:
                time.sleep(0.2)
            (faults / f"middle-{second}-5").touch()

        threading.Thread(target=breaks_later, daemon=True).start()
        outcomes = ray.get(fleet.ensure.remote(list(plan.tasks.values())))
        events = ray.get(fleet.poll.remote("", 0))[2]
        taken = ray.get(fleet.assignments.remote())
    return {
        "bad": bad,
        "outcomes": [(outcome.state, outcome.attempts) for outcome in outcomes],
        "waiting": [
            (item["key"], item["t"])
            for item in events
            if item["event"] == "member" and item["state"] in {"queued", "retrying"}
        ],
        "warnings": [item for item in events if item["event"] == "message"],
        "taken": taken,
    }


if __name__ == "__main__":
    where = Path(sys.argv[2])
    (where / "answer.json").write_text(json.dumps(drill(sys.argv[1], where, float(sys.argv[3]))))
