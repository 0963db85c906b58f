"""Commands on runs that exist: status, runs, logs, stop, resume, gather, evaluate, correlation."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from muster.cluster.text import printable
from muster.orchestrator.cli.options import Address, AsJson, Backbone, Detach, Run, Storage, guarded
from muster.orchestrator.client import session
from muster.orchestrator.client.session import saved_request
from muster.orchestrator.client.submit import check_agreed
from muster.orchestrator.console.say import say, tell
from muster.orchestrator.console.tables import answer_table, show_document, show_paths, show_rows
from muster.orchestrator.records.exit_codes import EXIT_PARTIAL
from muster.orchestrator.settings.checks import whole_path
from muster.workers.errors import UsageError
from muster.workers.store.layout import Store
from muster.workers.store.runs import check_run_name


@guarded
def status(run: Run, storage: Storage = "store", as_json: AsJson = False) -> None:
    """A run's state, from the store alone: it works with the cluster switched off."""
    from muster.orchestrator.console.tables import status_table
    from muster.orchestrator.runs.status import recorded_status

    found = recorded_status(Store(whole_path(storage)), run)
    show_document(found) if as_json else status_table(found)


@guarded
def runs(storage: Storage = "store", as_json: AsJson = False) -> None:
    """All runs of a store."""
    from muster.orchestrator.runs.status import list_runs

    store = Store(whole_path(storage))
    local = store.files.local_root
    if local is not None and local.exists() and not local.is_dir():
        raise UsageError(f"--storage {local} is a file: a store is a folder or a URI.")
    rows = list_runs(store)
    where = printable(store.root if "://" in storage else storage, keep="")
    title = f"{len(rows)} runs in {where}"
    if local is not None and not local.exists():
        title = f"No runs: there is no folder {where} yet."
    show_document(rows) if as_json else show_rows(rows, title=title)


@guarded
def logs(
    run: Run,
    member: Annotated[int | None, typer.Option(help="One member's only.")] = None,
    tail: Annotated[int, typer.Option(min=0, help="Last lines of each.")] = 50,
    storage: Storage = "store",
    as_json: AsJson = False,
) -> None:
    """What the members of a run logged, from the store."""
    from muster.orchestrator.runs.status import member_logs

    found = member_logs(Store(whole_path(storage)), run, member, tail)
    if as_json:
        show_document([{"log": title, "lines": lines} for title, lines in found])
        return
    for title, lines in found:
        say(f"== {title}")
        for line in lines:
            say(line)


@guarded
def stop(
    run: Run,
    now: Annotated[bool, typer.Option("--now", help="Don't let running members finish.")] = False,
    storage: Storage = "store",
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Stops a run: running members finish, so that their work is kept; queued ones are dropped."""
    from muster.cluster import local
    from muster.orchestrator.client import submit

    check_run_name(run)
    if address is None and local.find() is None:
        raise UsageError(
            f"No local Ray head runs, so {run} is not running here. Name its cluster: --address."
        )
    store = Store(whole_path(storage))
    known = store.files.exists(store.run(run) / "run.json")
    with submit.reached(address, tell) as cluster:
        said = submit.stop(cluster, run, now=now, known=known)
    show_document({"run": run, "message": said}) if as_json else say(said)


@guarded
def resume(
    run: Run,
    parallel: Annotated[int | None, typer.Option(help="Members at once.")] = None,
    gpus_per_member: Annotated[float | None, typer.Option(help="A member's share of a GPU.")] = None,
    backbone: Backbone = None,
    storage: Storage = "store",
    address: Address = None,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Goes on with a run: finished members are found in the store, others go on from their last epoch.

    Of a finished run all files are read, and what is damaged is written anew.
    """
    changes: dict[str, Any] = {"parallel": parallel, "gpus_per_member": gpus_per_member}
    given = {name: value for name, value in changes.items() if value is not None}
    request = session.saved_run(run, storage, **given)
    check_agreed(request, backbone)
    session.run(request, address, detach, as_json, mend=True)


@guarded
def gather(
    run: Run,
    split: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    backbone: Backbone = None,
    storage: Storage = "store",
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Joins the members' vectors of a split into Parquet shards; embeds it first where that is missing.

    Shards that are there are read, and those that are damaged are written anew.
    """
    from muster.orchestrator.settings.request import gives_validation
    from muster.orchestrator.vectors.shards import forget_damaged

    request = saved_request(run, storage)
    check_agreed(request, backbone)
    has_val = request.data.val_classes or gives_validation(request.data)
    if split not in {"test", "train"} and not (split == "val" and has_val):
        raise UsageError(
            f"--split {split}: run {run} has "
            + (
                "test, train and val."
                if has_val
                else "test and train; a val split needs --val-classes at launch."
            )
        )
    for path in forget_damaged(Store(request.storage).run(run), split):
        tell(f"{path} is damaged: it is written anew.")
    session.run(request, address, False, as_json, *([split] if split == "train" else []))


@guarded
def evaluate(
    run: Run,
    split: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    recall_at: Annotated[str | None, typer.Option(help="K of recall@K, e.g. 1,10,100.")] = None,
    eval_memory: Annotated[str, typer.Option(help="Memory of its blocks.")] = "1GB",
    nmi: Annotated[bool, typer.Option(help="Compute NMI too.")] = True,
    vehicleid_protocol: Annotated[
        str | None, typer.Option(help="vehicleid's: self or reid. (default: the run's)")
    ] = None,
    repeats: Annotated[int | None, typer.Option(help="Random galleries of reid. (default: 10)")] = None,
    storage: Storage = "store",
    as_json: AsJson = False,
) -> None:
    """Scores a run's finished members again, from the store alone: no cluster is needed."""
    from muster.orchestrator.runs.rescore import rescore, with_protocol

    request = with_protocol(saved_request(run, storage), vehicleid_protocol, repeats)
    found = rescore(request, split, recall_at, eval_memory, nmi)
    if as_json:
        show_document(found)
    else:
        answer_table(found, found["message"])
    if found["state"] != "done":
        raise typer.Exit(EXIT_PARTIAL)


@guarded
def correlation(
    run: Run,
    baseline: Annotated[
        str | None, typer.Option(help="A run with the same learners, to give the reduction against.")
    ] = None,
    split: Annotated[str, typer.Option(help="test or val.")] = "test",
    storage: Storage = "store",
    as_json: AsJson = False,
) -> None:
    """How alike the learners of a BIER model are: a table and heat maps, from the store alone."""
    from muster.orchestrator.runs.correlate import correlate

    other = None if baseline is None else saved_request(baseline, storage)
    found = correlate(saved_request(run, storage), other, split)
    if as_json:
        show_document(found)
        return
    show_rows(
        found["rows"],
        title=f"Correlation on {found['images']} images of {split}; docs/glossary.md defines it",
    )
    show_paths(found["paths"])
