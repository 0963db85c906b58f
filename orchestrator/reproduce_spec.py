"""What `muster reproduce` was asked for, and how one row or panel of it becomes a launch.

A table's row is a plain launch request, so that it is exactly a `muster launch ...` and shares its members with
every launch, search and figure that asks for the same. `--scale` makes the whole a rehearsal: the same steps on
fewer classes, epochs and members.

A figure is a module of `orchestrator.figures` with `asks(options) -> list[Ask]`, made by `make_ask`, and
`draw(store, folder, got) -> list[str]`: it writes files below `folder` through `store.files.put`, both being names
in the store (`runs/RUN/figures/dreml-fig3`), and returns those names. `got` is by the asks' names; of one without
data or members it says why in `trouble`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_type_hints

from orchestrator.asks import Ask
from orchestrator.spec import STRICT, LaunchRequest, Resources, load
from workers import datasets
from workers.datasets import PUBLISHED
from workers.errors import UsageError

#: A rehearsal keeps at least so much of each, as far as the data have it.
LEAST_CLASSES, LEAST_MEMBERS, LEAST_EPOCHS = 4, 2, 1
METHODS: tuple[str, ...] = get_args(get_type_hints(LaunchRequest)["method"])


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """All of a reproduction: what is written to `run.json`."""

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    kind: Literal["reproduce"] = "reproduce"
    target: str
    "A table or figure of a paper, or `all`."
    datasets: tuple[str, ...] = ()
    "Those wanted of the target's; a target that is asked for its work finds its own list here, never an empty one."
    rows: tuple[str, ...] = ()
    "The rows wanted of a table; empty: all."
    data_root: str | None = None
    "Where the copies of the data sets lie, as the nodes see it: see `root_of`."
    seeds: int = 1
    "Each row with seeds 0 .. N-1: mean and spread."
    scale: float = 1.0
    "Below 1: a rehearsal with so much of the classes, epochs and members."
    weights: str | None = None
    "Initial weights: none, imagenet or a file; None: imagenet, but none in a rehearsal and on glyphs."
    allow_counts: bool = False
    "Go on with copies that are not as published; a rehearsal always does."
    resources: Resources = dataclasses.field(default_factory=Resources)
    name: str = ""
    storage: str = "store"

    def identity(self) -> dict[str, Any]:
        """What makes two reproductions the same one: all but how, where and under which name it runs."""
        found = dataclasses.asdict(self)
        for field in ("resources", "name", "storage"):
            del found[field]
        return found

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
    if method not in METHODS:
        raise UsageError(f"this version of muster has no `muster launch {method}`.")
    rehearsal = options.scale < 1
    given: dict[str, Any] = {
        "data.dataset": dataset,
        "data.root": root_of(options.data_root, dataset),
        "data.allow_counts": dataset in PUBLISHED and (rehearsal or options.allow_counts),
        "ensemble.seed": seed,
        "ensemble.weights": options.weights or ("none" if rehearsal or dataset == "glyphs" else "imagenet"),
        "storage": options.storage,
        **flags,
    }
    if method != "dreml":
        given["method"] = method
    request = load(None, given, [])
    if rehearsal:
        request = load(None, {**given, **_cut(options.scale, request)}, [])
    resources = dataclasses.replace(options.resources, nmi=request.resources.nmi)
    return dataclasses.replace(request, resources=resources)


def make_ask(
    options: ReproduceOptions,
    name: str,
    dataset: str,
    method: str,
    flags: Mapping[str, Any],
    seed: int,
    splits: tuple[str, ...] = (),
) -> Ask:
    """An ask for the launch that `launch_request` makes; its `note` says if it is a rehearsal. Raises UsageError."""
    request = launch_request(options, dataset, method, flags, seed)
    return Ask(name=name, request=request, splits=splits, note=options.rehearsal)


def _cut(scale: float, whole: LaunchRequest) -> dict[str, Any]:
    """The flags that make a launch a rehearsal of itself."""
    total = _classes(whole.data.dataset, whole.data.root, whole.data.test_list)
    asked = min(whole.data.train_classes or total, total)
    left = max(round(asked * scale), min(LEAST_CLASSES, asked))
    epochs = max(round(whole.recipe.epochs * scale), LEAST_EPOCHS)
    # A network with an output for each of the classes that it was cut to keeps that.
    single = whole.data.train_classes == whole.ensemble.D
    flags: dict[str, Any] = {
        "data.train_classes": left,
        "ensemble.D": left if single else max(2, min(whole.ensemble.D, left // 2)),
        # A single network stays one: there is no ensemble to rehearse.
        "ensemble.L": max(round(whole.ensemble.L * scale), min(LEAST_MEMBERS, whole.ensemble.L)),
        "recipe.epochs": epochs,
    }
    if whole.recipe.schedule == "step":
        flags["recipe.step_epochs"] = max(1, round(whole.recipe.step_epochs * epochs / whole.recipe.epochs))
    return flags


@lru_cache(maxsize=32)
def _classes(dataset: str, root: str | None, test_list: str) -> int:
    """Training classes of a copy; where there is none to be read, as many as were published."""
    data = datasets.open_data_set(dataset, root, allow_counts=True, test_list=test_list)
    try:
        return len(data.splits()["train"].class_names)
    except UsageError:
        return PUBLISHED[dataset].about.counts["train"].classes
