"""A launch as the terminal sees it: answer from the store or submit, follow, print the answer, or detach."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from muster.cluster.errors import ClusterError
from muster.orchestrator.client.kinds import AnyRequest
from muster.orchestrator.console.say import tell
from muster.orchestrator.console.screen import err
from muster.orchestrator.console.tables import answer_table, show_document, show_rows
from muster.orchestrator.jobs.reproduce.request import ReproduceOptions
from muster.orchestrator.jobs.search.request import SearchRequest, parse_search
from muster.orchestrator.methods.loading import parse_request
from muster.orchestrator.records.exit_codes import EXIT_INTERRUPTED, Detached
from muster.orchestrator.settings.checks import whole_path
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.errors import UsageError
from muster.workers.store.layout import Store


def placed(request: LaunchRequest, address: str | None) -> LaunchRequest:
    """With a local head, paths are this shell's; with --address they are the cluster's, and must be whole."""
    data, ensemble = request.data, request.ensemble
    if address is not None and address != "auto":
        problems = _address_problems(address)
        places = {"--storage": request.storage, "--data-root": data.root, "--weights": ensemble.weights}
        problems += [
            f"{flag} {place}: with --address, give an absolute path or a URI that every node can reach."
            for flag, place in places.items()
            if place
            and place not in {"none", "imagenet"}
            and "://" not in place
            and not Path(place).is_absolute()
        ]
        if problems:
            raise UsageError(problems)
        return request

    if data.root is not None:
        data = dataclasses.replace(data, root=whole_path(data.root))
    if ensemble.weights not in {"none", "imagenet"}:
        ensemble = dataclasses.replace(ensemble, weights=whole_path(ensemble.weights))
    return dataclasses.replace(request, data=data, ensemble=ensemble, storage=whole_path(request.storage))


def _address_problems(address: str) -> list[str]:
    from muster.cluster import address as addresses

    try:
        addresses.parse(address)
    except ClusterError as error:
        return [f"--address: {error}"]
    return []


def refuse_dry_run_at(address: str | None) -> None:
    """Raises UsageError for a dry run with a cluster's address, whose paths are not this machine's."""
    if address is not None:
        raise UsageError(
            "--dry-run reads the data and the store from here: run it on a machine that sees them, without --address."
        )


def placed_options(options: ReproduceOptions, address: str | None) -> ReproduceOptions:
    """A reproduction's request with its paths as `placed` makes them."""
    from muster.orchestrator.methods.loading import load

    launch = load(None, {"storage": options.storage}, [])

    def there(root: str | None, weights: str) -> LaunchRequest:
        data = dataclasses.replace(launch.data, root=root)
        ensemble = dataclasses.replace(launch.ensemble, weights=weights)
        return placed(dataclasses.replace(launch, data=data, ensemble=ensemble), address)

    weights = []
    for entry in options.weights:
        backbone, equals, file = entry.rpartition("=")
        weights.append(f"{backbone}{equals}{there(None, file).ensemble.weights}")
    found = there(options.data_root, "none")
    return dataclasses.replace(
        options, data_root=found.data.root, weights=tuple(weights), storage=found.storage
    )


def show_preview(request: LaunchRequest, address: str | None, as_json: bool) -> None:
    from muster.orchestrator.ensemble.preview import preview

    refuse_dry_run_at(address)
    found = preview(request)
    show_document(found) if as_json else show_rows(found["rows"], title=found["sentence"])


def run_launch(
    request: LaunchRequest, address: str | None, detach: bool, as_json: bool, *splits: str
) -> None:
    """Answers from the store if it can; else submits a job and follows it to its end."""
    from muster.orchestrator.ensemble.checks import check_here
    from muster.orchestrator.jobs.launch.answer import from_store

    if address is None:
        check_here(request, Store(request.storage))
        ends: list[dict[str, Any]] = []
        if not splits and from_store(request, ends.append):
            _finish([item for item in ends if item["event"] == "plan"], ends[-1], as_json)
    end = _submitted(request, address, detach, as_json, "launch", *splits)
    if end is not None:
        _finish([], end, as_json)


def run_search(request: SearchRequest, address: str | None, detach: bool, as_json: bool) -> None:
    """Submits a search's job and follows it to its end."""
    from muster.orchestrator.console.tables import search_table
    from muster.orchestrator.jobs.search.plan import check_here

    if address is None:
        check_here(request, Store(request.storage))
    end = _submitted(request, address, detach, as_json, "search")
    if end is not None:
        _finish([], end, as_json, search_table)


