"""What a run needs, what the store already has, and what is left to pay for.

Planning reads listings, pack indexes and commit records; it trains nothing and needs no cluster. The keys
that it makes are the ones the fleet trains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from muster.orchestrator.ensemble.cost import Cost, Group, cost_of
from muster.orchestrator.ensemble.inputs import finished_run, with_settled_inputs
from muster.orchestrator.ensemble.requests import EnsembleRequest, Prepared, PreparedInput, Settled
from muster.orchestrator.images.pictures import (
    PackProgress,
    Packs,
    changed_reading,
    listed_warnings,
    packs_of,
)
from muster.orchestrator.records.measured import Place
from muster.orchestrator.settings.request import DataRequest, InputRun, LaunchRequest, open_data
from muster.orchestrator.vectors.protocols import draws_of
from muster.orchestrator.vectors.questions import SHOWN, Questions
from muster.workers.datasets import DataSet, Published, Split
from muster.workers.datasets.base import Traits
from muster.workers.errors import MusterError, UsageError
from muster.workers.names import first_and_last, shortened
from muster.workers.packs.pack import PackIndex
from muster.workers.rng import permutation
from muster.workers.spec import Precision
from muster.workers.store.layout import Store
from muster.workers.task import Images, MemberTask, Target, missing


@dataclass
class PlannedEnsemble:
    """A request on its way: its images, its members, or why it has none."""

    request: EnsembleRequest
    prepared: Prepared | None = None
    tasks: tuple[MemberTask, ...] = ()
    "In index order."
    error: MusterError | None = None

    @property
    def trouble(self) -> str:
        """Why it has no members, in one line."""
        return "" if self.error is None else " ".join(str(self.error).splitlines())

    @property
    def keys(self) -> list[str]:
        return [task.key for task in self.tasks]


@dataclass(frozen=True)
class Plan:
    """Ensembles with their members, and what the store lacks of them."""

    ensembles: Sequence[PlannedEnsemble]
    tasks: dict[str, MemberTask]
    "The members of all by key, each with every vector that any ensemble wants of it."
    to_train: frozenset[str]
    "Keys without weights."
    to_embed: frozenset[str]
    "Keys with weights and without some of the vectors."
    cost: Cost


#: What a request leaves open: the digest of its initial weights and its precision.
Settle = Callable[[EnsembleRequest], Settled]


def prepare_ensembles(
    requests: Iterable[EnsembleRequest],
    store: Store,
    progress: PackProgress | None,
    *,
    all_needed: bool = False,
) -> list[PlannedEnsemble]:
    """Finds or builds the packs of each request. What is wrong with one's data becomes its `error`, or is raised where
    all ensembles are needed.

    With no `progress` nothing is built; a request whose packs are missing is left without `prepared`.
    """
    done: dict[tuple[Any, ...], Prepared | None] = {}
    ensembles = [PlannedEnsemble(request) for request in requests]
    siblings = {ensemble.request.launch.run: ensemble.request.launch for ensemble in ensembles}
    for ensemble in ensembles:
        launch, splits = ensemble.request.launch, ensemble.request.splits
        seed = launch.ensemble.seed if launch.data.val_classes else 0  # it chooses nothing else here
        shared = (launch.data, launch.recipe.resize, launch.view, splits, seed, launch.settings.input_runs)
        try:
            if text := no_data(launch):
                raise UsageError(text)
            if shared not in done:
                done[shared] = prepare(launch, store, progress, splits, siblings)
            prepared = done[shared]
            if prepared is not None and (wrong := launch.settings.class_problems(launch, prepared.stocked)):
                raise UsageError(wrong)
            ensemble.prepared = _with_draws(prepared, launch)
        except MusterError as error:
            if all_needed:
                raise
            ensemble.error = error
    return ensembles


def settle_members(
    ensembles: Iterable[PlannedEnsemble],
    settle: Settle,
    *,
    all_needed: bool = False,
    settled: dict[str, Settled] | None = None,
) -> None:
    """Gives the ensembles that have images their members. What `settle` raises becomes their `error`, or is raised.

    `settled`, by names of runs, is what others of the same job were settled to before; it is added to.
    """
    settled = {} if settled is None else settled
    for ensemble in sorted(ensembles, key=lambda one: len(one.request.launch.settings.input_runs)):
        if ensemble.prepared is None:
            continue
        request = ensemble.request
        try:
            prepared = with_settled_inputs(ensemble.prepared, settled)
            settled[request.launch.run] = settle(request)
            ensemble.tasks = member_tasks(request.launch, prepared, *settled[request.launch.run])
        except MusterError as error:
            if all_needed:
                raise
            ensemble.error = error


def make_plan(
    ensembles: Sequence[PlannedEnsemble], store: Store, place: Callable[[], Place] | None = None
) -> Plan:
    """What the store lacks of ensembles that have their members, and what that costs. `place` says where they are to be
    trained; it is asked if any is."""
    tasks = merged(ensembles)
    lacking = {key: missing(store, task) for key, task in tasks.items()}
    to_train = frozenset(key for key, (train, _) in lacking.items() if train)
    to_embed = frozenset(key for key, (train, targets) in lacking.items() if targets and not train)
    groups = [cost_group(one.request.launch, one.prepared, one.tasks) for one in ensembles if one.prepared]
    where = place() if place and to_train else None
    return Plan(ensembles, tasks, to_train, to_embed, cost_of(groups, to_train, store, where))


def cost_group(launch: LaunchRequest, prepared: Prepared, tasks: Sequence[MemberTask]) -> Group:
    """The members of a launch with what their cost depends on."""
    images = int(str(prepared.facts["train_images"]))
    return Group(tasks, launch.resources.devices, images, prepared.embedded)


def planned_warnings(ensembles: Iterable[PlannedEnsemble]) -> list[str]:
    """What must be said of the images of ensembles that are only planned, each once: as they are packed, or else as
    they are listed. Raises UsageError and BadImagesError where a launch would be refused."""
    found: list[str] = []
    listed: dict[DataRequest, list[str]] = {}
    for one in ensembles:
        launch = one.request.launch
        if one.prepared is not None:
            found += one.prepared.warnings
        elif one.error is None:
            if launch.data not in listed:
                listed[launch.data] = listed_warnings(launch)
            found += listed[launch.data]
    return list(dict.fromkeys(found))


def merged(ensembles: Iterable[PlannedEnsemble]) -> dict[str, MemberTask]:
    """All ensembles' members by key, each with every vector that any of them wants of it."""
    found: dict[str, MemberTask] = {}
    for ensemble in ensembles:
        for task in ensemble.tasks:
            before = found.get(task.key)
            if before is not None:
                targets = {target.digest: target for target in (*before.targets, *task.targets)}
                task = replace(before, targets=tuple(targets.values()))  # noqa: PLW2901
            found[task.key] = task
    return found


