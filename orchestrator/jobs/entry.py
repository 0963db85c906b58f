"""The job's process on the cluster: reads the request from its environment, runs it, prints events.

    python -m muster.orchestrator.jobs.entry launch [SPLIT]    MUSTER_REQUEST holds the request as JSON
    python -m muster.orchestrator.jobs.entry search            the same for a search
    python -m muster.orchestrator.jobs.entry reproduce         the same for the papers' tables and figures
    python -m muster.orchestrator.jobs.entry stop ATTEMPT      tells a running job's fleet to finish what runs and stop

Every line of its output that is an event is also kept in the run folder, in segments that are never changed.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable

from muster.cluster.text import without_colours
from muster.orchestrator.jobs.base import run_job
from muster.orchestrator.jobs.registry import job_of
from muster.orchestrator.records.events import Event, event, to_line
from muster.orchestrator.records.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED
from muster.orchestrator.records.log import EventLog
from muster.orchestrator.records.stages import Emit
from muster.workers.errors import MusterError, StoreError

REQUEST = "MUSTER_REQUEST"
ATTEMPT = "MUSTER_ATTEMPT"


def main() -> None:
    """Entry point of the job."""
    verb = sys.argv[1]
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the driver computes nothing
    if verb == "stop":
        sys.exit(_stop(sys.argv[2]))
    sys.exit(_guarded(functools.partial(_run, verb, tuple(sys.argv[2:]))))


def _run(kind: str, extra: tuple[str, ...], log: EventLog, attempt: str) -> int:
    job = job_of(kind)
    request = job.parse(json.loads(os.environ[REQUEST]), "The request")
    _connect()
    return run_job(job, request, log, fleet_name(attempt), extra)


def _guarded(work: Callable[[EventLog, str], int]) -> int:
    """Does the job's work; whatever goes wrong becomes its `end` event."""
    attempt = os.environ[ATTEMPT]
    log = EventLog(attempt)
    threading.Thread(target=log.beat, daemon=True).start()
    try:
        return work(log, attempt)
    except MusterError as error:
        return _ended(log, "failed", error.exit_code, str(error))
    except (
        SystemExit
    ):  # Ray's handler of SIGTERM raises it in a driver: `muster stop --now`, or a node that shuts down
        return _ended(log, "stopped", EXIT_INTERRUPTED, "The job was ended; finished epochs are kept.")
    except Exception:
        text = f"muster itself failed; please report this:\n{without_colours(traceback.format_exc())}"
        return _ended(log, "failed", EXIT_FAILED, text)


def _ended(emit: Emit, state: str, code: int, message: str) -> int:
    """Tells an end without an answer; its exit code."""
    with contextlib.suppress(StoreError):  # it is told all the same: the store may be what failed
        emit(event("end", state=state, exit_code=code, message=message, answer=None))
    return code


def _connect() -> None:
    import ray

    from muster.orchestrator.fleet.actors.fleet import NAMESPACE

    ray.init(namespace=NAMESPACE, logging_level=logging.ERROR, log_to_driver=False)


def fleet_name(attempt: str) -> str:
    """The name of a job's fleet actor; `attempt` is the job's submission id."""
    return f"fleet-{attempt}"


def _stop(attempt: str) -> int:
    import ray

    from muster.orchestrator.fleet.actors.fleet import NAMESPACE

    _connect()
    try:
        fleet = ray.get_actor(fleet_name(attempt), namespace=NAMESPACE)
    except ValueError:
        return _ended(_print, "failed", EXIT_FAILED, "no fleet runs")
    return _ended(_print, "done", 0, str(ray.get(fleet.stop.remote())))


def _print(item: Event) -> None:
    print(to_line(item), flush=True)


if __name__ == "__main__":
    main()
