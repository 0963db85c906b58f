"""Runs as the store knows them: no cluster is asked, so they can be read when it is off."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from muster.orchestrator.fleet.budget import images_per_s
from muster.orchestrator.records.events import Event, about_gpus, check_event, from_line
from muster.orchestrator.records.identity import no_run
from muster.orchestrator.settings import compat
from muster.workers.errors import CorruptFileError, DamagedRunError, StoreError, UsageError
from muster.workers.quantities import time_text
from muster.workers.store.documents import COUNT, check_form
from muster.workers.store.files import FileRecord
from muster.workers.store.layout import Store
from muster.workers.store.runs import RunFolder

#: A run that said nothing for so long, and has no end, has lost its driver: it would say that it lives.
SILENT_SECONDS = 60.0
FINISHED = {"done", "reused"}


def _read_events(folder: RunFolder, segments: Sequence[str], record: Mapping[str, FileRecord]) -> list[Event]:
    """The events of these segments. Raises DamagedRunError."""
    found = []
    for name in segments:
        text = (folder.get(f"events/{name}", record) or b"").decode(errors="replace")
        items = [item for line in text.splitlines() if (item := from_line(line)) is not None]
        try:
            for item in items:
                check_event(item)
        except ValueError as error:
            raise folder.damaged(f"events/{name}", f"what it says makes no sense ({error})") from error
        found += items
    return found


def _newest_segments(folder: RunFolder, record: Mapping[str, FileRecord]) -> list[str]:
    """The names of the newest attempt's segments, in order: of a finished run those that its record has. Attempts are
    named by the clocks of who asked for them, which may differ by hours: where there are several, the storage's clock
    says which was written last. Raises DamagedRunError if one is gone."""
    attempts: dict[str, list[str]] = {}
    for name in folder.files.names(folder / "events"):
        attempts.setdefault(name.rpartition("-")[0], []).append(name)
    if promised := [name.removeprefix("events/") for name in record if name.startswith("events/")]:
        mine = attempts.get(promised[0].rpartition("-")[0], [])
        if lost := [name for name in promised if name not in mine]:
            raise folder.damaged(f"events/{lost[0]}", "it is gone")
        return mine
    if len(attempts) < 2:
        return next(iter(attempts.values()), [])
    written = {
        attempt: (folder.files.modified(folder / f"events/{names[-1]}") or 0.0, attempt)
        for attempt, names in attempts.items()
    }
    return attempts[max(attempts, key=lambda attempt: written[attempt])]


def run_status(store: Store, run: str) -> dict[str, Any]:
    """A run's state, counts, members and answer.

    Raises UsageError if there is no such run, and DamagedRunError if a file of it is not what it should be.
    """
    folder = store.run(run)
    saved = folder.read("run.json")
    if saved is None:  # nothing was submitted under this name
        raise no_run(store, run)
    request = compat.current(saved, folder.place("run.json"))
    record = folder.record()
    segments = _newest_segments(folder, record)
    events = _read_events(folder, segments, record)
    end = next((item for item in reversed(events) if item["event"] == "end"), None)
    members: dict[str, dict[str, Any]] = {}
    for item in events:
        if item["event"] == "member":
            known_fields = {name: value for name, value in item.items() if name not in {"event", "t"}}
            members[item["key"]] = {**members.get(item["key"], {}), **known_fields}
    rows = sorted(members.values(), key=lambda row: (row["index"], row.get("D", 0)))
    heard = events[-1]["t"] if events else None
    return {
        "run": run,
        "state": _state(folder, segments, events),
        "heard": None if heard is None else time_text(heard),
        "stage": next((item["name"] for item in reversed(events) if item["event"] == "stage"), None),
        "plan": next((item["text"] for item in reversed(events) if item["event"] == "plan"), None),
        "message": end["message"] if end else None,
        "kind": request.get("kind", "launch"),
        "asked": max(len(members), _asked(folder, request, events)),
        "done": sum(member["state"] in FINISHED for member in members.values()),
        "failed": sum(member["state"] == "failed" for member in members.values()),
        "members": rows,
        **({"gpus": gpus} if (gpus := about_gpus(events)) else {}),
        "trials": _trials(events),
        "ensembles": _ensembles(folder.read("plan.json"), members),
        "answer": folder.read("answer.json") if end and end["state"] in {"done", "partial"} else None,
    }


def recorded_status(store: Store, run: str) -> dict[str, Any]:
    """`run_status` with what the finished members' commit records say: a file is read for each of them."""
    found = run_status(store, run)
    for row in found["members"]:
        if row["state"] in FINISHED:
            row.update(_recorded(store, row["key"]))
    return {**found, "done": sum(row["state"] in FINISHED for row in found["members"])}


