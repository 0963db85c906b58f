"""What became of every file and link below a data root: taken, or left out for a reason that is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from muster.workers.names import SHOWN, shortened

NO_PICTURE = "no pictures"
LITTER = "hidden, or left by programs"
OWN_STORE = "files of a muster store"
RAW = "raw files of cameras"
LOOSE = "pictures in no class folder"
NO_FILE = "neither files nor folders"
LEADS_BACK = "links that lead back to a folder above"
INNER_LINK = "links to folders inside a class"
DANGLING = "links that lead nowhere"
BESIDE = "pictures beside the splits"


@dataclass
class Left:
    """Entries that were left out for one reason."""

    count: int = 0
    first: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    "By suffix, where that says why."

    def add(self, name: str, kind: str = "") -> None:
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(name)
        if kind:
            self.kinds[kind] += 1


@dataclass
class Account:
    """All files and links below a root, or the rows of a table, each once: they are taken, followed, or left out for a
    reason."""

    what: str = "files and links"
    taken: int = 0
    followed: int = 0
    "Links to class folders, whose files are counted as well."
    left: dict[str, Left] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    "Class folders in which nothing was taken."

    def leave(self, reason: str, name: str, kind: str = "") -> None:
        if reason not in self.left:  # there may be a million to leave out
            self.left[reason] = Left()
        self.left[reason].add(name, kind)

    def leave_many(self, reason: str, count: int, name: str) -> None:
        """Leaves out `count` entries below the folder `name`."""
        if count:
            self.leave(reason, f"{name}/")
            self.left[reason].count += count - 1

    def give_back(self, reason: str, count: int, name: str) -> None:
        """Leaves out `count` pictures below the folder `name` that were taken."""
        self.taken -= count
        self.leave_many(reason, count, name)

    @property
    def entries(self) -> int:
        return self.taken + self.followed + sum(left.count for left in self.left.values())

    def document(self) -> dict[str, Any]:
        """For JSON: `entries` is the sum of `taken`, `followed` and the counts of `left_out`."""
        left = [
            {"reason": reason, "count": one.count, "first": one.first, "kinds": dict(one.kinds.most_common())}
            for reason, one in sorted(self.left.items(), key=lambda item: -item[1].count)
        ]
        counts = {"entries": self.entries, "taken": self.taken, "followed": self.followed}
        return {**counts, "left_out": left, "empty_classes": self.empty}

    def texts(self) -> list[str]:
        """What was left out, for people: a sentence, and one for classes without a picture."""
        found = []
        if self.left:
            parts = [
                _left_text(reason, one)
                for reason, one in sorted(self.left.items(), key=lambda item: -item[1].count)
            ]
            found.append(f"{self.entries:,} {self.what}: {self.taken:,} taken; left out {'; '.join(parts)}.")
        if self.empty:
            found.append(
                f"{len(self.empty):,} folder(s) hold no picture and are no classes: {shortened(self.empty)}."
            )
        return found


def _left_text(reason: str, left: Left) -> str:
    if left.kinds:
        kinds = [f"{kind} {count:,}" for kind, count in left.kinds.most_common(SHOWN)]
        others = len(left.kinds) - len(kinds)
        return f"{left.count:,} {reason} ({', '.join(kinds)}{f' and {others} other kinds' if others else ''})"
    return f"{left.count:,} {reason} ({shortened(left.first, left.count)})"


def remark_text(remark: str, names: Sequence[str], number: int) -> str:
    """What must be said of so many pictures, of which `names` are the first."""
    return f"{number:,} picture(s) have {remark}: {shortened(names, number)}."
