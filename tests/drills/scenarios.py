"""What happens to nodes, and to members on them. `python -m tests.drills.scenarios NAME IMAGES HOME` plays one and
writes what came of it to HOME/answer.json; see `nodes.py`."""

from __future__ import annotations

import functools
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import ray

from muster.orchestrator.ensemble import run as ensemble_run
from muster.orchestrator.fleet.actors.fleet import start_fleet
from muster.orchestrator.fleet.scheduler import FleetSettings
from muster.orchestrator.records.events import Event
from muster.orchestrator.vectors.evaluate import on_most_cores
from tests.drills.nodes import StruckRun, StruckSearch, WatchedRun, machines, own_processes
from tests.orchestrator.jobs.search.searches import DS

COMMON = {"data.dataset": "folder", "ensemble.backbone": "conv4"}
SHORT = {**COMMON, "image_size": 32, "ensemble.D": 4, "recipe.epochs": 3}
LONG = {**COMMON, "image_size": 72, "ensemble.D": 4, "recipe.epochs": 12}
SETTINGS = ["batch_size=16", "lr=0.02"]
#: Seconds without a step that are taken for a hang here; a step takes some tens of milliseconds.
HANG_SECONDS = 15.0
HANGS = {**COMMON, "image_size": 144, "ensemble.D": 4, "ensemble.L": 1, "recipe.epochs": 3}
BIER = {
    **COMMON, "image_size": 72, "method": "bier", "preset": "glyphs", "bier.sizes": [4, 8], "bier.labels": 8,
    "bier.images": 4, "bier.steps": 60, "resources.ranks": 2, "resources.checkpoint_steps": 20,
}  # fmt: skip


