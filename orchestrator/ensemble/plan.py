"""What a run needs, what the store already has, and what is left to pay for.

Planning reads listings, pack indexes and commit records; it trains nothing and needs no cluster. The keys
that it makes are the ones the fleet trains.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from muster.orchestrator.fleet.device_time import device_time
from muster.orchestrator.settings.request import LaunchRequest, open_data
from muster.workers.datasets import DataSet, Split
from muster.workers.errors import BadImagesError, StoreError, UsageError
from muster.workers.methods.registry import method_of
from muster.workers.packs import build as packing
from muster.workers.packs.pack import PackIndex
from muster.workers.rng import permutation
from muster.workers.score.combine import Combination
from muster.workers.spec import ModelSpec, Precision
from muster.workers.store.layout import Done, Store, parse_json
from muster.workers.task import Images, MemberTask, Target, missing

#: Called with (split, images done, images in all).
PackProgress = Callable[[str, int, int], None]
SAMPLED_MODELS = 40


@dataclass(frozen=True)
class Prepared:
    """The images of a run, packed: what keys are made of."""

    train: Images
    classes: int
    targets: tuple[Target, ...]
    "The vectors wanted of each member: test, and val if there is one."
    warnings: tuple[str, ...]
    facts: dict[str, object]
    "For the report: sizes, classes, digests."


@dataclass(frozen=True)
class Plan:
    """The members of a run, in index order, and which of them the store lacks."""

    tasks: tuple[MemberTask, ...]
    to_train: tuple[str, ...]
    "Keys without weights."
    to_embed: tuple[str, ...]
    "Keys with weights and without some of the vectors."
    seconds_each: float | None
    "Expected seconds for a member; None if nothing like it was measured."
    basis: str
    combination: Combination | None = None
    "Of a model with learners."
    devices: float = 1.0
    "That a member takes while it trains."

    @property
    def device_seconds(self) -> float | None:
        """Expected of all that is to train."""
        return self.seconds_each and self.seconds_each * self.devices * len(self.to_train)

    @property
    def reused(self) -> int:
        return len(self.tasks) - len(self.to_train)

    def sentence(self) -> str:
        """The plan in one line."""
        members = counted_members(len(self.tasks), one=not method_of(self.tasks[0].spec).ensemble)
        if not self.to_train:
            return f"{members}: all found in the store, none to train."
        cost = "cost unknown: nothing like it in the store"
        if self.device_seconds is not None:
            cost = f"about {device_time(self.device_seconds)}, {self.basis}"
        return f"{members}: {self.reused} in the store, {len(self.to_train)} to train, {cost}."


def counted_members(count: int, *, one: bool) -> str:
    """How many, for people; `one`: the method trains one model and no ensemble."""
    return f"{count} {'model' if one else 'member'}{'s' * (count != 1)}"


def check_listing(request: LaunchRequest) -> tuple[DataSet, dict[str, Split]]:
    """Opens the data set and checks the request against its lists, before anything is decoded or started.

    Raises UsageError with all that is wrong.
    """
    data = open_data(request.data)
    splits = dict(data.splits())
    total = len(splits["train"].class_names)
    cut = min(request.data.train_classes or total, total)
    left = cut - request.data.val_classes
    problems = []
    if request.data.train_classes > total:
        problems.append(f"--train-classes {request.data.train_classes}: {data.traits.title} has {total}.")
    if request.data.val_classes and left < 2:
        problems.append(
            f"--val-classes {request.data.val_classes} leaves {left} of {cut} classes to train on."
        )
    elif left < 2:
        here = f"--train-classes {cut}" if request.data.train_classes else f"{data.traits.title} has {cut}"
        problems.append(f"{here}: at least 2 classes are needed to train on.")
    else:
        problems += request.settings.class_problems(request, left)
    lone = splits["test"].lone_classes()
    if len(lone) == len(splits["test"].class_names):
        problems.append(
            f"In the test split of {data.traits.title} no class has two images: there is nothing to retrieve. "
            "Each test class needs at least two images."
        )
    if problems:
        raise UsageError(problems)
    return data, splits


def prepare(
    request: LaunchRequest, store: Store, progress: PackProgress | None, extra: tuple[str, ...] = ()
) -> Prepared | None:
    """Finds the packs, or builds them; with no `progress` nothing is built, and None says that one is missing.

    Vectors are wanted of test, of val if there is such a split, and of the `extra` splits ("train").
    Raises UsageError and BadImagesError.
    """
    data, splits = check_listing(request)
    skip = request.data.skip_bad_images

    unreadable: list[str] = []

    def pack(split: Split, resize: str) -> PackIndex | None:
        found = packing.find_pack(store, data, split, resize, skip)
        if found is None and progress is not None:
            tell = functools.partial(progress, split.name)
            try:
                found = packing.build_pack(store, data, split, resize, skip_bad=skip, progress=tell)
            except BadImagesError as error:  # go on: all bad images are told at once
                unreadable.extend(error.problems)
        return found

    train = pack(splits["train"], request.recipe.resize)
    test = pack(splits["test"], request.view.resize)
    seen = (
        pack(splits["train"], request.view.resize) if request.data.val_classes or "train" in extra else test
    )
    if unreadable:
        raise BadImagesError(list(dict.fromkeys(unreadable)))
    if train is None or test is None or seen is None:
        return None
    prepared = _prepared(request, store, splits, train, test, seen, extra)
    return replace(prepared, warnings=(*data.differences, *prepared.warnings))


def _prepared(
    request: LaunchRequest,
    store: Store,
    splits: dict[str, Split],
    train: PackIndex,
    test: PackIndex,
    seen: PackIndex,
    extra: tuple[str, ...],
) -> Prepared:
    kept, held = split_classes(request, len(train.class_names))
    images = Images(pack=train.digest, class_ids=kept, digest=train.part(kept).digest)
    targets = [Target(split="test", images=_images(test, None), view=request.view)]
    if held:
        targets.append(Target(split="val", images=_images(seen, held), view=request.view))
    if "train" in extra:
        targets.append(Target(split="train", images=_images(seen, kept), view=request.view))
    facts: dict[str, object] = {
        "dataset": request.data.dataset,
        "root": request.data.root,
        "train_images": len(train.part(kept).rows),
        "train_classes": len(kept),
        "val_classes": len(held),
        "test_images": len(test),
        "test_classes": len(test.class_names),
        "train_digest": images.digest,
        "test_digest": targets[0].images.digest,
        "pack_bytes": train.bytes + test.bytes,
    }
    return Prepared(
        images, len(kept), tuple(targets), _warnings(store, splits, {train.digest, test.digest}), facts
    )


def _images(index: PackIndex, class_ids: tuple[int, ...] | None) -> Images:
    return Images(pack=index.digest, class_ids=class_ids, digest=index.part(class_ids).digest)


def split_classes(request: LaunchRequest, total: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The class ids trained on, and those held out for validation, both ascending."""
    cut = request.data.train_classes or total
    order = permutation(("val-classes", request.ensemble.seed), cut)
    held = set(order[: request.data.val_classes].tolist())
    return tuple(c for c in range(cut) if c not in held), tuple(sorted(held))


