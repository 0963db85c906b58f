"""Whether two requests are the same one, what differs between them, and which runs there are."""

from __future__ import annotations

from typing import Any, Protocol

from muster.orchestrator.settings.resources import Resources
from muster.workers.errors import UsageError
from muster.workers.store.layout import Store


class Request(Protocol):
    """What all kinds of requests have in common."""

    @property
    def kind(self) -> str: ...

    @property
    def run(self) -> str: ...

    @property
    def storage(self) -> str: ...

    @property
    def resources(self) -> Resources: ...

    def identity(self) -> dict[str, Any]: ...

    def document(self) -> dict[str, Any]: ...


#: Names of runs in the message that a run is not among them.
KNOWN_SHOWN = 10


def known_runs(store: Store) -> str:
    """Which runs a store has, for the message that one is not among them."""
    known = store.runs()
    more = f" and {len(known) - KNOWN_SHOWN} more" if known[KNOWN_SHOWN:] else ""
    listed = ", ".join(known[:KNOWN_SHOWN])
    return f"There are: {listed}{more}." if known else "There are none: is --storage right?"


def no_run(store: Store, run: str) -> UsageError:
    """What to raise where a store has no run of this name."""
    return UsageError(f"There is no run {run} in {store.root}. {known_runs(store)}")


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """What differs between two requests' identities, in words."""
    found = []
    for name in {**old, **new}:
        was, is_now = old.get(name), new.get(name)
        if isinstance(was, dict) and isinstance(is_now, dict):
            found += differences(was, is_now, f"{prefix}{name}.")
        elif isinstance(was, list | tuple) and isinstance(is_now, list | tuple):
            found += [f"{prefix}{name} was {was}, is {is_now}"] if list(was) != list(is_now) else []
        elif was != is_now:
            found.append(f"{prefix}{name} was {was}, is {is_now}")
    return found
