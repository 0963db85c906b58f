"""Commands on the machine: the local Ray head, and `doctor`."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muster.cluster.errors import ClusterError
from muster.orchestrator.cli.options import Address, AsJson, Storage, guarded
from muster.orchestrator.console.say import say
from muster.orchestrator.console.tables import show_document, show_rows
from muster.orchestrator.settings.checks import whole_path
from muster.workers.errors import UsageError
from muster.workers.quantities import bytes_text

if TYPE_CHECKING:
    from muster.cluster.jobs import ClusterNode


@guarded
def cluster_up(
    num_cpus: Annotated[int | None, typer.Option(min=1, help="CPUs it may use. (default: all)")] = None,
    num_gpus: Annotated[int | None, typer.Option(min=0, help="GPUs it may use. (default: all)")] = None,
    as_json: AsJson = False,
) -> None:
    """Starts a Ray head on loopback, guarded by a token; it stays until `muster cluster down`."""
    from muster.cluster import local

    head = local.start(num_cpus=num_cpus, num_gpus=num_gpus)
    show_document(_head_row(head)) if as_json else show_rows([_head_row(head)], title="The local head is up.")


@guarded
def cluster_down(
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask when jobs are running.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stops the local Ray head and all that runs on it."""
    from muster.cluster import local

    head = local.find()
    if head is not None:
        if not yes:
            _ask_about_jobs()
        local.stop(head)
    said = "The local head is down." if head else "No local head was running."
    show_document({"stopped": head is not None, "message": said}) if as_json else say(said)


def _ask_about_jobs() -> None:
    """Asks whether the jobs of the local head may be ended. Raises UsageError where there is nobody to ask."""
    from muster.cluster.jobs import connect

    try:
        running = [job.submission_id for job in connect("auto").list() if not job.done]
    except ClusterError as error:  # a head that answers nothing has to be ended most of all
        trouble = f"Which jobs are running is not known: {error}"
        cure, question = "To end the head all the same, give --yes.", "End the local head all the same?"
    else:
        if not running:
            return
        trouble = f"Jobs are running: {', '.join(running)}."
        cure, question = "Stop them first, or give --yes.", "End them?"
    if not sys.stdin.isatty():
        raise UsageError(f"{trouble} {cure}")
    typer.confirm(f"{trouble} {question}", abort=True, err=True)


@guarded
def cluster_status(address: Address = None, as_json: AsJson = False) -> None:
    """Which cluster a launch would use, its jobs, and its nodes with their GPUs."""
    from muster.cluster import local
    from muster.cluster.jobs import connect

    head = local.find() if address is None else None
    if address is None and head is None:
        show_document({"up": False}) if as_json else say("No local head is running; a launch starts one.")
        return
    jobs = connect(address or "auto")
    rows = [
        {"job": job.submission_id, "status": job.status, "exit_code": job.exit_code} for job in jobs.list()
    ]
    nodes = jobs.nodes()
    if as_json:
        there = [dataclasses.asdict(node) for node in nodes]
        show_document({"up": True, "url": jobs.url, "ray": jobs.ray_version, "jobs": rows, "nodes": there})
        return
    show_rows(rows, title=f"Ray {jobs.ray_version} at {jobs.url}: {len(rows)} jobs")
    show_rows([_node_row(node) for node in nodes], title=f"{len(nodes)} node{'s' * (len(nodes) != 1)}")


def _node_row(node: ClusterNode) -> dict[str, Any]:
    gpus = [f"{gpu['name']}, {gpu['used_mb']} of {gpu['memory_mb']} MB used" for gpu in node.gpus]
    free = f"{bytes_text(node.memory_free)} of {bytes_text(node.memory)} free"
    return {"node": node.host, "CPUs": node.cpus, "memory": free, "GPUs": "\n".join(gpus) or "none"}


def _head_row(head: Any) -> dict[str, Any]:
    return {"url": head.dashboard_url, "pid": head.pid, "ray": head.ray_version, "folder": head.temp_dir}


@guarded
def doctor(storage: Storage = "store", address: Address = None, as_json: AsJson = False) -> None:
    """Looks whether this machine, the store and the cluster are fit, and says what to do where not."""
    from muster.orchestrator.client.doctor import examine

    rows = [dataclasses.asdict(finding) for finding in examine(whole_path(storage), address)]
    show_document(rows) if as_json else show_rows(rows, title="")
    raise typer.Exit(1 if any(row["state"] == "failed" for row in rows) else 0)


app = typer.Typer(no_args_is_help=True, add_completion=False)
app.command("up")(cluster_up)
app.command("down")(cluster_down)
app.command("status")(cluster_status)
