"""What runs of older releases hold, and what newer ones must go on to write: the one place that knows of formats.

A request's identity is hashed to its run's name, so what it was made of in format 1 is written for ever. A run's
`run.json` says its format since 2. Formats are read for as long as there is a release with the same first number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from muster import __version__
from muster.workers.errors import StoreError
from muster.workers.forms import form

FORMAT = 2
#: What the first format's requests said of the methods that there were, whichever they asked for.
FIRST_METHODS = ("dreml", "bier", "baseline")
UNUSED: Mapping[str, Any] = {"bier": None, "baseline": None, "combine": "share"}


#: In a `run.json`: the versions and the machine of the job that last ran it; no part of the request.
MADE_BY = "made_by"


class NewerRunError(StoreError):
    """A run was written by a newer release than this one."""


def identity(request: Any, settings: Any) -> dict[str, Any]:
    """What a launch request is hashed by: its own form, and that of its method's part."""
    found = {**form(request), **form(settings)}
    return {**UNUSED, **found} if request.method in FIRST_METHODS else found


def document(request: Any, settings: Any) -> dict[str, Any]:
    """A launch request as `run.json` keeps it."""
    found = {**dataclasses.asdict(request), **dataclasses.asdict(settings)}
    del found["settings"]
    return stamped(found)


def stamped(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's `run.json` holds, with its format and the release that wrote it."""
    return {"format": FORMAT, "muster": __version__, **found}


def current(saved: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A run's `run.json` of any format as one of this release, without its format.

    Raises NewerRunError if it was written by a newer one; `where` names it.
    """
    number = saved.get("format", 1)
    if not isinstance(number, int) or number > FORMAT:
        raise NewerRunError(
            f"{where} has format {number}, and this is muster {__version__}, which reads up to format {FORMAT}. Get "
            f"muster {saved.get('muster', 'of a later release')}, which wrote it, or a newer one."
        )
    found = {name: value for name, value in saved.items() if name not in {"format", "muster", MADE_BY}}
    data = found.get("data")
    if isinstance(data, dict) and data.get("dataset") == "folder":
        found["data"] = {"reading": 1, **data}  # there was no other one
    method = found.get("method")
    if number == 1 and method in FIRST_METHODS:
        unused = {"bier": {"baseline"}, "baseline": {"bier", "combine"}, "dreml": set(UNUSED)}[str(method)]
        found = {name: value for name, value in found.items() if name not in unused}
    return found
