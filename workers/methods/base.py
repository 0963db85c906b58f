"""What a method is to a worker process: the type of its specs, what it can do, and where its training code is."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from muster.workers.spec import ModelSpec

if TYPE_CHECKING:
    import torch

    from muster.workers.train.trainer import Materials, Trainer


class Training(Protocol):
    """What a method's training module offers; each is a function or a class of the module."""

    def trainer(self, spec: Any, materials: Materials) -> Trainer:
        """A model at its very beginning, ready to be trained or to go on from a checkpoint."""

    def network(self, spec: Any, initial: Any = None) -> torch.nn.Module:
        """The network that a model's weights fit, on the CPU: images [n, 3, side, side] to vectors [n, dimension].

        `initial`, the pretrained weights of a method whose models are not trained.
        """


@dataclass(frozen=True)
class Method:
    """A method by its name, as planners know it: no torch is loaded until `training` is asked for."""

    name: str
    spec_type: type[ModelSpec]
    training_module: str
    multi_rank: bool = False
    "Whether several processes can train one model together."
    ensemble: bool = False
    "Whether it trains an ensemble of members, and not one model."
    untrained: bool = False
    "Whether its models keep the weights that they begin with: `training.network(spec, initial)` has them."

    @property
    def one_process(self) -> bool:
        """Whether a model is trained by one process, which may share a GPU."""
        return not self.multi_rank

    @property
    def training(self) -> Training:
        """Its training code. Loads torch."""
        module: Any = importlib.import_module(self.training_module)
        found: Training = module
        return found
