"""What `muster reproduce` was asked for, and how one row or panel of it becomes a launch.

A table's row is a plain launch request, so that it is exactly a `muster launch ...` and shares its members with
every launch, search and figure that asks for the same. `--scale` makes the whole a rehearsal: the same steps on
fewer classes, epochs and members.

A figure is a module of the room `figures` with `requests(options)`, ensembles made by `ensemble_request`, and with
`draw(store, folder, got) -> list[str]`: it writes files below `folder` through `store.files.put`, both being names
in the store (`runs/RUN/figures/dreml-fig3`), and returns those names. `got` is by the ensembles' names; of one without
data or members it says why in `trouble`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from muster.orchestrator.ensemble.requests import EnsembleRequest
from muster.orchestrator.methods.loading import load
from muster.orchestrator.settings import compat
from muster.orchestrator.settings.request import STRICT, LaunchRequest
from muster.orchestrator.settings.resources import Resources
from muster.workers import datasets
from muster.workers.datasets import PUBLISHED
from muster.workers.datasets.published import Count
from muster.workers.errors import UsageError
from muster.workers.flags import flag
from muster.workers.forms import APART, form, keyed
from muster.workers.methods.registry import METHODS

#: A rehearsal keeps at least so many, as far as the data have them.
LEAST_CLASSES = 4


@keyed("kind target datasets rows data_root seeds scale weights allow_counts vehicleid_protocol")
@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """All of a reproduction: what is written to `run.json`."""

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    kind: Literal["reproduce"] = "reproduce"
    target: str
    "A table or figure of a paper, or `all`."
    data_root: str | None = field(default=None, metadata=flag())
    "Where your copies lie, as the nodes see it: DIR/cub200, DIR/sop, ..."
    # A target that is asked for its work finds its own list here, never an empty one.
    datasets: tuple[str, ...] = field(default=(), metadata=flag())
    "Data sets, by commas. (default: the paper's)"
    rows: tuple[str, ...] = field(default=(), metadata=flag())
    "Rows of a table, by commas. (default: all)"
    seeds: int = field(default=1, metadata=flag())
    "Each row with so many seeds, 0 and up: mean and spread."
    scale: float = field(default=1.0, metadata=flag())
    "Below 1: a rehearsal with this share of classes, epochs and members."
    weights: tuple[str, ...] = ()
    "Initial weights: none or imagenet, and BACKBONE=FILE; without any, imagenet, but none in a rehearsal or on glyphs."
    allow_counts: bool = field(default=False, metadata=flag())
    "Go on with copies that are not as published; a rehearsal always does."
    vehicleid_protocol: Literal["self", "reid"] = field(default="self", metadata=flag())
    "VehicleID: self, each image asks all others as in the paper; reid, ten random galleries."
    resources: Resources = field(default_factory=Resources, metadata=APART)
    name: str = field(default="", metadata=APART)
    storage: str = field(default="store", metadata=APART)

    def identity(self) -> dict[str, Any]:
        """What makes two reproductions the same one: all but how, where and under which name it runs."""
        found: dict[str, Any] = form(self)
        return found

    def document(self) -> dict[str, Any]:
        """The request as plain values for JSON, as `run.json` keeps it."""
        return compat.stamped(dataclasses.asdict(self))

    @property
    def run(self) -> str:
        return self.name

    @property
    def rehearsal(self) -> str:
        """A sentence that marks whatever a rehearsal gives; "" at full scale."""
        if self.scale == 1:
            return ""
        return (
            f"REHEARSAL at scale {self.scale:g}: fewer classes, epochs and members, random initial weights. "
            "Its numbers say nothing about the method."
        )

    def weights_file(self, backbone: str) -> str | None:
        """The file that was given for a backbone, if there was one."""
        files = dict(entry.split("=", 1) for entry in self.weights if "=" in entry)
        return files.get(backbone)

    def weights_of(self, backbone: str, dataset: str) -> str:
        """The initial weights of a row: a launch's `--weights`."""
        plain = [entry for entry in self.weights if "=" not in entry]
        default = "none" if self.scale < 1 or dataset == "glyphs" else "imagenet"
        return self.weights_file(backbone) or (plain[-1] if plain else default)


def root_of(data_root: str | None, dataset: str) -> str | None:
    """Where a data set lies below `--data-root`: the folder of its name there, or the data root itself.

    In either the data set's reader looks for its files, and for the folder that its archive unpacks to. So a data
    root may hold `cub200/`, or `CUB_200_2011/`, or be one copy itself.
    """
    if dataset not in PUBLISHED or data_root is None:
        return None
    own = Path(data_root).expanduser() / dataset
    return str(own) if own.is_dir() else data_root


def launch_request(
    options: ReproduceOptions, dataset: str, method: str, flags: Mapping[str, Any], seed: int
) -> LaunchRequest:
    """The launch of one ensemble: `flags` are a launch's, by dotted name ("ensemble.D"), as at full scale.

    Data root, initial weights, counts, store and resources come from the options (`flags` may still set
    `resources.nmi`); a rehearsal has its classes, D, L and epochs cut here. Raises UsageError.
    """
    given: dict[str, Any] = {
        "method": method,
        "data.dataset": dataset,
        "data.root": root_of(options.data_root, dataset),
        "data.allow_counts": dataset in PUBLISHED and (options.scale < 1 or options.allow_counts),
        "data.vehicleid_protocol": options.vehicleid_protocol if dataset == "vehicleid" else None,
        "ensemble.seed": seed,
        "storage": options.storage,
        **flags,
    }
    request = load(None, given, [])
    given["ensemble.weights"] = options.weights_of(request.ensemble.backbone, dataset)
    if options.scale < 1:
        given |= _cut(options.scale, request)
    request = load(None, given, [])
    resources = dataclasses.replace(options.resources, nmi=request.resources.nmi)
    if not METHODS[method].multi_rank:
        resources = dataclasses.replace(resources, ranks=1)
    return dataclasses.replace(request, resources=resources)


def ensemble_request(
    options: ReproduceOptions,
    name: str,
    dataset: str,
    method: str,
    flags: Mapping[str, Any],
    seed: int,
    splits: tuple[str, ...] = (),
) -> EnsembleRequest:
    """The ensemble of the launch that `launch_request` makes; `note` says if it is a rehearsal. Raises UsageError."""
    launch = launch_request(options, dataset, method, flags, seed)
    return EnsembleRequest(name=name, launch=launch, splits=splits, note=options.rehearsal)


def _cut(scale: float, whole: LaunchRequest) -> dict[str, Any]:
    """The flags that make a launch a rehearsal of itself."""
    here, full = _training_split(whole.data.dataset, whole.data.root, whole.data.test_list)
    asked = min(whole.data.train_classes or here.classes, here.classes)
    left = max(round(asked * scale), min(LEAST_CLASSES, asked))
    flags: dict[str, Any] = {"data.train_classes": left}
    share = here.images * left / here.classes / full.images
    return {**flags, **whole.settings.rehearsed(whole, scale, share, left)}


@lru_cache(maxsize=32)
def _training_split(dataset: str, root: str | None, test_list: str) -> tuple[Count, Count]:
    """Training images and classes of a copy, and as published; where there is no copy to be read, these are both."""
    data = datasets.open_data_set(dataset, root, allow_counts=True, test_list=test_list)
    try:
        train = data.splits()["train"]
    except UsageError:
        full = PUBLISHED[dataset].about.counts["train"]
        return full, full
    here = Count(len(train.items), len(train.class_names))
    return here, PUBLISHED[dataset].about.counts["train"] if dataset in PUBLISHED else here
