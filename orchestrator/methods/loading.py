"""The loader of launch requests: from a TOML file, flags and assignments, or from what a run's folder keeps.

Precedence, lowest first: preset, file, flags, `--set`. All mistakes are told in one message.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from muster.orchestrator.methods.base import COMMON, Frontend, Given
from muster.orchestrator.methods.registry import FRONTENDS
from muster.orchestrator.settings import compat
from muster.orchestrator.settings.checks import backbone_problems, for_backbone, resize_problems
from muster.orchestrator.settings.parse import Settings, assign, merge_file, parse, parse_saved, put
from muster.orchestrator.settings.request import DataRequest, EnsembleSettings, LaunchRequest, open_data
from muster.orchestrator.settings.resources import Resources
from muster.workers import datasets
from muster.workers.datasets import Traits
from muster.workers.errors import UsageError
from muster.workers.methods.registry import METHODS, NAMES
from muster.workers.networks.facts import without_imagenet
from muster.workers.networks.own_code import with_digest
from muster.workers.spec import TestView
from muster.workers.store.runs import check_run_name

#: The method of a request that names none.
USUAL = NAMES[0]
#: What stands at the top of a file, in no section.
TOP = ("method", "preset", "image_size", "name", "storage")
ALL_TOP = (*TOP, *(name for frontend in FRONTENDS.values() for name in frontend.top))
ALL_SECTIONS: Mapping[str, Any] = {
    "recipe": FRONTENDS[USUAL].recipe_type,
    **COMMON,
    **{name: kind for frontend in FRONTENDS.values() for name, kind in frontend.own.items()},
}


def load(config: Path | None, flags: Mapping[str, Any], assignments: list[str]) -> LaunchRequest:
    """The request from a TOML file, flags (dotted names; None: not given) and `key=value` assignments.

    Raises UsageError with all mistakes that can be told without reading the data.
    """
    settings: Settings = {section: {} for section in ALL_SECTIONS}
    problems = merge_file(settings, config, ALL_SECTIONS, ALL_TOP) if config else []
    said = [settings.get("method")]
    for name, value in flags.items():
        if value is not None:
            put(settings, name, value)
    known = FRONTENDS.get(str(settings.get("method")), FRONTENDS[USUAL])
    for assignment in assignments:
        problems += assign(settings, assignment, known.sections, ALL_TOP, _foreign_sections(known))
    method = flags.get("method")
    for other in [*said, settings.get("method")] if method else []:
        if other is not None and other != method:
            problems.append(
                f"method = {other!r}: this command's is {method}; muster launch has one for each method, and muster "
                "search takes --method."
                if isinstance(other, str)
                else _no_text("method", other)
            )
            settings["method"] = method
    return _build(settings, problems)


def parse_request(saved: Mapping[str, Any], where: str) -> LaunchRequest:
    """A request from the JSON that a run's folder keeps; `where` names it. Raises UsageError and NewerRunError."""
    found = compat.current(saved, where)
    method = found.get("method", USUAL)
    if method not in NAMES:
        raise UsageError(f"{where}: {_no_method(method)}")
    kind = FRONTENDS[method].request_type
    names = {field.name for field in dataclasses.fields(kind)}
    own = parse_saved(kind, {name: value for name, value in found.items() if name in names}, where)
    rest = {name: value for name, value in found.items() if name not in names}
    request: LaunchRequest = parse_saved(LaunchRequest, {"method": method, **rest, "settings": own}, where)
    return request


def _build(settings: Settings, problems: list[str]) -> LaunchRequest:
    problems += _top_problems(settings)
    method = settings.get("method", USUAL)
    if method not in FRONTENDS:
        problems.append(_no_method(method))
        method = USUAL
    if isinstance(backbone := settings["ensemble"].get("backbone"), str):
        try:
            settings["ensemble"]["backbone"] = with_digest(backbone)
        except UsageError as error:
            problems += error.problems
            del settings["ensemble"]["backbone"]  # so that the rest is checked too
    dataset = datasets.canonical(str(settings["data"].get("dataset", DataRequest.dataset)))
    settings["data"]["dataset"] = dataset
    data = parse(DataRequest, settings["data"], "data", problems)
    if dataset != "vehicleid" and settings["data"].get("test_list", "small") != "small":
        problems.append(f"data.test_list: only vehicleid has test lists, and the data set is {dataset}.")
    if dataset != "vehicleid" and settings["data"].get("vehicleid_protocol", "self") != "self":
        problems.append(f"data.vehicleid_protocol: it is vehicleid's, and the data set is {dataset}.")
    traits = for_backbone(_traits(data, settings["data"], problems), settings["ensemble"].get("backbone"))
    frontend = FRONTENDS[method]
    problems += _foreign_problems(settings, frontend)
    found = frontend.parse(Given(settings, dataset, traits, problems))
    view = parse(TestView, settings["view"], "view", problems, found.view)
    resources = parse(Resources, settings["resources"], "resources", problems)
    pictures = {"recipe": found.parts["recipe"], "view": view}
    problems += resize_problems(pictures)
    problems += _backbone_problems(settings, {part.crop for part in pictures.values() if part is not None})
    name = str(settings.get("name") or "")
    if name:
        try:
            check_run_name(name)
        except UsageError as error:
            problems += error.problems
    if problems or found.ensemble is None:
        raise UsageError(problems)
    return LaunchRequest(
        method=method,
        data=data,
        ensemble=found.ensemble,
        preset=found.preset,
        settings=frontend.request_type(**found.parts),
        view=view,
        resources=resources,
        name=name,
        storage=str(settings.get("storage") or "store"),
    )


