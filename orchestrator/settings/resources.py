"""What a run may use: a part of every request that changes no result."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from muster.workers.flags import flag
from muster.workers.spec import check

#: The environment of a job has it on a cluster that others run, whose nodes may still be joining.
FAR = "MUSTER_FAR"


@dataclass(frozen=True, kw_only=True)
class Resources:
    """How it runs: nothing here changes a result."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    parallel: int = field(default=0, metadata=flag(only="ensemble"))
    "Members at once; 0: as many as fit."
    gpus_per_member: float | None = field(default=None, metadata=flag(only="one_process"))
    "A member's share of a GPU; by default 1 where there are GPUs, else 0."
    ranks: int = field(default=1, metadata=flag(only="multi_rank"))
    "Processes that train a model together, each on a GPU of its own where there are any."
    checkpoint_steps: int = field(default=500, metadata=flag(only="multi_rank"))
    "Steps between two checkpoints of a model that several processes can train."
    input: Literal["auto", "device", "host"] = field(default="auto", metadata=flag())
    "Training images: device, in each GPU's memory; host, cut there at each step; auto, on it where they fit."
    eval_memory: str = field(default="1GB", metadata=flag())
    "Memory for evaluation's temporary matrices."
    nmi: bool = True
    "Compute NMI; with ten thousand classes it takes hours on CPUs."
    floors: bool = field(default=True, metadata=flag())
    "Score what is found without training too: the images' pixels, and the network as it begins."
    embedding_type: Literal["float32", "float16"] = "float32"
    "Of the gathered shards."

    def __post_init__(self) -> None:
        share = self.gpus_per_member
        check(
            {
                f"parallel = {self.parallel}: must not be negative": self.parallel >= 0,
                f"ranks = {self.ranks}: must be at least 1": self.ranks >= 1,
                f"checkpoint_steps = {self.checkpoint_steps}: must be at least 1": self.checkpoint_steps >= 1,
                f"gpus_per_member = {share}: a member trains on one GPU, or on a share of it: give 0 to 1": (
                    share is None or 0 <= share <= 1
                ),
                f"eval_memory = {self.eval_memory!r}: write 512MB or 2GB": parse_bytes(self.eval_memory) > 0,
            }
        )

    @property
    def share(self) -> float:
        """The share of a device that a process in training takes; 1.0 where it has no GPU."""
        return self.gpus_per_member or 1.0

    @property
    def devices(self) -> float:
        """What a model in training takes."""
        return self.ranks * self.share


def parse_bytes(text: str) -> int:
    """ "2GB", "512MB", "1GiB" or a plain number, as bytes; 0 for anything else."""
    units = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "B": 1}
    upper = text.strip().upper()
    unit = next((u for u in sorted(units, key=len, reverse=True) if upper.endswith(u)), "")
    try:
        count = float(upper.removesuffix(unit)) * units.get(unit, 1)
    except ValueError:
        return 0
    return max(0, int(count)) if math.isfinite(count) else 0