def run_reproduce(options: ReproduceOptions, address: str | None, detach: bool, as_json: bool) -> None:
    """Answers from the store if it can; else submits a reproduction's job and follows it to its end."""
    from muster.orchestrator.console.tables import reproduce_table
    from muster.orchestrator.jobs.reproduce.answer import answer_from_store, end_of
    from muster.orchestrator.jobs.reproduce.plan import check_here, draft
    from muster.orchestrator.jobs.reproduce.tables.files import paper_table

    table = functools.partial(reproduce_table, layout=paper_table)

    if address is None:
        found = draft(options)
        check_here(options, found, Store(options.storage))
        answer = answer_from_store(options, found)
        if answer is not None:
            _finish([], end_of(answer, []), as_json, table)
    end = _submitted(options, address, detach, as_json, "reproduce")
    if end is not None:
        _finish([], end, as_json, table)


def _submitted(
    request: AnyRequest,
    address: str | None,
    detach: bool,
    as_json: bool,
    verb: str,
    *splits: str,
) -> dict[str, Any] | None:
    """The job's `end` event; None if it was left to itself."""
    from muster.orchestrator.client import submit
    from muster.orchestrator.machine.places import check_places

    if address is None:
        check_places(Store(request.storage))
    submission = ""
    try:
        with submit.reached(address, tell) as cluster:
            if (other := submit.running_attempt(cluster.jobs, request.run)) is not None:
                raise UsageError(
                    f"{request.run} is running as {other}. Watch it: muster status {request.run}; stop it: muster "
                    f"stop {request.run}."
                )
            submission = submit.submit(cluster, request, *splits, verb=verb)
            if not detach:
                return submit.follow(cluster, submission, err)
    except KeyboardInterrupt:
        if submission:
            tell(_how_to_go_on(request, address, "Detached from"))
        else:
            tell(f"Interrupted before {request.run} was submitted.")
        raise Detached from None
    found = {"run": request.run, "submission": submission, "state": "submitted", "storage": request.storage}
    show_document(found) if as_json else tell(_how_to_go_on(request, address, "Submitted"))
    return None


def _finish(
    before: list[dict[str, Any]],
    end: dict[str, Any],
    as_json: bool,
    table: Callable[[dict[str, Any], str], None] = answer_table,
) -> None:
    """Prints the answer and exits as the job did."""
    for item in before:
        tell(item["text"])
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
        table(answer, end["message"])
    raise _end(code)


def _end(code: int) -> Exception:
    """How a command ends that has said all: 130 from within would be taken for an interruption just now."""
    return Detached() if code == EXIT_INTERRUPTED else typer.Exit(code)


def _how_to_go_on(request: AnyRequest, address: str | None, what: str) -> str:
    where = f" --storage {request.storage}" + (f" --address {address}" if address else "")
    lines = [f"{what} {request.run}; it goes on without this terminal."]
    for verb, does in (("status", "watch"), ("stop", "stop"), ("resume", "resume")):
        shown = where if verb != "status" else f" --storage {request.storage}"
        lines.append(f"  {does + ':':8} muster {verb} {request.run}{shown}")
    if address is None:
        lines.append("  The local Ray head ends with it, unless `muster cluster up` keeps it up.")
    return "\n".join(lines)


def saved_request(run: str, storage: str) -> LaunchRequest:
    """A launch's request from the store. Raises UsageError if there is no such run, or if it is no launch."""
    found = saved_run(run, storage)
    if isinstance(found, ReproduceOptions):
        raise UsageError(f"{run} is a reproduction of several ensembles: see muster status {run}.")
    if isinstance(found, SearchRequest):
        raise UsageError(
            f"{run} is a search: see muster status {run}, or launch the ensemble that it recommends."
        )
    return found


def saved_run(run: str, storage: str) -> AnyRequest:
    """A run's request from the store, of whichever kind. Raises UsageError if there is no such run."""
    from muster.orchestrator.runs.status import run_status

    store = Store(whole_path(storage))
    run_status(store, run)  # says which runs there are
    folder = store.run(run)
    saved, where = folder.read("run.json"), folder.place("run.json")
    if saved.get("kind") == "reproduce":
        from muster.orchestrator.jobs.reproduce.targets import parse_options

        return dataclasses.replace(parse_options(saved, where), name=run, storage=store.root)
    if saved.get("kind") == "search":
        search = parse_search(saved, where)
        return dataclasses.replace(
            search, base=dataclasses.replace(search.base, name=run, storage=store.root)
        )
    return dataclasses.replace(parse_request(saved, where), name=run, storage=store.root)