def no_data(request: LaunchRequest) -> str:
    """ "no data at ..." if there is no copy of the data set where it should be, else ""."""
    try:
        data = open_data(request.data)
        if isinstance(data, Published):
            data.home  # noqa: B018  (looks for it)
    except UsageError:
        return f"no data at {request.data.root}: no copy of {request.data.dataset} is there"
    return ""


def counted_members(count: int, *, one: bool) -> str:
    """How many, for people; `one`: the method trains one model and no ensemble."""
    return f"{count} {'model' if one else 'member'}{'s' * (count != 1)}"


def check_listing(request: LaunchRequest) -> tuple[DataSet, dict[str, Split]]:
    """Opens the data set and checks the request against its lists, before anything is decoded or started.

    Raises UsageError with all that is wrong.
    """
    data = open_data(request.data)
    splits = dict(data.splits())
    if request.data.val_classes and "val" in splits:
        raise UsageError(
            f"--val-classes {request.data.val_classes}: {data.traits.title} has a validation split of its own. Leave "
            "the flag out, or the folder."
        )
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
        here = (
            f"--train-classes {cut}"
            if request.data.train_classes
            else f"{data.traits.title} has {cut} training class"
        )
        problems.append(f"{here}: at least 2 classes are needed to train on.")
    else:
        problems += request.settings.class_problems(request, left)
    for name in ("test", "val"):
        try:
            if name in splits:
                Questions.listed(splits[name]).check(data.traits, draws_of(request.data))
        except UsageError as error:
            problems += error.problems
    if problems:
        raise UsageError(problems)
    return data, splits


def prepare(
    request: LaunchRequest,
    store: Store,
    progress: PackProgress | None,
    extra: tuple[str, ...] = (),
    siblings: Mapping[str, LaunchRequest] | None = None,
) -> Prepared | None:
    """Finds the packs, or builds them; with no `progress` nothing is built, and None says that one is missing.

    Vectors are wanted of test, of val if there is such a split, and of the `extra` splits ("train"). The runs that it
    is trained from are among the `siblings`, by their names, or in the store.
    Raises UsageError and BadImagesError.
    """
    found = [
        (sibling, None) if (sibling := (siblings or {}).get(name)) else finished_run(name, request, store)
        for name in request.settings.input_runs
    ]
    ready = [prepare(launch, store, progress, ("train",)) for launch, _ in found]
    if None in ready:
        return None
    data, splits = check_listing(request)
    packs = packs_of(request, data, splits, store, progress, seen="train" in extra)
    if packs is None:
        return None
    prepared = _prepared(request, data.traits, packs, extra)
    inputs = tuple(
        PreparedInput(launch, images, settled)
        for (launch, settled), images in zip(found, ready, strict=True)
        if images is not None
    )
    differences = tuple(data.differences)
    unread = packs.unread_texts(store)
    changed = changed_reading(request, splits, packs, store)
    warnings = (*differences, *data.warnings, *changed, *packs.remark_texts(), *prepared.warnings, *unread)
    return replace(
        prepared,
        warnings=warnings,
        differences=differences,
        inputs=inputs,
        account=None if data.account is None else data.account.document(),
        classes_named={name: first_and_last(split.class_names) for name, split in splits.items()},
    )


