"""A model's training as one Ray Train job: N ranks under a TorchTrainer, started by the fleet like any member.

Ray Train gives the processes, their places and the process group; it keeps no state for us. Checkpoints are the
store's own, so that another Ray version, another cluster or a bare process can go on from them, and a failed
attempt is the fleet's to judge: Ray Train itself retries nothing.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from muster.orchestrator.fleet.actors.member import AttemptLog, Ticker, logged, where_am_i
from muster.orchestrator.fleet.failures import of_device, of_gpu_memory
from muster.workers.errors import DivergedError, MusterError

#: A rank that waits longer than this for the others in a collective has lost them.
COLLECTIVE_SECONDS = 600
#: Ray Train asks for the ranks' places so often, and waits so long for them each time (its own default, in seconds).
PLACE_TRIES, START_SECONDS = 15, 60


@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)
class RanksActor:
    """One attempt of a model that several ranks train: it holds no device, its ranks do.

    It carries the model's name on the cluster, as a member's actor does, so that no other job trains the key.
    """

    def __init__(self, nodes: dict[str, str] | None = None) -> None:
        """`nodes`: Ray's label selector for the nodes that its ranks may go to; None: any."""
        self.nodes: dict[str, Any] = {} if nodes is None else {"label_selector": nodes}

    def run(
        self, store_root: str, run: str, task: Any, attempt: str, gpus: float, fleet: Any, gpu: None = None
    ) -> None:
        """Trains and embeds what the store lacks; the ranks' GPUs are Ray Train's to give. Raises the failure of a rank
        that tells most."""
        from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
        from ray.train.torch import TorchTrainer

        from muster.orchestrator.fleet.actors.process_group import GroupConfig

        fleet.report.remote(task.key, attempt, {"state": "starting", **where_am_i()})
        failures: Any = FailureConfig  # whose types are those of the class that it replaced
        scratch = Path(tempfile.gettempdir()) / f"muster-train-{attempt}"
        trainer = TorchTrainer(
            train_rank,
            train_loop_config={
                "store": store_root, "run": run, "task": task, "attempt": attempt, "gpus": gpus, "fleet": fleet,
            },
            torch_config=GroupConfig(
                backend="nccl" if gpus else "gloo",
                timeout_s=COLLECTIVE_SECONDS,
                store=store_root,
                pack=task.train.pack,
            ),
            scaling_config=ScalingConfig(
                num_workers=task.ranks,
                use_gpu=bool(gpus),
                resources_per_worker={"GPU": 1, "CPU": 1} if gpus else {"CPU": task.spec.threads},
                **self.nodes,
            ),
            run_config=RunConfig(
                name=attempt,
                storage_path=str(scratch),
                # What becomes of a failure is the fleet's to say, and nobody waits for ever for places.
                failure_config=failures(
                    max_failures=0, controller_failure_limit=PLACE_TRIES, max_preemption_failures=0
                ),
            ),
        )  # fmt: skip
        logging.getLogger("ray.train").setLevel(logging.ERROR)
        try:
            trainer.fit()
        except ControllerError as error:
            raise no_place(error, task.ranks, gpus) from error
        except TrainingFailedError as error:
            raise root_cause(error) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def train_rank(config: dict[str, Any]) -> None:
    """What one rank does, in a process of Ray Train."""
    began = time.monotonic()
    import ray.train
    from ray.train.torch import get_device

    from muster.workers.member import run_member
    from muster.workers.store.layout import Store
    from muster.workers.train.team import Team

    context, task = ray.train.get_context(), config["task"]

    def tell_end(row: dict[str, Any], over: bool) -> None:
        """Ray Train is told how it ended. Each report waits for the controller's next look, and holds all ranks up."""
        if over:
            ray.train.report(row)

    team = Team(
        rank=context.get_world_rank(),
        size=context.get_world_size(),
        checkpoint_steps=task.checkpoint_steps,
        on_checkpoint=tell_end,
    )
    store = Store(config["store"])
    how: dict[str, Any] = {}
    if team.leads:
        config["fleet"].report.remote(task.key, config["attempt"], {"state": "starting", **where_am_i()})
        how["report"] = ticker = Ticker(config["fleet"], task.key, config["attempt"])
        how["told_to_end"] = ticker.told_to_end  # asked only where it trains alone
        how["log"] = AttemptLog(store, store.run(config["run"]).log(task.key, config["attempt"]))
    with told_where(), logged(how.get("log")):
        run_member(store, task, config["attempt"], get_device(), team=team, began=began, **how)


def no_place(error: BaseException, ranks: int, gpus: float) -> BaseException:
    """What is said where Ray Train never got to start the ranks."""
    cause = getattr(error, "controller_failure", error)
    if "Timeout" not in type(cause).__name__:
        return cause
    what = f"{ranks} GPUs" if gpus else f"the CPUs of {ranks} ranks"
    minutes = PLACE_TRIES * START_SECONDS / 60
    return MusterError(
        f"its {ranks} ranks found no places in about {minutes:.0f} minutes: {what} were never free at once. Do other "
        "jobs hold them, or is a node gone?"
    )


def root_cause(error: BaseException) -> BaseException:
    """Of a Ray Train failure the part that says why: our own message, the rank that died, or whose GPU failed.

    When one rank fails, the others' collectives fail too; what those say explains nothing.
    """
    failures: list[BaseException] = [
        getattr(found, "_base_exc", None) or getattr(found, "cause", None) or found
        for found in getattr(error, "worker_failures", {}).values()
    ]
    return min(failures, key=_told, default=error)


#: What torch and its libraries say in a rank that lost the others.
LOST_OTHERS = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "NCCL",
    "gloo",
    "ProcessGroup",
)


def _told(failure: BaseException) -> int:
    """How little a rank's failure says of its cause: the least is meant."""
    kinds: tuple[type[BaseException], ...] = (DivergedError, MusterError, ray.exceptions.RayError)
    if (
        found := next((place for place, kind in enumerate(kinds) if isinstance(failure, kind)), None)
    ) is not None:
        return found
    if of_device(failure) or of_gpu_memory(failure):
        return len(kinds)
    return len(kinds) + 1 + any(words in str(failure) for words in LOST_OTHERS)


@contextlib.contextmanager
def told_where() -> Iterator[None]:
    """What is raised within says on which node, for the fleet: see `node_of`."""
    try:
        yield
    except Exception as error:
        error.node_id = ray.get_runtime_context().get_node_id()  # type: ignore[attr-defined]
        raise
