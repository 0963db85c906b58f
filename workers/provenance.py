"""Which code and which machine made something: recorded with results, and no part of any key. Loads no torch."""

from __future__ import annotations

import os
import platform
import re
import socket
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

import muster

#: Set for a job by who submits it: the copy of the code that travels with a job has no history.
COMMIT = "MUSTER_COMMIT"
_DRIVER = Path("/proc/driver/nvidia")
_PACKAGES = ("ray", "torch", "torchvision", "timm", "numpy", "pyarrow")


def versions() -> dict[str, str]:
    """muster's and Python's versions, and those of the packages that are there."""
    found = {"muster": muster.__version__, "python": platform.python_version()}
    if text := commit():
        found["commit"] = text
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The git commit of this code; "" where it is not known, as in a wheel."""
    if given := os.environ.get(COMMIT):
        return given
    home = Path(muster.__file__).resolve().parents[2] / ".git"
    try:
        if home.is_file():  # a work tree of another repository
            home = (home.parent / home.read_text().removeprefix("gitdir:").strip()).resolve()
        head = (home / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        shared = home / (home / "commondir").read_text().strip() if (home / "commondir").is_file() else home
        if (shared / name).is_file():
            return (shared / name).read_text().strip()
        packed = (shared / "packed-refs").read_text().splitlines()
        return next((line.partition(" ")[0] for line in packed if line.endswith(f" {name}")), "")
    except OSError:
        return ""


def machine() -> dict[str, str]:
    """This machine's name and its CPU's."""
    return {"node": socket.gethostname(), "cpu": _cpu()}


def here() -> dict[str, Any]:
    """This machine and the versions on it, those of its GPUs' driver and of torch's CUDA among them."""
    found = {"cuda": _cuda(), "driver": driver(), "gpus": ", ".join(_gpus())}
    return {**machine(), "versions": versions() | {name: text for name, text in found.items() if text}}


def _cuda() -> str:
    """The CUDA version that torch was built with; "" if it was built with none, or is not there."""
    try:
        text = Path(str(distribution("torch").locate_file("torch/version.py"))).read_text()
    except (OSError, PackageNotFoundError):
        return ""
    found = re.search(r"^cuda\b.*= '([\d.]+)'", text, re.M)
    return found[1] if found else ""


def _gpus() -> list[str]:
    """The models of this machine's GPUs, by its driver."""
    texts = (path.read_text() for path in sorted(_DRIVER.glob("gpus/*/information")))
    return [
        line.partition(":")[2].strip()
        for text in texts
        for line in text.splitlines()
        if line.startswith("Model")
    ]


def driver() -> str:
    """The version of the GPUs' driver; "" where there is none."""
    try:
        text = (_DRIVER / "version").read_text()
    except OSError:
        return ""
    return next((word for word in text.split() if word[:1].isdigit() and "." in word), "")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
