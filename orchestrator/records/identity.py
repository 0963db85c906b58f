"""Whether two requests are the same one, and what differs between them."""

from __future__ import annotations

from typing import Any

from muster.workers.errors import UsageError


def refuse_other_kind(saved: Any, run: str, kind: str) -> None:
    """Raises UsageError if the name belongs to a run that is no `kind`: a launch, or a search."""
    found = (saved or {}).get("kind", "launch")
    if saved and found != kind:
        raise UsageError(f"There is a run {run}, and it is a {found}: give --name another name.")


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
