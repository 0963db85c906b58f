"""Runs that other models are trained from: found in the store, or among the ensembles of the same job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from muster.orchestrator.ensemble.requests import Prepared, Settled
from muster.orchestrator.methods.loading import parse_request
from muster.orchestrator.records.identity import known_runs
from muster.orchestrator.settings.request import DATA_PLACES, LaunchRequest
from muster.workers.errors import UsageError
from muster.workers.networks.own_code import found, own_network
from muster.workers.store.layout import Store
from muster.workers.task import MemberTask, missing

#: Settings of data that say where they lie, or are of the test alone.
NO_IMAGES = {*DATA_PLACES, "allow_counts", "test_list", "vehicleid_protocol", "repeats"}


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
            f"{name} was trained on other images: {'; '.join(differences)}. Give the student the "
            "teacher's own data flags, or a run of the same images."
        )
    places = {place: getattr(student.data, place) for place in DATA_PLACES}
    located = replace(launch, data=replace(launch.data, **places), name=name, storage=store.root)
    return located, (answer["weights"], answer["precision"])


def with_settled_inputs(prepared: Prepared, settled: Mapping[str, Settled]) -> Prepared:
    """With what the ensembles of the same job that it is trained from were settled to.

    Raises UsageError if one of them has no members.
    """
    inputs = []
    for one in prepared.inputs:
        known = one.settled or settled.get(one.launch.run)
        if known is None:
            raise UsageError(f"{one.launch.run}, which it learns from, has no members.")
        inputs.append(replace(one, settled=known))
    return replace(prepared, inputs=tuple(inputs))


def check_code(student: LaunchRequest, tasks: Iterable[MemberTask], store: Store) -> None:
    """Raises UsageError where models that others learn from have to embed images first, and are networks of one's own
    whose code is not here: only that of the network that is trained travels with a job."""
    for teacher in (one for task in tasks for one in task.inputs):
        network = own_network(teacher.spec.backbone)
        if network is None or missing(store, teacher) == (False, []):
            continue
        try:
            found(network)
        except UsageError:
            (run, *_) = student.settings.input_runs
            raise UsageError(
                f"{run} has a network of your own, which has to embed the training images first, and its code does not "
                f"travel with this job. First: muster gather {run} --split train --backbone {network.asked}"
            ) from None


def _shown(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _other_images(launch: LaunchRequest, student: LaunchRequest) -> list[str]:
    """How the training images of two requests differ, in words."""
    differences = [
        f"{name} {_shown(theirs)} there, {_shown(mine)} here"
        for name in (field.name for field in fields(launch.data) if field.name not in NO_IMAGES)
        if (theirs := getattr(launch.data, name)) != (mine := getattr(student.data, name))
    ]
    if student.data.val_classes and launch.ensemble.seed != student.ensemble.seed:
        differences.append("another seed held out other classes")
    return differences