def _prepared(request: LaunchRequest, traits: Traits, packs: Packs, extra: tuple[str, ...]) -> Prepared:
    train, test = packs.train, packs.test
    kept, held = split_classes(request, len(train.class_names))
    part = train.part(kept)
    images = Images(pack=train.digest, class_ids=kept, digest=part.digest)
    wanted: list[tuple[str, PackIndex, tuple[int, ...] | None]] = [("test", test, None)]
    if packs.val is not None:
        wanted.append(("val", packs.val, None))
    elif held:
        wanted.append(("val", packs.seen, held))
    if "train" in extra:
        wanted.append(("train", packs.seen, kept))
    found = [(*one, one[1].part(one[2])) for one in wanted]
    targets = tuple(
        Target(
            split=split,
            images=Images(pack=index.digest, class_ids=classes, digest=of.digest),
            view=request.view,
        )
        for split, index, classes, of in found
    )
    facts: dict[str, object] = {
        "dataset": request.data.dataset,
        "root": request.data.root,
        "train_images": len(part.rows),
        "train_classes": len(kept),
        "val_classes": len(packs.val.class_names) if packs.val is not None else len(held),
        "test_images": len(test),
        "test_classes": len(test.class_names),
        "train_digest": images.digest,
        "test_digest": targets[0].images.digest,
        "pack_bytes": train.bytes + test.bytes,
    }
    draws = draws_of(request.data)
    asked = [Questions.packed(*one) for one in found if one[0] != "train"]
    warnings = [text for one in asked for text in one.check(traits, draws)]
    stocked = {int(label) for label in part.labels}
    empty = [train.class_names[number] for place, number in enumerate(kept) if place not in stocked]
    if empty:
        warnings.append(
            f"{len(empty)} training class(es) have no image left: {shortened(empty, most=SHOWN)}."
        )
    embedded = sum(len(of.rows) for *_, of in found)
    return Prepared(
        images,
        len(kept),
        targets,
        tuple(warnings),
        facts,
        embedded,
        stocked=len(stocked),
        train_bytes=train.bytes_of(part.rows),
    )


def _with_draws(prepared: Prepared | None, launch: LaunchRequest) -> Prepared | None:
    """With a warning, where a step of these settings draws more images than there are: others share the images."""
    drawn = launch.settings.drawn_at_once
    if prepared is None or drawn <= (have := int(str(prepared.facts["train_images"]))):
        return prepared
    text = f"A step draws {drawn} images and {have} train: some are drawn twice in each."
    return replace(prepared, warnings=(*prepared.warnings, text))


def split_classes(request: LaunchRequest, total: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The class ids trained on, and those held out for validation, both ascending."""
    cut = request.data.train_classes or total
    order = permutation(("val-classes", request.ensemble.seed), cut)
    held = set(order[: request.data.val_classes].tolist())
    return tuple(c for c in range(cut) if c not in held), tuple(sorted(held))


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
    inputs = [input_tasks(one) for one in prepared.inputs]
    runs = [input_run(one.launch, tasks) for one, tasks in zip(prepared.inputs, inputs, strict=True)]
    how: dict[str, Any] = {
        "ranks": request.resources.ranks,
        "checkpoint_steps": request.resources.checkpoint_steps,
        "input": request.resources.input,
        "inputs": tuple(task for tasks in inputs for task in tasks),
    }
    return tuple(
        MemberTask(spec=spec, train=prepared.train, targets=prepared.targets, **how)
        for spec in request.settings.specs(ensemble, common, runs)
    )


def input_tasks(found: PreparedInput) -> tuple[MemberTask, ...]:
    """The members of a run that others are trained from, each wanted with its vectors of the training images."""
    assert found.settled is not None  # its own members are settled before those that are trained from it
    targets = tuple(target for target in found.prepared.targets if target.split == "train")
    return tuple(
        replace(task, targets=targets) for task in member_tasks(found.launch, found.prepared, *found.settled)
    )


def input_run(launch: LaunchRequest, tasks: Sequence[MemberTask]) -> InputRun:
    """What a spec says of a run that its model is trained from."""
    (target,) = tasks[0].targets
    keys = tuple(task.key for task in tasks)
    return InputRun(keys=keys, vectors=target.digest, combination=launch.settings.combination)