def calm_run(images: str, home: Path, flags: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """What nobody disturbs. All scenarios of a session share its store: what one has trained others find there."""
    return WatchedRun(images, home.parent / "calm", flags, settings).run()


def a_member_killed(images: str, home: Path) -> dict[str, Any]:
    """Of two nodes; it goes to the other one."""
    flags = {**LONG, "ensemble.L": 1, "ensemble.seed": 5}

    def kill(_: str) -> None:
        for process in own_processes("ray::MemberActor.run"):
            process.kill()

    with machines() as cluster:
        cluster.add()
        cluster.add()
        calm = calm_run(images, home, flags, SETTINGS)
        return {
            "calm": calm,
            "struck": StruckRun(images, home / "struck", flags, SETTINGS).struck(kill),
        }


def a_node_lost(images: str, home: Path) -> dict[str, Any]:
    return _without_a_node(images, home, taken_back=False)


def a_node_taken_back(images: str, home: Path) -> dict[str, Any]:
    return _without_a_node(images, home, taken_back=True)


def _without_a_node(images: str, home: Path, *, taken_back: bool) -> dict[str, Any]:
    """One of two nodes goes, under one of two members."""
    flags = {**LONG, "ensemble.L": 2}
    with machines() as cluster:
        cluster.add()
        cluster.add()
        calm = calm_run(images, home, flags, SETTINGS)
        found: dict[str, Any] = {"calm": calm}

        def strike(node: str) -> None:
            found["safe"] = cluster.fleet_is_on_the_head()
            (cluster.take_back if taken_back else cluster.lose)(node)

        found["struck"] = StruckRun(images, home / "struck", flags, SETTINGS).struck(strike)
        return found


def a_node_drained(images: str, home: Path) -> dict[str, Any]:
    """`ray start` of one of two nodes gets SIGTERM, while two members are under way."""
    flags = {**HANGS, "ensemble.L": 2, "recipe.epochs": 6}
    settings = ["batch_size=2", "lr=0.002"]  # many steps in an epoch
    with machines() as cluster:
        cluster.start()
        cluster.start()
        calm = calm_run(images, home, flags, settings)
        run = StruckRun(images, home / "struck", flags, settings)
        return {"calm": calm, "struck": run.struck(cluster.drain)}


def a_node_lost_under_a_search(images: str, home: Path) -> dict[str, Any]:
    flags = {
        **COMMON, "data.root": images, "data.val_classes": 4, "image_size": 16, "ensemble.L": 5, "recipe.epochs": 1,
    }  # fmt: skip
    with machines() as cluster:
        cluster.add()
        cluster.add()
        run = StruckSearch(home / "sought", flags, ["batch_size=16", "lr=0.002"], ",".join(map(str, DS)))
        return run.struck(cluster.lose, after=4)


def scores_on_a_node_that_is_lost(images: str, home: Path) -> dict[str, Any]:
    """Somebody else has the cores of the largest node, and it is lost before scores are computed there."""

    @ray.remote(num_cpus=3)
    class Taken:
        def there(self) -> None: ...

    with machines(cpus=1) as cluster:
        node = cluster.add(cpus=3)
        taken: Any = Taken
        ray.get((busy := taken.remote()).there.remote())
        threading.Timer(8.0, cluster.lose, [node]).start()
        threads = on_most_cores(lambda threads: threads, lambda threads: (threads,))
        del busy
    return {"threads": threads}


def a_fleet_that_dies_after_a_stop(images: str, home: Path) -> dict[str, Any]:
    """Its process is started again, and the calls that wait are repeated."""
    run = WatchedRun(images, home / "run", {**SHORT, "ensemble.L": 2}, SETTINGS)
    with machines(cpus=1):
        fleet = start_fleet(FleetSettings(run.store.root, "run", 0, 0.0), "fleet")
        ray.get(fleet.stop.remote())
        ray.kill(fleet, no_restart=False)
        outcomes = ray.get(fleet.ensure.remote(list(run.plan.tasks.values())))
    return {"states": [one.state for one in outcomes]}


def a_broken_node(images: str, home: Path) -> dict[str, Any]:
    """Nothing trains on one of two nodes: a package of its installation can't be loaded."""
    flags = {**SHORT, "ensemble.L": 6}
    (home / "broken/safetensors").mkdir(parents=True)
    (home / "broken/safetensors/__init__.py").write_text('raise ImportError("libc10.so: cannot be opened")\n')
    with machines() as cluster:
        cluster.add()
        calm = calm_run(images, home, flags, SETTINGS)
        bad = cluster.add(PYTHONPATH=str(home / "broken"))
        struck = WatchedRun(images, home / "struck", flags, SETTINGS).run()
        return {"calm": calm, "struck": struck, "bad": bad}


def a_node_without_memory(images: str, home: Path) -> dict[str, Any]:
    """On one of two nodes Ray kills whatever trains: its memory is always taken for full."""
    flags = {**LONG, "ensemble.L": 3}
    with machines() as cluster:
        cluster.add()
        calm = calm_run(images, home, flags, SETTINGS)
        bad = cluster.add(RAY_memory_usage_threshold="0.01", RAY_memory_monitor_refresh_ms="250")
        struck = WatchedRun(images, home / "struck", flags, SETTINGS).run()
        return {"calm": calm, "struck": struck, "bad": bad}


#: A package's installation that takes 1.5 GB of whoever loads it, which members do, and then is the package.
HEAVY = """import importlib, pathlib, sys
sys.ballast = bytearray(b"x") * (3 * 2**29)
sys.path.remove(str(pathlib.Path(__file__).parent.parent))
del sys.modules["safetensors"]
importlib.import_module("safetensors")
"""


def a_head_without_memory(images: str, home: Path) -> dict[str, Any]:
    """On the one node there is, which the fleet shares with its members, two of them need more memory than it has."""
    flags = {**LONG, "ensemble.L": 2}
    with machines(cpus=2):
        calm = calm_run(images, home, flags, SETTINGS)
    with machines(cpus=2, **_heavy(home, 3.1)):
        return {"calm": calm, "struck": WatchedRun(images, home / "struck", flags, SETTINGS).run()}


def a_head_with_too_little_memory(images: str, home: Path) -> dict[str, Any]:
    """There one of them alone needs more."""
    with machines(cpus=2, **_heavy(home, 1.2)):
        run = WatchedRun(images, home / "struck", {**LONG, "ensemble.L": 1}, SETTINGS)
        return {"struck": run.run()}


def _heavy(home: Path, gigabytes: float) -> dict[str, str]:
    """The environment of a node that has so much memory left, where a member takes some 2 GB, and Ray little."""
    (home / "heavy/safetensors").mkdir(parents=True)
    (home / "heavy/safetensors/__init__.py").write_text(HEAVY)
    total, available = psutil.virtual_memory().total, 0
    for _ in range(10):  # what ran before still gives its memory back
        available = max(available, psutil.virtual_memory().available)
        time.sleep(0.5)
    most = (total - available + gigabytes * 2**30) / total
    return {
        "PYTHONPATH": str(home / "heavy"),
        "RAY_memory_usage_threshold": f"{most:.4f}",
        "RAY_memory_monitor_refresh_ms": "250",
    }


class HungRun(WatchedRun):
    """One process of it is stopped in the middle of its steps: it is there, answers nothing and raises nothing."""

    def hung(self, title: str, stretch: int) -> dict[str, Any]:
        """`title` is that of the processes of which one is stopped, `stretch` its steps between two checkpoints."""
        self.title, self.stretch, self.stopped = title, stretch, list[psutil.Process]()
        found = self.run()
        left = [process.pid for process in self.stopped if process.is_running()]
        return {**found, "stopped": len(self.stopped), "left": left}

    def watch(self, item: Event) -> None:
        """Stops a process once there is a checkpoint, in the first half of the steps to the next one."""
        super().watch(item)
        (key,) = self.plan.tasks
        if self.stopped or "step" not in item or not self.store.model(key).reached()[0]:
            return
        if item["step"] % self.stretch in range(1, self.stretch // 2):
            self.stopped = own_processes(self.title)[:1]
            self.stopped[0].suspend()


def a_member_that_hangs(images: str, home: Path) -> dict[str, Any]:
    return _hung(images, home, HANGS, ["batch_size=2", "lr=0.002"], "ray::MemberActor.run", 48)


def a_rank_that_hangs(images: str, home: Path) -> dict[str, Any]:
    return _hung(images, home, BIER, [], "ray::RayTrainWorker", 20)


def _hung(
    images: str, home: Path, flags: dict[str, Any], settings: list[str], title: str, stretch: int
) -> dict[str, Any]:
    ensemble_run.FleetSettings = functools.partial(FleetSettings, hang_seconds=HANG_SECONDS)  # type: ignore[assignment, misc]
    with machines() as cluster:
        cluster.add(cpus=2)
        cluster.add(cpus=2)
        calm = calm_run(images, home, flags, settings)
        return {
            "calm": calm,
            "struck": HungRun(images, home / "struck", flags, settings).hung(title, stretch),
        }


if __name__ == "__main__":
    scenario: Callable[[str, Path], dict[str, Any]] = globals()[sys.argv[1]]
    answer = scenario(sys.argv[2], Path(sys.argv[3]))
    (Path(sys.argv[3]) / "answer.json").write_text(json.dumps(answer))