def check_method(name: str) -> None:
    """Raises UsageError if there is no such method."""
    if name not in FRONTENDS:
        raise UsageError(_no_method(name))


def _no_method(method: object) -> str:
    near = difflib.get_close_matches(str(method), NAMES, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"method = {method!r}: there are {', '.join(NAMES)}.{hint}"


def _backbone_problems(settings: Settings, crops: set[int]) -> list[str]:
    backbone = settings["ensemble"].get("backbone", EnsembleSettings.backbone)
    if not isinstance(backbone, str):
        return []
    problems = backbone_problems(backbone, crops)
    if settings["ensemble"].get("weights") == "imagenet" and (problem := without_imagenet(backbone)):
        problems.append(problem)
    return problems


def _top_problems(settings: Settings) -> list[str]:
    """What is no text among the settings that belong to no section; it is taken out."""
    names = [key for key in ALL_TOP if key != "image_size"]
    wrong = {key: settings.get(key) for key in names}
    wrong = {key: value for key, value in wrong.items() if value is not None and not isinstance(value, str)}
    empty = [key for key in ALL_TOP if isinstance(settings.get(key), str) and not settings[key].strip()]
    for key in [*wrong, *empty]:
        del settings[key]
    return [
        *(_no_text(key, value) for key, value in wrong.items()),
        *(f"{key} is empty: give it a value or leave it out." for key in empty),
    ]


def _no_text(key: str, value: object) -> str:
    return f"{key} = {value!r}: must be text, in quotes."


def _foreign_sections(mine: Frontend) -> dict[str, type]:
    """Sections of other methods: what is assigned in them is refused by what it is, not as unknown."""
    return {name: kind for name, kind in ALL_SECTIONS.items() if name not in mine.sections}


def _foreign_problems(settings: Settings, mine: Frontend) -> list[str]:
    """Says which settings are another method's: sections and settings of its own, and what only some can do."""
    problems = []
    if not METHODS[mine.name].multi_rank and settings["resources"].get("ranks", 1) != 1:
        able = ", ".join(method.name for method in METHODS.values() if method.multi_rank)
        problems.append(f"resources.ranks: only {able} has it; one process trains a {mine.name} model.")
    frozen = settings["ensemble"].get("batch_norm", "batch")
    if frozen in get_args(get_type_hints(EnsembleSettings)["batch_norm"]) and frozen not in _batch_norms(
        mine.name
    ):
        able = ", ".join(name for name in NAMES if frozen in _batch_norms(name))
        problems.append(
            f"ensemble.batch_norm: only {able} has it; each batch's statistics are those of a {mine.name} model."
        )
    for other in FRONTENDS.values():
        names = [
            name
            for name in (*other.own, *other.top)
            if name not in (*mine.own, *mine.top) and settings.get(name)
        ]
        cure = f"leave it out, or launch {other.name}: muster launch {other.name}"
        problems += [f"{name}: the method is {mine.name}; {cure}." for name in names]
    return problems


def _batch_norms(method: str) -> tuple[str, ...]:
    """The kinds of BatchNorm that a method's models can be trained with."""
    return get_args(get_type_hints(METHODS[method].spec_type)["batch_norm"])


def _traits(data: DataRequest | None, given: Settings, problems: list[str]) -> Traits:
    """What a recipe must know of the data set; of one that is asked for wrongly, as far as that can be told."""
    try:
        if data is not None:
            return open_data(data).traits
        root = given.get("root", "." if given["dataset"] in datasets.OWN else None)
        return datasets.open_data_set(given["dataset"], None if root is None else str(root)).traits
    except UsageError as error:
        problems += error.problems
        return datasets.Glyphs.traits  # stands in, so that the rest is checked too
