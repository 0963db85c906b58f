"""Runs that other models are trained from: found in the store, or among the ensembles of the same job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from muster.orchestrator.ensemble.requests import Prepared, Settled
from muster.orchestrator.methods.loading import parse_request
from muster.orchestrator.records.identity import known_runs
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.errors import UsageError
from muster.workers.store.layout import Store


def finished_run(name: str, student: LaunchRequest, store: Store) -> tuple[LaunchRequest, Settled]:
    """A finished launch of the store that `student` can be trained from, and what it was settled to.

    Raises UsageError if there is none such, if it is no launch, or not whole, or of other images.
    """
    run = store.run(name)
    saved = run.read("run.json")
    if saved is None:
        raise UsageError(f"{name}: there is no such run in {store.root}. {known_runs(store)}")
    if (kind := saved.get("kind", "launch")) != "launch":
        raise UsageError(
            f"{name} is a {kind}, and no ensemble: give a run of muster launch. {known_runs(store)}"
        )
    launch = parse_request(saved, run.place("run.json"))
    answer = run.read("answer.json", "state", "weights", "precision")
    if answer is None or answer["state"] != "done":
        state = "not finished" if answer is None else answer["state"]
        raise UsageError(
            f"{name} is {state}: what learns from it needs all of it. First: muster resume {name}."
        )
    if differences := _other_images(launch, student):
        raise UsageError(
            f"{name} was trained on other images: {'; '.join(differences)}. Give a run of the same ones."
        )
    located = replace(
        launch, data=replace(launch.data, root=student.data.root), name=name, storage=store.root
    )
    return located, (answer["weights"], answer["precision"])


def with_settled_inputs(prepared: Prepared, settled: Mapping[str, Settled]) -> Prepared:
    """With what the ensembles of the same job that it is trained from were settled to.

    Raises UsageError if one of them has no members.
    """
    inputs = []
    for one in prepared.inputs:
        found = one.settled or settled.get(one.launch.run)
        if found is None:
            raise UsageError(f"{one.launch.run}, which it learns from, has no members.")
        inputs.append(replace(one, settled=found))
    return replace(prepared, inputs=tuple(inputs))


def _other_images(launch: LaunchRequest, student: LaunchRequest) -> list[str]:
    """How the training images of two requests differ, in words."""
    names = [
        "dataset", "train_classes", "val_classes", "skip_bad_images", "layout", "drop_duplicates", "background",
        "exif_transpose", "reading",
    ]  # fmt: skip
    found = [
        f"{name} {theirs} there, {mine} here"
        for name in names
        if (theirs := getattr(launch.data, name)) != (mine := getattr(student.data, name))
    ]
    if student.data.val_classes and launch.ensemble.seed != student.ensemble.seed:
        found.append("another seed held out other classes")
    return found
