"""How far an ensemble is and how long it will still take, from its members' events alone."""

from __future__ import annotations

from typing import Any

from muster.orchestrator.records.events import Event, event
from muster.orchestrator.records.scores import duration

#: Steps after which a model whose like the store never saw is taken to have shown its pace.
FIRST_STEPS = 20
RUNNING = {"starting", "training", "embedding"}
DONE = {"done", "reused"}


class Forecast:
    """Follows the events of an ensemble of `asked` members; of more, where more are heard of.

    `seconds_each` is what a member was planned to take; None if nothing was known. Once members of this run
    have finished, their mean time counts; until then what the running ones say of themselves.
    """

    def __init__(self, asked: int, seconds_each: float | None) -> None:
        self.asked, self.seconds_each = asked, seconds_each
        self.members: dict[str, Event] = {}
        self.began: dict[str, float] = {}
        self.took: list[float] = []
        self.measured = seconds_each is not None

    def follow(self, item: Event) -> bool:
        """Takes a member's event; whether it entered another state."""
        key, state = item["key"], item["state"]
        before = self.members.get(key, {})
        self.members[key] = {**before, **item}
        if state == "starting" and before.get("state") != "starting":
            self.began[key] = item["t"]
        if state == "done" and key in self.began:
            self.took.append(item["t"] - self.began[key])
        return bool(before.get("state") != state)

    def first_contact(self) -> str:
        """Once, where the store had nothing like these models: what the first one's pace says of all; else ""."""
        if self.measured:
            return ""
        for key, member in self.members.items():
            ended = member["state"] == "done"
            under_way = member.get("epoch", 0) > 0 or member.get("step", 0) >= FIRST_STEPS
            if key in self.began and (ended or (under_way and "seconds_left" in member)):
                self.measured = True
                each = member["t"] - self.began[key] + (0.0 if ended else member["seconds_left"])
                left = duration(self.event()["seconds_left"])
                on = "its whole training" if ended else f"its first {FIRST_STEPS} steps or more"
                return (
                    f"measured on {on}: a model takes about {duration(each)}, and all of them {left} from now"
                )
        return ""

    def event(self) -> Event:
        """The `ensemble` event of this moment."""
        states = [member["state"] for member in self.members.values()]
        done, failed = sum(state in DONE for state in states), states.count("failed")
        running = [member for member in self.members.values() if member["state"] in RUNNING]
        self.asked = max(self.asked, done + len(running))
        counts: dict[str, Any] = {
            "done": done,
            "failed": failed,
            "running": len(running),
            "asked": self.asked,
        }
        return event("ensemble", **counts, seconds_left=self._left(running, self.asked - done - failed))

    def _left(self, running: list[Event], unfinished: int) -> float | None:
        each = self._each(running)
        if each is None or not running:
            return None
        under_way: float = sum(min(each, member.get("seconds_left", each)) for member in running)
        return round((under_way + each * (unfinished - len(running))) / len(running), 1)

    def _each(self, running: list[Event]) -> float | None:
        if self.took:
            return sum(self.took) / len(self.took)
        known = [m["t"] - self.began[m["key"]] + m["seconds_left"] for m in running if "seconds_left" in m]
        return sum(known) / len(known) if known else self.seconds_each
