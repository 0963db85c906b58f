"""What requests leave open, settled once for a run: on which kind of device, in which precision, from which weights.

It is written to the run before the first key is made, and a resume is bound by it: on another cluster "auto" would
become something else, and other members would be trained under the name of the run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from muster.orchestrator.ensemble.requests import EnsembleRequest, Prepared, Settled
from muster.orchestrator.fleet.places.capacity import (
    auto_precision,
    check_places_for,
    gpu_share,
    here,
    input_remark,
    place_of,
    remarks,
)
from muster.orchestrator.fleet.places.inventory import Inventory
from muster.orchestrator.records.events import Event, event
from muster.orchestrator.records.measured import Place
from muster.orchestrator.settings.request import LaunchRequest
from muster.orchestrator.settings.resources import FAR
from muster.workers.errors import UsageError
from muster.workers.spec import Precision
from muster.workers.store.layout import Store
from muster.workers.store.runs import RunFolder

SETTLED = "settled.json"


@dataclass(frozen=True)
class SettledRun:
    """What a run was begun with."""

    device: str
    "gpu or cpu."
    precision: Precision
    'What "auto" is.'
    weights: dict[str, str] = field(default_factory=dict)
    "The digests of initial weights by backbone and name, as they were asked for."


def settled_run(run: RunFolder) -> SettledRun | None:
    """What a run is bound by; None before it has a plan, and of an older store's. Raises DamagedRunError."""
    found = run.read(SETTLED) if run.begun else None
    return None if found is None else SettledRun(found["device"], found["precision"], found["weights"])


def known_terms(launch: LaunchRequest, run: RunFolder, weights: str = "none") -> Settled:
    """What a launch's keys are made of, as far as the store knows: as the run was begun, or, in an older store, as its
    answer says; else these `weights`, and float32 where the precision is left open."""
    settled = settled_run(run)
    if settled is not None:
        return settled.weights.get(_named(launch), weights), _precision(launch, settled.precision)
    answer = run.read("answer.json") or {}
    return answer.get("weights", weights), _precision(launch, answer.get("precision", "fp32"))


def _precision(launch: LaunchRequest, auto: Precision) -> Precision:
    """What was asked for, and `auto` where that was left open."""
    return auto if launch.ensemble.precision == "auto" else launch.ensemble.precision


def place_here(launch: LaunchRequest, run: RunFolder) -> Place:
    """Where this machine would train its members, on a local head: for a plan that starts nothing."""
    there, before = here(), settled_run(run)
    bound = before is not None and before.device == "cpu" and launch.resources.gpus_per_member is None
    return place_of(launch, 0.0 if bound else gpu_share(launch, there), there)


def _named(launch: LaunchRequest) -> str:
    return f"{launch.ensemble.backbone} {launch.ensemble.weights}"


class ClusterTerms:
    """What the cluster settles of a request. It must have a place for it: UsageError is raised, or there is one."""

    def __init__(self, example: LaunchRequest, run: RunFolder, there: Inventory) -> None:
        """`example` has the job's resources; `there` is what the cluster has."""
        self.run, self.there = run, there
        before = settled_run(run)
        self.gpus = gpu_share(example, self.there)
        "A member's share of a GPU."
        if before is not None and example.resources.gpus_per_member is None:
            if before.device == "gpu" and not self.gpus:
                raise UsageError(
                    f"{run.run} was begun on GPUs, and the cluster has none. Give it GPUs, or go on on CPUs: "
                    f"muster resume {run.run} --gpus-per-member 0."
                )
            self.gpus = self.gpus if before.device == "gpu" else 0.0
        precision = before.precision if before else auto_precision(self.gpus, self.there)
        device = "gpu" if self.gpus else "cpu"
        self._settle(SettledRun(device, precision, before.weights if before else {}))

    def __call__(self, request: EnsembleRequest) -> tuple[str, Precision]:
        """The digest of the initial weights, which are in the store now, and the precision."""
        launch = request.launch
        check_places_for(launch, self.gpus, self.there)
        named, store = _named(launch), Store(self.run.files.root)
        digest = self.settled.weights.get(named)
        if digest is None or (digest != "none" and not store.files.exists(store.weights(digest))):
            found = store_weights(launch, store)
            if digest not in {None, found}:
                raise UsageError(
                    f"--weights {launch.ensemble.weights}: {self.run.run} was begun from other weights "
                    f"({digest[:12]}), and the store's copy of them is gone. Put them back, or give --name another."
                )
            self._settle(replace(self.settled, weights={**self.settled.weights, named: found}))
        return self.settled.weights[named], _precision(launch, self.settled.precision)

    def place(self, launch: LaunchRequest) -> Place:
        """Where its members are trained."""
        return place_of(launch, self.gpus, self.there)

    def _settle(self, settled: SettledRun) -> None:
        self.settled = settled
        self.run.write(SETTLED, asdict(settled))


def terms_of(
    example: LaunchRequest,
    run: RunFolder,
    emit: Callable[[Event], None],
    prepared: Iterable[Prepared | None],
) -> ClusterTerms:
    """What the cluster of this process settles of a job, of which `example` has the resources, and `prepared` the
    images. On a cluster that others run GPUs are waited for; what an operator should know is told. Raises UsageError.
    """
    from muster.orchestrator.fleet.actors.nodes import await_gpus, look_around

    def say(text: str) -> None:
        emit(event("message", level="info", text=text))

    before, share = settled_run(run), example.resources.gpus_per_member
    if os.environ.get(FAR) and not (before is not None and before.device == "cpu" and share is None):
        await_gpus(share, say)
    terms = ClusterTerms(example, run, look_around())
    precision = _precision(example, terms.settled.precision)
    for text in remarks(example, terms.gpus, precision, terms.there):
        say(text)
    largest = max((one.train_bytes for one in prepared if one is not None), default=0)
    if text := input_remark(example, terms.gpus, terms.there, largest):
        say(text)
    return terms


def check_weights(request: LaunchRequest) -> dict[str, Any]:
    """The initial weights, as tensors by name. Raises UsageError if there are none such or they don't fit."""
    from muster.workers.networks import backbones

    backbone = request.ensemble.backbone
    if request.ensemble.weights == "imagenet":
        state = backbones.imagenet_state(backbone)
    else:
        state = backbones.read_state(Path(request.ensemble.weights).expanduser())
    backbones.build(backbone, request.ensemble.D, 0, state)  # fits, or says which tensors don't
    return state


def known_weights(request: LaunchRequest) -> str | None:
    """The digest of the initial weights, "none" without any; None of ImageNet's, which may have to be downloaded.

    Raises UsageError if a file can't be read, or if it doesn't fit the backbone.
    """
    if request.ensemble.weights == "none":
        return "none"
    if request.ensemble.weights == "imagenet":
        return None
    from muster.workers.networks import backbones

    return backbones.state_digest(check_weights(request))


def store_weights(request: LaunchRequest, store: Store) -> str:
    """Puts the initial weights into the store by content and returns their digest, or "none".

    Raises UsageError if there are none such, or if they don't fit the backbone.
    """
    if request.ensemble.weights == "none":
        return "none"
    from safetensors.torch import save

    from muster.workers.networks import backbones

    state = check_weights(request)
    digest, data = backbones.state_digest(state), save(state)
    if store.files.size(store.weights(digest)) != len(data):  # members look at its content
        store.files.put(store.weights(digest), data)
    return digest
