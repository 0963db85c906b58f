"""Whether two requests are the same one, what differs between them, and the run folder that they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from muster.workers.errors import UsageError
from muster.workers.store.layout import RunFolder, Store

#: Kinds of runs, as `run.json` has them, in words.
KINDS = {"launch": "run", "search": "search", "reproduce": "reproduction"}


class Request(Protocol):
    """What all kinds of requests have in common: LaunchRequest, SearchRequest, ReproduceOptions."""

    @property
    def run(self) -> str: ...

    def identity(self) -> dict[str, Any]: ...

    def document(self) -> dict[str, Any]: ...


#: A request of its kind from what `run.json` holds, and where that lies, for messages.
Parse = Callable[[Any, str], Request]


def check_run(request: Request, store: Store, kind: str, parse: Parse) -> RunFolder:
    """The run's folder; only reads.

    Raises UsageError if the name belongs to a run of another kind, or to another request that has come as far as a
    plan.
    """
    run = store.run(request.run)
    saved = run.read("run.json")
    refuse_other_kind(saved, request.run, kind)
    if saved is not None and run.read("plan.json") is not None:
        changed = differences(parse(saved, run.place("run.json")).identity(), request.identity())
        if changed:
            raise UsageError(
                f"There is a {KINDS[kind]} {request.run} in {store.root}, and it was asked for otherwise: "
                f"{'; '.join(changed)}. Give --name another name, or ask for the same."
            )
    return run


def open_run(request: Any, store: Store, kind: str, parse: Parse) -> RunFolder:
    """The run's folder, with the request in it. Raises what `check_run` does."""
    run = check_run(request, store, kind, parse)
    run.write("run.json", request.document())
    return run


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