def _recorded(store: Store, key: str) -> dict[str, Any]:
    """What a finished member's commit record says of its training; that it is gone, if it is."""
    try:
        done = store.model(key).done()
        if done is not None:
            facts = done.facts
            return {"loss": facts["loss"], "images_per_s": images_per_s(facts), "node": facts["node"]}
    except (CorruptFileError, KeyError, TypeError, ValueError):
        pass
    except StoreError as error:  # it may be whole
        return {"state": "unreadable", "message": str(error)}
    return {"state": "lost", "message": "its record is gone or damaged: muster resume makes it again"}


def _asked(run: RunFolder, request: dict[str, Any], events: list[Event]) -> int:
    """The members a launch asks for; of any other run, those that its events came to so far."""
    if request.get("kind", "launch") == "launch":
        try:
            check_form(request, {"ensemble": {"L": COUNT}})
        except ValueError as error:
            raise run.damaged("run.json", str(error)) from error
        return int(request["ensemble"]["L"])
    counts = [item["asked"] for item in events if item["event"] == "ensemble"]
    return counts[-1] if counts else 0


def _ensembles(plan: dict[str, Any] | None, members: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Of a reproduction: how far each of its ensembles is, which may share members."""
    rows = []
    for name, ask in (plan or {}).get("asks", {}).items():
        states = [members[key]["state"] if key in members else "queued" for key in ask["members"]]
        done = sum(state in FINISHED for state in states)
        rows.append(
            {"ensemble": name, "done": done, "asked": len(states), "failed": states.count("failed"),
             "note": ask["trouble"]}
        )  # fmt: skip
    return rows


def _trials(events: list[Event]) -> list[dict[str, Any]]:
    """A search's trials, each as it was last heard of."""
    found: dict[int, dict[str, Any]] = {}
    for item in events:
        if item["event"] == "trial":
            kept = item.keys() - {"event", "t", "settings", "of", "metric"}
            said = {key: value for key, value in item.items() if key in kept}
            found[item["number"]] = {**found.get(item["number"], {}), **item["settings"], **said}
    return [found[number] for number in sorted(found)]


def _state(folder: RunFolder, segments: Sequence[str], events: Sequence[Event]) -> str:
    end = next((item for item in reversed(events) if item["event"] == "end"), None)
    if end is not None:
        return str(end["state"])
    if not events:
        return "new"
    written = folder.files.modified(folder / f"events/{segments[-1]}") or events[-1]["t"]
    return "running" if _is_recent(folder, written) else "lost"


def _is_recent(folder: RunFolder, written: float) -> bool:
    """Whether a file was written just now, by the clock of its store: the driver's may be another, and so may ours."""
    age = time.time() - written
    if abs(age) < SILENT_SECONDS:
        return True
    try:
        now = folder.files.now(folder / "events")
    except StoreError:  # nothing can be written here
        now = None
    return age < SILENT_SECONDS if now is None else abs(now - written) < SILENT_SECONDS


def list_runs(store: Store) -> list[dict[str, Any]]:
    """A row for each run: run, state, done, asked, failed, heard.

    The state is damaged where a run's files are not what they should be, newer where a later muster wrote them, and
    unreadable where they can't be read at all, as they are another user's.
    """
    rows = []
    for run in store.runs():
        try:
            if not any(store.files.exists(store.run(run) / name) for name in ("run.json", "DONE.json")):
                continue
            found = run_status(store, run)
        except compat.NewerRunError:
            found = {"run": run, "state": "newer"}
        except DamagedRunError:  # `muster status` says more, and the others can be read
            found = {"run": run, "state": "damaged"}
        except StoreError:
            found = {"run": run, "state": "unreadable"}
        rows.append({name: found.get(name) for name in ("run", "state", "done", "asked", "failed", "heard")})
    return rows


def member_logs(store: Store, run: str, member: int | None, tail: int) -> list[tuple[str, list[str]]]:
    """(title, last lines) of each attempt's log, in the order of members and attempts.

    Raises UsageError if there is no such run or no log.
    """
    status = run_status(store, run)
    numbers = {row["key"]: row["index"] for row in status["members"]}
    folder, found = store.run(run), []
    record = folder.record()
    promised = {name.removeprefix("logs/") for name in record if name.startswith("logs/")}
    for name in sorted({*store.files.names(folder / "logs"), *promised}):
        key, _, attempt = name.removesuffix(".log").partition("-")
        index = numbers.get(key, 0)
        if numbers and not index:  # what its members are compared with, or learn from
            continue
        if member in {None, index}:
            try:
                text = (folder.get(f"logs/{name}", record) or b"").decode(errors="replace")
            except StoreError as error:  # it is gone or another one; the others can be read
                text = str(error)
            lines = text.splitlines()
            title = f"member {index}" if index else f"key {key}"
            found.append((index, attempt, title, lines[max(0, len(lines) - tail) :]))
    if not found:
        which = f"member {member}" if member is not None else "members"
        raise UsageError(
            f"There are no logs of {which} in run {run}: reused members have theirs where they trained."
        )
    return [(f"{title}, attempt {attempt}", lines) for _, attempt, title, lines in sorted(found)]
