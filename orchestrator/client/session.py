"""A request as the terminal sees it: answer from the store or submit, follow, print the answer, or detach.

Every kind of job goes this way; what is its own, its `Job` does.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import typer

from muster.cluster.errors import ClusterError
from muster.orchestrator.console.say import tell
from muster.orchestrator.console.screen import err
from muster.orchestrator.console.tables import show_document, show_rows
from muster.orchestrator.jobs.base import Job, check_here, end_of
from muster.orchestrator.jobs.registry import job_of
from muster.orchestrator.jobs.turn import TURNS
from muster.orchestrator.machine import credentials
from muster.orchestrator.machine.places import check_places, refuse_no_store
from muster.orchestrator.records.events import Event
from muster.orchestrator.records.exit_codes import EXIT_INTERRUPTED, Detached
from muster.orchestrator.records.identity import Request, no_run
from muster.orchestrator.settings.checks import whole_path
from muster.orchestrator.settings.parse import replaced
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.errors import UsageError
from muster.workers.store.layout import Store
from muster.workers.store.runs import RunFolder


def go(request: Request, address: str | None, detach: bool, dry_run: bool, as_json: bool) -> None:
    """From a new request to what the command line shows of it."""
    placed = with_places(request, address)
    if dry_run:
        show_preview(placed, address, as_json)
    else:
        run(placed, address, detach, as_json)


def with_places(request: Request, address: str | None) -> Request:
    """With a local head, paths are this shell's; with --address they are the cluster's, and must be whole."""
    job = job_of(request.kind)
    if address is None:
        placed: Request = job.with_paths(request, lambda flag, path: whole_path(path))
        return placed
    problems = _address_problems(address)

    def whole(flag: str, path: str) -> str:
        if "://" not in path and not Path(path).is_absolute():
            problems.append(
                f"{flag} {path}: with --address, give an absolute path or a URI that every node can reach."
            )
        return credentials.refused(path)

    job.with_paths(request, whole)
    if problems:
        raise UsageError(problems)
    return request


def _address_problems(address: str) -> list[str]:
    from muster.cluster import address as addresses

    try:
        addresses.parse(address)
    except ClusterError as error:
        return [f"--address: {error}"]
    return []


def show_preview(request: Request, address: str | None, as_json: bool) -> None:
    """What a request would train and cost, as far as it can be told from here."""
    if address is not None:
        raise UsageError(
            "--dry-run reads the data and the store from here: run it on a machine that sees them, without --address."
        )
    job, store = job_of(request.kind), Store(request.storage)
    refuse_no_store(store)
    found = job.preview(request, store, check_here(job, request, store))
    for text in found.get("warnings", ()):
        tell(f"muster: {text}")
    show_document(found) if as_json else show_rows(found["rows"], title=found["sentence"])


def run(
    request: Request, address: str | None, detach: bool, as_json: bool, *splits: str, mend: bool = False
) -> None:
    """Answers from the store if it can; else submits a job and follows it to its end.

    `splits`: further ones whose vectors are wanted. With `mend` all files of a finished run are looked at, and a job
    writes anew what is damaged.
    """
    job = job_of(request.kind)
    if address is None:
        store = Store(request.storage)
        checked = check_here(job, request, store)
        whole = not splits and (not mend or _is_whole(store.run(request.run)))
        found = job.from_store(request, store, checked) if whole else None
        if found is not None:
            plan, answer = found
            if plan:
                tell(plan)
            _finish(job, end_of(job, answer), as_json)
    end = _submitted(request, address, detach, as_json, *splits)
    if end is not None:
        _finish(job, end, as_json)


def _is_whole(run: RunFolder) -> bool:
    """Whether a run's files are what its record promises. A run that lacks one had none if it is an older release's."""
    record = run.record()
    return not run.spoilt(record) if record else not run.files.names(run / TURNS)


def _submitted(
    request: Request, address: str | None, detach: bool, as_json: bool, *splits: str
) -> Event | None:
    """The job's `end` event; None if it was left to itself."""
    from muster.orchestrator.client import submit

    if address is None:
        check_places(Store(request.storage))
    submission = ""
    end: Event | None = None
    try:
        with submit.reached(address, tell) as cluster:
            if (other := submit.running_attempt(cluster.jobs, request.run)) is not None:
                raise UsageError(
                    f"{request.run} is running as {other}. Watch it: muster status {request.run}; stop it: muster "
                    f"stop {request.run}."
                )
            submission = submit.submit(cluster, request, *splits)
            if not detach:
                end = submit.follow(cluster, submission, err)
    except KeyboardInterrupt:
        if submission:
            tell(_how_to_go_on(request, address, "Detached from"))
        else:
            tell(f"Interrupted before {request.run} was submitted.")
        raise Detached from None
    except ClusterError as error:
        if end is None:
            raise
        tell(str(error))  # the head that was started for the job did not end; the job did
    if end is not None:
        return end
    found = {"run": request.run, "submission": submission, "state": "submitted", "storage": request.storage}
    show_document(found) if as_json else tell(_how_to_go_on(request, address, "Submitted"))
    return None


def _finish(job: Job, end: Event, as_json: bool) -> None:
    """Prints the answer and exits as the job did."""
    answer, code = end["answer"], int(end["exit_code"])
    if answer is None:
        for line in end["message"].splitlines():
            tell(line if line.startswith(" ") else f"muster: {line}")
        if as_json:
            show_document({"state": end["state"], "message": end["message"]})
        raise _end(code)
    if as_json:
        if code:  # what went wrong is for people, and the document for programs
            tell(end["message"])
        show_document(answer)
    else:
        job.show(answer, end["message"])
    raise _end(code)


def _end(code: int) -> Exception:
    """How a command ends that has said all: 130 from within would be taken for an interruption just now."""
    return Detached() if code == EXIT_INTERRUPTED else typer.Exit(code)


def _how_to_go_on(request: Request, address: str | None, what: str) -> str:
    storage, there = ["--storage", request.storage], ["--address", address] if address else []
    lines = [f"{what} {request.run}; it goes on without this terminal."]
    for verb, does in (("status", "watch"), ("stop", "stop"), ("resume", "resume")):
        where = storage if verb == "status" else [*storage, *there]
        lines.append(f"  {does + ':':8} {shlex.join(['muster', verb, request.run, *where])}")
    if address is None:
        lines.append("  The local Ray head ends with it, unless `muster cluster up` keeps it up.")
    return "\n".join(lines)


def saved_request(run: str, storage: str) -> LaunchRequest:
    """A launch's request from the store. Raises UsageError if there is no such run, or if it is no launch."""
    found = saved_run(run, storage)
    if not isinstance(found, LaunchRequest):
        raise UsageError(job_of(found.kind).not_a_launch.format(run=run))
    return found


def saved_run(run: str, storage: str, **changes: Any) -> Request:
    """A run's request from the store, of whichever kind, with these `Resources` changed.

    Raises UsageError if there is no such run.
    """
    store = Store(whole_path(storage))
    folder = store.run(run)
    saved = folder.read("run.json")
    if saved is None:
        raise no_run(store, run)
    job = job_of(saved.get("kind", "launch"))
    found: Request = job.parse(saved, folder.place("run.json"))
    resources = replaced(found.resources, changes, "resources.")
    there: Request = job.changed(found, name=run, storage=store.root, resources=resources)
    return there
