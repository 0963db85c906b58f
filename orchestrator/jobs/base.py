"""What every kind of job has in common: what a kind consists of, and the way from its request to its end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muster.orchestrator.jobs.turn import Turn, turn_of
from muster.orchestrator.records.events import Event, event
from muster.orchestrator.records.exit_codes import EXIT_PARTIAL
from muster.orchestrator.records.identity import Request, differences
from muster.orchestrator.records.log import EventLog
from muster.orchestrator.settings import compat
from muster.orchestrator.vectors.shards import forget_damaged, gathered_splits, shard_records
from muster.workers.errors import UsageError
from muster.workers.provenance import here
from muster.workers.quantities import time_text
from muster.workers.store.layout import Store
from muster.workers.store.runs import RunFolder

Answer = dict[str, Any]
#: Gives for a flag and the path that it was given the path to go on with.
Place = Callable[[str, str], str]
#: An answer, and why members were given up.
Answered = tuple[Answer, Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A kind of job: what the terminal asks of it, and what its process on the cluster does. Its requests are its own;
    nobody else looks into them."""

    kind: str
    "As in `run.json`; a launch's has none there."
    noun: str
    "A run of this kind, for people."
    not_a_launch: str = ""
    "What to tell somebody who takes a `{run}` of this kind for a launch."
    parse: Callable[[Mapping[str, Any], str], Any]
    "(saved, where): a request from the JSON that a run's folder keeps; `where` names it. Raises UsageError."
    changed: Callable[..., Any]
    "(request, **changes): with another name, storage or resources."
    with_paths: Callable[[Any, Place], Any]
    "(request, place): with each of its paths as `place` gives it."
    check: Callable[[Any], Any]
    """(request): raises UsageError and StoreError for all that would be refused and can be told before a cluster is
    asked; only reads. What it found out is handed to `preview` and `from_store`."""
    backbones: Callable[[Any], Collection[str]] = lambda request: ()
    "(request): the networks that it would build, by their names."
    preview: Callable[[Any, Store, Any], dict[str, Any]]
    "(request, store, checked): a dry run's `sentence` for people, `rows`, and numbers. Starts and writes nothing."
    from_store: Callable[[Any, Store, Any], tuple[str, Answer] | None] = lambda *_: None
    "(request, store, checked): the plan in words and the answer, if the store alone has all of it."
    run: Callable[..., Answered]
    """(request, run folder, emit, fleet's name, further splits wanted): runs it on the Ray cluster that this process is
    connected to. Raises MusterError where there is no answer."""
    message: Callable[[Answer, Sequence[str]], str]
    "(answer, failures): what people are told at the end."
    show: Callable[[Answer, str], None]
    "(answer, message): draws them in the terminal."


def check_here(job: Job, request: Request, store: Store) -> Any:
    """What `Job.check` does, and that the run's name is free or this very request's."""
    checked = job.check(request)
    check_run(job, request, store)
    return checked


def check_run(job: Job, request: Request, store: Store) -> RunFolder:
    """The run's folder; only reads.

    Raises UsageError if the name belongs to a run of another kind, or to another request that has come as far as a
    plan.
    """
    run = store.run(request.run)
    saved = run.read("run.json")
    if saved is not None:
        saved = compat.current(saved, run.place("run.json"))
    found = (saved or {}).get("kind", "launch")
    if saved and found != job.kind:
        raise UsageError(f"There is a run {request.run}, and it is a {found}: give --name another name.")
    if saved is not None and run.begun:
        changed = differences(job.parse(saved, run.place("run.json")).identity(), request.identity())
        if changed:
            raise UsageError(
                f"There is a {job.noun} {request.run} in {store.root}, and it was asked for otherwise: "
                f"{'; '.join(changed)}. Give --name another name, or ask for the same."
            )
    return run


def open_run(job: Job, request: Request, store: Store) -> tuple[RunFolder, list[str]]:
    """The run's folder, with the request in it, and which of a finished run's files were damaged: they are deleted.
    Raises what `check_run` does."""
    run = check_run(job, request, store)
    if not store.files.exists(run / "DONE.json"):  # whose record would promise them
        for split in gathered_splits(run):
            forget_damaged(run, split)
    damaged = run.unseal()  # before anything is written that its record knows otherwise
    run.write("run.json", {**request.document(), compat.MADE_BY: here()})
    return run, damaged


def run_job(job: Job, request: Request, log: EventLog, fleet_name: str, extra: tuple[str, ...]) -> int:
    """Runs a request in its job, whose events are kept in the run's folder; the exit code. Another job of the same run,
    of whichever cluster, is waited for."""
    with turn_of(Store(request.storage).run(request.run), log.attempt, log) as turn:
        return _run_job(job, request, log, fleet_name, extra, turn)


def _run_job(
    job: Job, request: Request, log: EventLog, fleet_name: str, extra: tuple[str, ...], turn: Turn
) -> int:
    run, damaged = open_run(job, request, Store(request.storage))
    log.keep_in(run)
    for name in damaged:
        text = f"{run.place(name)} was damaged and is deleted; what can be made anew of it is."
        log(event("message", level="warning", text=text))
    end = end_of(job, *job.run(request, run, log, fleet_name, extra))
    turn.check()
    log.keep(end)  # the record is of all that was said; whoever follows the job hears of its end after that
    facts = {"state": end["state"], "ended": time_text(), **here()}
    run.seal(facts, {**shard_records(run), **log.records})
    log.tell(end)
    return int(end["exit_code"])


def end_of(job: Job, answer: Answer, failures: Sequence[str] = ()) -> Event:
    """The `end` event of a job that has an answer; `failures` says why members were given up."""
    state, code = ("done", 0) if answer["state"] == "done" else ("partial", EXIT_PARTIAL)
    message = job.message(answer, failures)
    return event("end", state=state, exit_code=code, message=message, answer=answer)


def model_counts(asked: Collection[str], done: set[str], trained: Collection[str]) -> dict[str, int]:
    """Of the keys that were asked for, how many are there and where they are from, for an answer."""
    return {
        "asked": len(asked),
        "reused": len(done.difference(trained)),
        "trained": len(done.intersection(trained)),
        "failed": len(asked) - len(done),
    }


def counts_text(models: Mapping[str, int], what: str) -> str:
    """How many models of an answer there are, and where they are from."""
    done = models["asked"] - models["failed"]
    return f"{done} of {models['asked']} {what} ({models['trained']} trained, {models['reused']} reused)."
