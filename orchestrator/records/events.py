"""What a running job says, one JSON object a line.

The job's driver prints each event on its standard output and keeps it in the run folder; the command
line reads the same lines, through Ray's Jobs API or from the store, and draws them. There is no other
channel between the two. Every event has `event` (its kind) and `t` (Unix seconds); the kinds:

message   level (info|warning|error), text, gpu (node, uuid, name: which one it is about)
stage     name (pack|plan|train|gather|evaluate|report), state (start|end), seconds (at the end)
pack      split, done, total, images_per_s
plan      asked, reused, to_train, text (one line for people)
member    index, key, state (queued|starting|training|embedding|done|reused|retrying|failed|dropped),
          and where they are known: epoch (finished ones), epochs, step, steps (in this epoch), loss,
          images_per_s, seconds_left, attempt, node, node_id, D, message, of (its ensemble, where there are several)
ensemble  done, failed, running, asked, seconds_left
trial     number, settings, state (waiting|reached|complete|cut|plateau|budget|stopped|failed), L (members scored),
          of (the most it may have), metric (what steers), that metric's value under its own name, message
curve     rows: a list of {L, recall_at_1, ..., map_at_r, r_precision, nmi}; shares in 0..1, nmi may be null
alive     nothing has happened, and the driver lives
end       state (done|partial|failed|stopped), exit_code, message, answer (what `launch --json` prints)
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

from muster.workers.store.documents import (
    ANY_NAME,
    COUNT,
    NUMBER,
    SCALAR,
    TEXT,
    Form,
    check_form,
)

Event = dict[str, Any]
_NUMBER, _TEXT, _COUNT = (NUMBER, None), (TEXT, None), (COUNT, None)
_SCALARS = {ANY_NAME: SCALAR}
#: What readers of a run's events go by, for each kind; what is not named may be anything.
FORMS: dict[str, Form] = {
    "message": {"text": TEXT, "gpu?": {"node": TEXT, "uuid": TEXT, "name": TEXT}},
    "stage": {"name": TEXT},
    "plan": {"text": TEXT},
    "member": {
        "index": COUNT, "key": TEXT, "state": TEXT, "epoch?": _COUNT, "epochs?": _COUNT, "D?": _COUNT,
        "loss?": _NUMBER, "images_per_s?": _NUMBER, "seconds_left?": _NUMBER, "node?": _TEXT, "message?": _TEXT,
    },
    "ensemble": {"asked": COUNT},
    "trial": {"number": COUNT, "settings": _SCALARS, ANY_NAME: (SCALAR, None)},
    "end": {"state": TEXT, "exit_code": COUNT, "message": TEXT},
}  # fmt: skip


def event(kind: str, **fields: Any) -> Event:
    """An event of `kind`, stamped with the time."""
    return {"event": kind, "t": round(time.time(), 3), **fields}


def about_gpus(items: Iterable[Event]) -> list[str]:
    """What was said last of each GPU that something was said of."""
    said = {(item["gpu"]["node"], item["gpu"]["uuid"]): item["text"] for item in items if item.get("gpu")}
    return list(said.values())


def to_line(item: Event) -> str:
    """The event as one line of JSON, without the line end."""
    return json.dumps(item, separators=(",", ":"), default=str)


def from_line(line: str) -> Event | None:
    """The event that a line of a job's output holds; None for any other output."""
    if not line.startswith('{"event":'):
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    fine = isinstance(found, dict) and isinstance(found["event"], str) and _is_time(found.get("t"))
    return found if fine else None


def check_event(item: Event) -> None:
    """Raises ValueError if an event lacks what its readers go by."""
    check_form(item, FORMS.get(item["event"], {}))


def _is_time(value: Any) -> bool:
    """Whether it can be a time in Unix seconds: calendars end somewhere."""
    return isinstance(value, int | float) and 0 <= value < 1e11