def _warnings(store: Store, splits: dict[str, Split], packs: set[str]) -> tuple[str, ...]:
    found = []
    if lone := splits["test"].lone_classes():
        shown = ", ".join(lone[:10]) + (f" and {len(lone) - 10} more" if len(lone) > 10 else "")
        found.append(f"{len(lone)} test class(es) of one image are left out of the mean: {shown}.")
    for digest in sorted(packs):
        if bad := packing.bad_images(store, digest):
            shown = "; ".join(f"{image.image_id} ({image.cause})" for image in bad[:10])
            found.append(f"{len(bad)} image(s) could not be read and were left out: {shown}.")
    return tuple(found)


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
    digest = backbones.state_digest(state)
    if not store.files.exists(store.weights(digest)):
        store.files.put(store.weights(digest), save(state))
    return digest


def member_tasks(
    request: LaunchRequest, prepared: Prepared, weights: str, precision: Precision
) -> tuple[MemberTask, ...]:
    """The request's members, in index order; a single model is one. The store is not asked."""
    ensemble = request.ensemble
    common: dict[str, Any] = {
        "train_digest": prepared.train.digest,
        "classes": prepared.classes,
        "backbone": ensemble.backbone,
        "weights": weights,
        "seed": ensemble.seed,
        "recipe": request.recipe,
        "precision": precision,
        "threads": ensemble.threads,
        "deterministic": ensemble.deterministic,
    }
    specs = request.settings.specs(ensemble, common)
    how = {"ranks": request.resources.ranks, "checkpoint_steps": request.resources.checkpoint_steps}
    return tuple(
        MemberTask(spec=spec, train=prepared.train, targets=prepared.targets, **how) for spec in specs
    )


