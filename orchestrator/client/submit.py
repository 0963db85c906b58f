"""From the command line to a job and back: find or start a cluster, submit, draw the job's events, detach.

It talks to the cluster through the Jobs API alone; what the job does is the job's business.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import muster
from muster.cluster.errors import ClusterError
from muster.cluster.text import without_colours
from muster.orchestrator.jobs.entry import ATTEMPT, REQUEST
from muster.orchestrator.jobs.registry import job_of
from muster.orchestrator.records.events import Event, from_line
from muster.orchestrator.records.identity import Request
from muster.orchestrator.settings.resources import FAR
from muster.workers.errors import MusterError, UsageError
from muster.workers.networks.own_code import OwnNetwork, copied, found, own_network
from muster.workers.provenance import COMMIT, commit
from muster.workers.store.layout import new_attempt_id
from muster.workers.store.patience import PATIENCE

if TYPE_CHECKING:
    from rich.console import Console

    from muster.cluster.jobs import Jobs

OUTPUT_SHOWN = 20
#: Seconds for which a job asks a store behind a network again that does not answer.
JOB_PATIENCE = "300"
ENDING_SECONDS = 60.0


@dataclass
class Cluster:
    """A cluster that jobs can be submitted to."""

    jobs: Jobs
    python: str
    "The interpreter of its nodes."
    local: bool
    code: str = ""
    "Where its interpreter finds muster, if that is known."

    def modules(self) -> list[Path] | None:
        """Our own code, to travel with the job; None where the nodes run on this very installation."""
        from muster.cluster.launch import code_folder

        here = self.python == sys.executable and self.code == code_folder()
        return None if here else [Path(muster.__file__).parent]


@contextlib.contextmanager
def reached(address: str | None, tell: Callable[[str], None]) -> Iterator[Cluster]:
    """The cluster at `address`; without one the local head, started if there is none.

    A head that was started for this ends with its last job, which may outlive this process.
    """
    from muster.cluster import environment, launch, local
    from muster.cluster.jobs import connect

    if address is not None:
        yield Cluster(connect(address), "python", local=False)
        return

    def starting() -> None:
        tell("Starting a local Ray head on loopback.")
        ours = launch.head_settings(Path())
        if text := environment.dropped_text(environment.inherited(ours).dropped):
            tell(text)

    with local.used(starting) as head:
        if not Path(head.python).exists():
            raise UsageError(
                f"The local Ray head was started with {head.python}, which is gone: it can start no process any more. "
                "End it with `muster cluster down`, then try again."
            )
        yield Cluster(connect("auto"), head.python, local=True, code=head.code)


def submit(cluster: Cluster, request: Request, *splits: str) -> str:
    """Submits a request and returns the submission id, `<run>-<attempt>`."""
    attempt = f"{request.run}-{new_attempt_id()}"
    environment = {
        **_ours(cluster),
        **job_settings(),
        REQUEST: json.dumps(request.document()),
        ATTEMPT: attempt,
    }
    command = _command(cluster, request.kind, *splits)
    with tempfile.TemporaryDirectory(prefix="muster-code-") as folder:
        own = [copied(one, Path(folder)) for one in own_networks(request)]
        modules = [*(cluster.modules() or []), *own] or None
        return cluster.jobs.submit(command, attempt, environment, modules, {"run": request.run})


def own_networks(request: Request) -> list[OwnNetwork]:
    """The networks of one's own that a job would build, whose code has to travel with it."""
    names = map(own_network, job_of(request.kind).backbones(request))
    return [one for one in names if one is not None]


def check_agreed(request: Request, given: str | None) -> None:
    """Raises UsageError unless the code that a stored request names was named again, as `given`, and is here: a store
    may be from anybody, and what it names is not imported because it says so."""
    for one in own_networks(request):
        if given != one.asked:
            raise UsageError(
                f"{request.run} trains a network of your own, whose code would be imported. If you want that, name it "
                f"again: --backbone {one.asked}"
            )
        found(one)


def _command(cluster: Cluster, *words: str) -> str:
    """What the cluster's shell runs; a path may hold blanks."""
    return f"exec {shlex.join([cluster.python, '-m', 'muster.orchestrator.jobs.entry', *words])}"


