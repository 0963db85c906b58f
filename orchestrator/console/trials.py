"""What a search's trials look like while it runs: a bar for each, or a line where there is no terminal.

It knows `trial` events and nothing else; `progress` draws the bars among its own.
"""

from __future__ import annotations

from muster.orchestrator.records.events import Event
from muster.orchestrator.records.scores import percent

#: States of a trial that is not over.
OPEN = ("waiting", "reached")


class Trials:
    """The trials of a search, each as it was last heard of."""

    def __init__(self) -> None:
        # The terminal's own thread reads it while `follow` writes: it is replaced, never changed.
        self.known: dict[int, Event] = {}

    def follow(self, event: Event) -> str:
        """Takes a `trial` event; the line that tells of it, "" if there is nothing to tell."""
        number = int(event["number"])
        self.known = {**self.known, number: {**self.known.get(number, {}), **event}}
        return "" if event["state"] == "waiting" else trial_line(self.known[number])

    def in_order(self) -> list[Event]:
        """Those that go on come first, so that they are the ones shown where there is little room."""
        return sorted(self.known.values(), key=lambda trial: (trial["state"] not in OPEN, trial["number"]))


def trial_name(event: Event, digits: int = 1) -> str:
    """`trial 2  D=25  lr=0.01`."""
    settings = (
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"  # Optuna's have 17 digits
        for key, value in event["settings"].items()
    )
    return "  ".join([f"trial {event['number']:>{digits}}", *settings])


def score(event: Event) -> str:
    """The newest value of what steers the search: `R@1 85.2`; "" before there is one."""
    metric = str(event.get("metric"))
    if metric not in event:
        return ""
    name = metric.replace("recall_at_", "R@").replace("_at_", "@")
    return f"{name} {percent(event[metric])}"


def trial_line(event: Event) -> str:
    """A trial's newest prefix, or its end, in one line."""
    where = f"L={event['L']} of {event['of']}" if "of" in event else f"L={event['L']}"
    ended = "" if event["state"] in OPEN else event["state"]
    line = ", ".join(part for part in (where, score(event), ended) if part)
    why = str(event.get("message") or "").split("\n")[0]
    name = trial_name(event).replace("  ", " ")
    return f"{name}: {line}" + (f": {why}" if ended == "failed" and why else "")