def make_plan(
    request: LaunchRequest, store: Store, prepared: Prepared, *, weights: str, precision: Precision
) -> Plan:
    """The members' tasks and what the store has of them."""
    tasks = member_tasks(request, prepared, weights, precision)
    lacking = {task.key: missing(store, task) for task in tasks}
    to_train = tuple(key for key, (train, _) in lacking.items() if train)
    to_embed = tuple(key for key, (train, targets) in lacking.items() if targets and not train)
    seconds, basis = expected_seconds(store, tasks, set(to_train)) if to_train else (None, "")
    return Plan(
        tasks, to_train, to_embed, seconds, basis, request.settings.combination, request.resources.devices
    )


def metrics_identity(
    plan: Plan, done: Sequence[str], ks: Sequence[int], nmi: bool, draws: int = 0
) -> dict[str, Any]:
    """What the curve depends on: it is computed again only if this changes."""
    digests = {target.split: target.digest for target in plan.tasks[0].targets}
    found = {"members": list(done), "embeddings": digests, "ks": list(ks), "nmi": nmi, "version": 1}
    if draws:
        found["draws"] = draws
    return found if plan.combination is None else {**found, "combine": plan.combination.how}


def expected_seconds(
    store: Store, tasks: Sequence[MemberTask], to_train: set[str]
) -> tuple[float | None, str]:
    """Mean seconds of a member like these, and where that is from: the finished ones, else others in the store."""
    mine = [done for task in tasks if task.key not in to_train and (done := store.model(task.key).done())]
    if mine:
        mean = float(np.mean([done.facts["seconds"] for done in mine]))
        return mean, f"measured on {len(mine)} of its members on {mine[0].facts['device']}"
    for key in store.files.names("models")[:SAMPLED_MODELS]:
        spec = tasks[0].spec
        try:
            done = store.model(key).done()
            alike = done is not None and _alike(store, key, spec)
        except StoreError:  # damaged, or another user's own: there are others to measure by
            continue
        if done is not None and alike and (expected := _expected_like(done, spec)) is not None:
            return expected, _measured_on(done)
    return None, ""


def _expected_like(done: Done, spec: ModelSpec) -> float | None:
    """Seconds of a model like one that is finished; None if its record does not say what it took."""
    facts = done.facts
    try:
        each = float(facts["seconds"]) / (facts["images"] * facts["epochs"])
        expected = each * spec.shown(facts["images"])
        return expected if math.isfinite(expected) and facts["device"] else None
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None


def _alike(store: Store, key: str, spec: ModelSpec) -> bool:
    found = store.files.find(store.model(key) / "spec.json")
    if found is None:
        return False
    same = ("method", "backbone", "train_digest", "precision", "threads")
    try:
        other = parse_json(found)
        return (
            all(other[name] == getattr(spec, name) for name in same) and other["recipe"]["crop"] == spec.crop
        )
    except (ValueError, KeyError, TypeError):  # damaged: there are others to measure by
        return False


def _measured_on(done: Done) -> str:
    return f"measured on a like member on {done.facts['device']}"
