"""What a cluster has, node by node: by Ray's count, and its GPUs by what their drivers tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from muster.orchestrator.fleet.places.nodes import Resources, gpus_of, on_each_gpu, room_of
from muster.workers.gpus.nvml import Card

#: GPUs with bf16 arithmetic of their own, as Ray names them: for nodes whose drivers were not asked.
WITH_BF16 = (
    "A100", "A10", "A30", "A40", "H100", "H200", "H20", "B200", "B300", "GH200", "GB200", "L4", "L20", "L40",
    "GeForce-RTX-30", "GeForce-RTX-40", "GeForce-RTX-50", "RTX-A", "RTX-PRO", "RTX-2000-Ada", "RTX-4000-Ada",
    "RTX-5000-Ada", "RTX-6000-Ada",
)  # fmt: skip
KIND = "accelerator_type:"
#: Of such a one nobody says that it lacks anything, and "auto" does not rely on it.
UNKNOWN = "a GPU of unknown kind"


@dataclass(frozen=True)
class Node:
    """A machine of a cluster."""

    host: str
    has: Mapping[str, float]
    "By Ray's names: CPU, GPU, accelerator_type:H100, ..."
    cards: tuple[Card, ...] | None = None
    "Its GPUs; None where the driver was not asked, or did not answer."
    group: str = ""
    "Of which group of workers it is, where the cluster's manager says so."

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of its GPUs, as Ray names them."""
        return tuple(name.removeprefix(KIND) for name in self.has if name.startswith(KIND))

    @property
    def lacking_bf16(self) -> list[str]:
        """Its GPUs that have neither bf16 nor TF32, for people: both came with compute capability 8.0."""
        if self.cards:
            old = [f"{card.name} {card.uuid} of {self.host}" for card in self.cards if not card.bf16]
            hides_some = len(self.cards) > self.has.get("GPU", 0.0)  # most likely the old ones
            named_new = all(kind.startswith(WITH_BF16) for kind in self.kinds)
            return [] if hides_some and named_new and len(old) < len(self.cards) else old
        if self.kinds and all(kind.startswith(WITH_BF16) for kind in self.kinds):
            return []
        return [f"{kind} of {self.host}" for kind in self.kinds or (UNKNOWN,)]


@dataclass(frozen=True)
class Inventory:
    """The nodes that are alive, by Ray's ids."""

    nodes: Mapping[str, Node]

    @classmethod
    def of(cls, has: Mapping[str, float], cards: tuple[Card, ...] | None = None) -> Inventory:
        """Of one machine."""
        return cls({"here": Node("this machine", has, cards)})

    def total(self, name: str) -> float:
        """How much all nodes have of it."""
        return sum(node.has.get(name, 0.0) for node in self.nodes.values())

    @property
    def resources(self) -> Resources:
        return {name: node.has for name, node in self.nodes.items()}

    @property
    def with_gpus(self) -> Iterator[Node]:
        return (node for node in self.nodes.values() if node.has.get("GPU", 0.0))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of GPUs, as Ray names them."""
        return tuple(dict.fromkeys(kind for node in self.with_gpus for kind in node.kinds))

    @property
    def lacking_bf16(self) -> list[str]:
        """The GPUs that have no bf16, for people."""
        return [name for node in self.with_gpus for name in node.lacking_bf16]

    @property
    def known_to_lack_bf16(self) -> list[str]:
        """Those of which it is known."""
        return [name for name in self.lacking_bf16 if not name.startswith(UNKNOWN)]

    @property
    def whole_gpus(self) -> int:
        """Those of nodes on which none is divided into slices."""
        nodes = (node for node in self.with_gpus if not any(card.mig for card in node.cards or ()))
        return int(sum(node.has["GPU"] for node in nodes))

    def room(self, gpus: float, threads: int) -> int:
        """How many members fit, by their share of a GPU, or by their threads."""
        return sum(room_of(self.resources, gpus, threads).values())

    def bound(self, share: float) -> str:
        """What lets fewer members run at once than the GPUs would hold, or ""."""
        whole = int(1 / share + 1e-6)
        short = [
            node
            for node in self.with_gpus
            if on_each_gpu(node.has, share) * gpus_of(node.has) < _most(node, whole)
        ]
        if not short:
            return ""
        groups = dict.fromkeys(
            f"worker group {node.group}" if node.group else f"node {node.host}" for node in short
        )
        fit = sum(_most(node, whole) for node in self.with_gpus)
        return f"{self.room(share, 1)} members at once: CPUs of {', '.join(groups)}; {fit} would fit the GPUs"


def _most(node: Node, whole: int) -> int:
    return int(node.has.get("GPU", 0.0)) * whole