def job_settings() -> dict[str, str]:
    """Settings for every process of a job, Ray's most of them.

    A process that is granted no GPU must see none of them. Ray 2.60 leaves all visible unless it is told
    otherwise here; CUDA_VISIBLE_DEVICES="" for the whole job would hide them from members too.
    """
    return {
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
        # CUDA counts by speed where nothing is said, and NVML, which the fleet asks, by place.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "RAY_USAGE_STATS_ENABLED": "0",
        COMMIT: commit(),  # the code that travels has no history
        PATIENCE: os.environ.get(PATIENCE, JOB_PATIENCE),
        "MPLBACKEND": "agg",  # plots are files; another backend of the shell's may not even be there
        # A cluster that was started below `uv run` has no uv to build an environment with.
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
        # A report of Ray Train waits for its controller's next look, by default every 2 s; so does its end.
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    }


def _ours(cluster: Cluster) -> dict[str, str]:
    """What a job on the local head needs of this shell: the head may have been started from another one.

    A cluster that others run has its own; credentials are not sent to it, as everybody there could read them.
    """
    wanted = ("MUSTER_", "AWS_", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_STORAGE_", "FSSPEC_")
    return (
        {name: value for name, value in os.environ.items() if name.startswith(wanted)}
        if cluster.local
        else {FAR: "1"}
    )


def follow(cluster: Cluster, submission: str, console: Console) -> Event:
    """Draws a job's events until it ends; its `end` event.

    Raises MusterError with the last lines of its output if it ended without one, and KeyboardInterrupt.
    """
    from muster.orchestrator.console.progress import Progress

    output: list[str] = []
    end: Event | None = None
    with Progress(console) as progress:
        for line in cluster.jobs.tail(submission):
            item = from_line(line)
            if item is None:
                output = [*output[-OUTPUT_SHOWN:], without_colours(line)]
                continue
            if item["event"] == "end":
                end = item
                break
            progress.handle(item)
    if end is not None:
        # Ray takes a moment to notice; a head that was started for this job can't be stopped before. The job is done,
        # whether the cluster still says so or not.
        with contextlib.suppress(ClusterError, KeyboardInterrupt):
            cluster.jobs.wait(submission, timeout_s=ENDING_SECONDS)
        return end
    info = cluster.jobs.info(submission)
    tail = "\n".join(f"    {line}" for line in output)
    raise MusterError(
        f"The job {submission} ended as {info.status} without a result. {info.message}\n{tail}".rstrip()
    )


def running_attempt(jobs: Any, run: str) -> str | None:
    """The submission id of the run's job that is not over yet, if there is one."""
    mine = [job for job in jobs.list(prefix=f"{run}-") if job.metadata.get("run") == run and not job.done]
    return mine[-1].submission_id if mine else None


def stop(cluster: Cluster, run: str, *, now: bool, known: bool) -> str:
    """Asks a run's fleet to finish what is running and drop the rest; with `now` the job is ended at once.

    What was done, for people. Ray would end a job three seconds after the signal: the fleet is told first.
    `known`: the store has the run. Raises UsageError if neither it nor the cluster does.
    """
    attempt = running_attempt(cluster.jobs, run)
    if attempt is None:
        jobs = [job for job in cluster.jobs.list() if "run" in job.metadata]
        if not known and all(job.metadata["run"] != run for job in jobs):
            running = ", ".join(sorted({job.metadata["run"] for job in jobs if not job.done})) or "nothing"
            raise UsageError(
                f"There is no run {run}, here or in the store (--storage). What is running: {running}."
            )
        return f"{run} is not running."
    if now:
        cluster.jobs.stop(attempt)
        return f"{run} was ended; finished epochs are kept. Go on with: muster resume {run}"
    helper = f"stop-{attempt}-{new_attempt_id()}"
    cluster.jobs.submit(
        _command(cluster, "stop", attempt), helper, job_settings(), cluster.modules(), {"stops": run}
    )
    ends = [
        item for line in cluster.jobs.tail(helper) if (item := from_line(line)) and item["event"] == "end"
    ]
    if not ends or ends[-1]["exit_code"]:
        cluster.jobs.stop(attempt)
        return f"{run} had no fleet yet and was ended. Go on with: muster resume {run}"
    return (
        f"{run} stops: {ends[-1]['message']} running members finish, queued ones are dropped. "
        f"Go on with: muster resume {run}"
    )
