"""`muster doctor`: is this machine fit to run or submit? Each finding says what to do."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from workers.errors import MusterError
from workers.store import Store

NEEDED_GB = 5
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
    for check in (_python, _packages, _device, lambda: _store(storage), _space, lambda: _cluster(address)):
        yield from _safely(check)


def _safely(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:
        yield Finding(
            getattr(check, "__name__", "check").strip("_<>"), "failed", f"{type(error).__name__}: {error}"
        )


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
    import torch

    if not torch.cuda.is_available():
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        yield Finding("device", "ok", f"no GPU here; members would train on {cores} CPU cores")
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        bf16 = (
            "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16: trains in fp32"
        )
        yield Finding(f"gpu {index}", "ok", f"{properties.name}, {properties.total_memory >> 30} GiB, {bf16}")


def _store(storage: str) -> Iterator[Finding]:
    try:
        store = Store(storage)
        store.files.check_writable()
    except MusterError as error:
        yield Finding("store", "failed", str(error))
        return
    yield Finding(
        "store",
        "ok",
        f"{storage} can be written; {len(store.runs())} runs, {len(store.files.names('models'))} models",
    )


def _space() -> Iterator[Finding]:
    for name, folder in (("disk", Path.cwd()), ("temporary disk", Path(os.environ.get("TMPDIR", "/tmp")))):
        free = shutil.disk_usage(folder).free / 1e9
        state = "ok" if free >= NEEDED_GB else "warning"
        yield Finding(
            name, state, f"{free:.0f} GB free at {folder}" + ("" if state == "ok" else ": free some")
        )
    if Path("/dev/shm").exists():
        free = shutil.disk_usage("/dev/shm").free / 1e6
        few = free < 500
        yield Finding(
            "shared memory",
            "warning" if few else "ok",
            f"{free:.0f} MB free" + (": give the container more, --shm-size=2g" if few else ""),
        )


def _cluster(address: str | None) -> Iterator[Finding]:
    from cluster import local
    from cluster.errors import ClusterError
    from cluster.jobs import connect

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
