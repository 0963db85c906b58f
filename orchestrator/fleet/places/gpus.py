"""The GPUs that a fleet holds: which of them a member goes to, and which one had better get none.

It knows no Ray and waits for nothing: `holding.py` does. A GPU on which members fail gets none until it was looked
at in a process of its own, and after too many failures in a row none for a while. Nobody else on the cluster gets it
meanwhile, as it is still held: that is how a bad GPU is kept out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from muster.orchestrator.fleet.places.nodes import STRIKES
from muster.workers.gpus.nvml import Card

#: What an operator can do about a GPU that fails.
CURE = (
    "Look at `nvidia-smi -q` and `dmesg | grep Xid` on that node; reset the GPU or take it out of service, and "
    "`muster resume` uses what is left"
)

#: And where Ray was told of GPUs that no driver knows.
UNKNOWN_CURE = (
    "No driver tells of it: start Ray on its node without --num-gpus, or train on CPUs by --gpus-per-member 0"
)


def divided(cards: Sequence[Card]) -> str:
    """What to say of a GPU of a machine with these, where it is divided and Ray counts it as one."""
    known = all(card.slices or not card.mig for card in cards)
    uuids = [part.uuid for card in cards for part in card.parts if part.uuid]  # one that is lost has none
    these = ",".join(uuids) if known else "the UUIDs that `nvidia-smi -L` shows"
    return (
        "it is divided into slices (MIG), and Ray counts it as one: start Ray on its node with CUDA_VISIBLE_DEVICES="
        f"{these} and --num-gpus {len(uuids) if known else 'as many'}"
    )


@dataclass(frozen=True)
class Gpu:
    """A GPU that is held, as its holder tells."""

    node: str
    "Ray's id of its node."
    host: str
    visible: str
    "What CUDA_VISIBLE_DEVICES is to be for it alone: its UUID, or where there is no NVML Ray's number."
    name: str = ""
    "As its driver calls it; none where there is no driver that could."
    trouble: str = ""
    "Why no member could use it, as far as its holder sees."
    bf16: bool = True
    "Has it bf16 and TF32 arithmetic of its own? Where that is not told it is left to the member."
    none_bf16: bool = False
    "Has no GPU of its node that?"

    @property
    def key(self) -> str:
        """What tells it from all others of a cluster: numbers are those of a node."""
        return f"{self.node}/{self.visible}"

    @property
    def shown(self) -> str:
        """For people."""
        return f"GPU {self.visible}{f' ({self.name})' if self.name else ''} of node {self.host}"

    @property
    def cure(self) -> str:
        """What to do where it fails."""
        return CURE if self.name else UNKNOWN_CURE


@dataclass(eq=False)
class Held:
    """A held GPU and what has been seen of it."""

    gpu: Gpu
    slots: int
    "Members that share it."
    members: dict[str, float] = field(default_factory=dict)
    "The keys of those that run on it, and beside how many others each may."
    strikes: int = 0
    "Failures in a row."
    proven: bool = False
    "Has a member taken steps on it, or ended well since the last failure?"
    out: bool = False
    "It gets no member until it was looked at."
    idle_since: float | None = -math.inf
    "From when on nobody has been on it, as far as was looked; None: somebody is."
    lost: bool = False
    "Is it not held any more? Members that are on it go on and nobody joins them; of a bad one it is remembered."
    hopeless: bool = False
    "Was it looked at in vain, or did members fail on it too often?"

    @property
    def usable(self) -> bool:
        """May it get members?"""
        return not self.out and not self.lost

    @property
    def limit(self) -> int:
        """Members at once: one that has proven nothing yet may cost no more attempts than those that it has left."""
        return self.slots if self.proven else max(1, min(self.slots, STRIKES - self.strikes))

    def strike(self) -> bool:
        """A member failed for its sake. It is out until it was looked at; whether that was one failure too many."""
        self.strikes, self.proven, self.out = self.strikes + 1, False, True
        self.hopeless = self.strikes >= STRIKES
        return self.hopeless

    def prove(self) -> bool:
        """A member takes steps on it, which has failed nobody of late. Whether that is news. A GPU that fails members
        in the middle lets them take steps, too: what it failed is forgiven once one ends well."""
        if self.strikes or self.proven:
            return False
        self.proven = True
        return True

    def forgive(self) -> None:
        """A member ended well on it."""
        if self.usable:
            self.strikes, self.proven = 0, True

    def let_in(self) -> None:
        """It was looked at and found in order."""
        self.out = self.hopeless = False
        self.strikes = min(self.strikes, STRIKES - 1)


class Gpus:
    """All that a fleet holds, by their keys."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}

    def usable(self) -> list[Held]:
        """Those that may get members."""
        return [held for held in self.held.values() if held.usable]

    def room(self) -> bool:
        """Whether any of them can take one more member."""
        return any(len(held.members) < held.limit for held in self.usable())

    def place(
        self, avoided: Collection[str], bad: Collection[str], beside: float, *, bf16: bool = False
    ) -> Held | None:
        """The GPU for a member: none of the nodes `avoided` or of the GPUs `bad`, beside at most so many others, with
        `bf16` where it needs that; of those the emptiest, and the most reliable. None if it has to wait."""
        fit = [
            held
            for held in self.usable()
            if len(held.members) < held.limit
            and len(held.members) <= min([beside, *held.members.values()])
            and held.gpu.node not in avoided
            and held.gpu.key not in bad
            and (held.gpu.bf16 or not bf16)
        ]
        return min(fit, key=lambda held: (len(held.members), held.strikes, not held.proven), default=None)

    def sound(self, *, bf16: bool = False) -> list[Held]:
        """Those that failed nobody of late, and with `bf16` have it. The others may get members too, but not everyone
        goes there, and bad ones are not given back: somebody else would get them."""
        return [held for held in self.usable() if not held.strikes and (held.gpu.bf16 or not bf16)]
