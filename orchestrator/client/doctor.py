"""`muster doctor`: is this machine fit to run or submit? Each finding says what to do."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from muster.cluster import environment, launch
from muster.orchestrator.fleet.places.gpus import CURE, divided
from muster.orchestrator.machine.complaints import explained
from muster.orchestrator.machine.places import places
from muster.workers.errors import MusterError
from muster.workers.gpus import nvml
from muster.workers.gpus.kernels import unsupported
from muster.workers.quantities import bytes_text
from muster.workers.store.layout import Store

PACKAGES = ("ray", "torch", "torchvision", "pyarrow", "faiss-cpu", "numpy", "pydantic")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    state: str
    "ok, warning or failed."
    detail: str


def examine(storage: str, address: str | None) -> Iterator[Finding]:
    """Looks at everything in turn; one failure does not hide the next."""
    checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("python", _python),
        ("packages", _packages),
        ("environment", _environment),
        ("device", _device),
        ("store", lambda: _store(storage)),
        ("places", lambda: _places(storage)),
        ("shared memory", _shared_memory),
        ("cluster", lambda: _cluster(address)),
    )
    for name, check in checks:
        yield from _safely(name, check)


def _safely(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:
        yield Finding(name, "failed", explained(error) or f"{type(error).__name__}: {error}")


def _python() -> Iterator[Finding]:
    fine = (3, 11) <= sys.version_info < (3, 14)
    yield Finding(
        "python", "ok" if fine else "failed", f"{platform.python_version()} (3.11 to 3.13 are tested)"
    )


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            yield Finding(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "failed", "not installed: pip install -e . in muster's checkout")


def _device() -> Iterator[Finding]:
    found = nvml.cards()
    if not found:
        cores = len(os.sched_getaffinity(0))
        yield Finding("device", "ok", f"no GPU here; members would train on {cores} CPU cores")
        return
    import torch

    able = torch.cuda.get_arch_list() if torch.version.cuda else []
    for card in found:
        state, text = _judged(card, found, able)
        detail = f"{_told(card)}, driver {card.driver}" + (f": {text}" if text else "")
        yield Finding(f"gpu {card.index}", state, detail)
        for part in card.slices:
            fit = "failed" if state == "failed" else "ok"
            yield Finding(f"gpu {card.index}, {part.uuid[:12]}", fit, _told(part))


def _told(card: nvml.Card) -> str:
    bf16 = "bf16" if card.bf16 else "no bf16: trains in fp32"
    memory = f"{bytes_text(card.memory)}, {bytes_text(card.used)} used" if card.memory else "memory not told"
    return f"{card.name}, {memory}, {bf16}, {card.uuid}"


def _judged(card: nvml.Card, cards: Sequence[nvml.Card], able: Sequence[str]) -> tuple[str, str]:
    """How a GPU is, and what to do where it is of no use."""
    if card.trouble:
        return "failed", f"{card.trouble}. {CURE}"
    if not able:
        return "failed", "torch here is built without CUDA: pip install torch, the plain way"
    if text := unsupported(card.capability, able):
        return "failed", text
    if card.mig and len(card.slices) != 1:  # of one slice that a container was given, no word is needed
        return "warning", divided(cards)
    return "ok", ""


def _store(storage: str) -> Iterator[Finding]:
    try:
        store = Store(storage)
        if store.files.local_root is None:  # a disk of this machine is looked at with the other places
            store.files.check_writable()
        count = f"{len(store.runs())} runs, {len(store.files.names('models'))} models"
    except MusterError as error:
        yield Finding("store", "failed", str(error))
        return
    yield Finding("store", "ok", f"{storage}: {count}")


def _places(storage: str) -> Iterator[Finding]:
    for place in places(Store(storage)):
        few = place.free < place.enough
        state = "failed" if place.problem else "warning" if few else "ok"
        yield Finding(place.name, state, place.detail)


def _environment() -> Iterator[Finding]:
    """The variables that Ray, Python and the loader read: what a local head gets of them, and what it does not."""
    found = environment.inherited(launch.head_settings(Path()))
    yield Finding("environment", "ok", f"set for Ray, Python or the loader: {environment.suspects()}")
    if text := environment.dropped_text(found.dropped):
        yield Finding("environment", "warning", text)


def _shared_memory() -> Iterator[Finding]:
    if Path("/dev/shm").exists():
        free = shutil.disk_usage("/dev/shm").free
        few = free < 500e6
        yield Finding(
            "shared memory",
            "warning" if few else "ok",
            f"{bytes_text(free)} free" + (": give the container more, --shm-size=2g" if few else ""),
        )


def _cluster(address: str | None) -> Iterator[Finding]:
    from muster.cluster import local
    from muster.cluster.errors import ClusterError
    from muster.cluster.jobs import connect

    if address is None and local.find() is None:
        yield Finding("cluster", "ok", "no local head runs; a launch starts one")
        return
    try:
        jobs = connect(address or "auto")
        running = sum(not job.done for job in jobs.list())
    except ClusterError as error:
        yield Finding("cluster", "failed", str(error))
        return
    yield Finding("cluster", "ok", f"Ray {jobs.ray_version} at {jobs.url}, {running} jobs running")
