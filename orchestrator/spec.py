"""The whole configuration: one loader for TOML files and flags, all mistakes in one message.

What determines a model's weights is described in `workers.model` and parsed here into those same classes;
this module adds what does not: where the data are, which resources, which store. Precedence, lowest first:
preset, file, flags, `--set`.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import TypeAdapter, ValidationError

from orchestrator import presets
from workers import datasets
from workers.datasets import Traits
from workers.errors import UsageError
from workers.model import Recipe, TestView, check
from workers.pixels import ResizeRule

Settings = dict[str, Any]
STRICT: dict[str, str] = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class DataRequest:
    """Which images."""

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    dataset: str = "glyphs"
    "glyphs (embedded), folder (a directory of class folders), cub200, cars196, sop, inshop or vehicleid."
    root: str | None = None
    "Where a data set that is not embedded lies, as the nodes see it."
    train_classes: int = 0
    "Train on the first N training classes only; 0: all."
    val_classes: int = 0
    "Hold N of the training classes out, seeded, as a validation split."
    skip_bad_images: bool = False
    "Go on without images that can't be read; they are listed."
    allow_counts: bool = False
    "Go on with a copy of a published data set that is not as published; the report says so."
    test_list: Literal["small", "medium", "large"] = "small"
    "Which of vehicleid's test lists is the test split."
    vehicleid_protocol: Literal["self", "reid"] = "self"
    "self: each image asks all others, as in DREML; reid: each looks for its vehicle among one random image of each."
    repeats: int = 10
    "Random galleries of vehicleid_protocol = reid; scores are their means."

    def __post_init__(self) -> None:
        check(
            {
                f"repeats = {self.repeats}: a spread needs at least 2": self.repeats >= 2,
                f"repeats = {self.repeats} has no effect without vehicleid_protocol = reid": self.repeats
                == 10
                or self.vehicleid_protocol == "reid",
                f"train_classes = {self.train_classes}: must not be negative": self.train_classes >= 0,
                f"val_classes = {self.val_classes}: must not be negative": self.val_classes >= 0,
            }
        )


@dataclass(frozen=True, kw_only=True)
class EnsembleRequest:
    """Which networks."""

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    D: int = 12
    "Meta-classes of each member, and its embedding's dimension; glyphs takes 100."
    L: int = 8
    "Members."
    seed: int = 0
    "Of partitions, initial weights, order and augmentation."
    backbone: str = "resnet18"
    "conv4, or any classifier of torchvision by name; glyphs takes conv4."
    weights: str = "none"
    "none, imagenet, or a file of a state dict."
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    "auto: bf16 where all GPUs have it, else fp32."
    threads: int = 1
    "CPU threads of a member that trains on a CPU."
    deterministic: bool = False
    "Deterministic kernels on GPUs: the same bits again on the same hardware, somewhat slower."

    def __post_init__(self) -> None:
        check(
            {
                f"D = {self.D}: an embedding needs at least 2 meta-classes": self.D >= 2,
                f"L = {self.L}: an ensemble needs at least 1 member": self.L >= 1,
                f"threads = {self.threads}: must be at least 1": self.threads >= 1,
            }
        )


@dataclass(frozen=True, kw_only=True)
class Resources:
    """How it runs: nothing here changes a result."""

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    parallel: int = 0
    "Members at once; 0: as many as fit."
    gpus_per_member: float | None = None
    "A member's share of a GPU; by default 1 where there are GPUs, else 0."
    eval_memory: str = "1GB"
    "Memory for evaluation's temporary matrices."
    nmi: bool = True
    "Compute NMI; with ten thousand classes it takes hours."
    embedding_type: Literal["float32", "float16"] = "float32"
    "Of the gathered shards."

    def __post_init__(self) -> None:
        share = self.gpus_per_member
        check(
            {
                f"parallel = {self.parallel}: must not be negative": self.parallel >= 0,
                f"gpus_per_member = {share}: must be between 0 and 1, or a whole number": share is None
                or 0 <= share <= 1
                or (share > 1 and share == int(share)),
                f"eval_memory = {self.eval_memory!r}: write 512MB or 2GB": parse_bytes(self.eval_memory) > 0,
            }
        )


@dataclass(frozen=True, kw_only=True)
class LaunchRequest:
    """All of a launch: what is written to `run.json`."""

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    method: Literal["dreml"] = "dreml"
    data: DataRequest
    ensemble: EnsembleRequest
    preset: str
    recipe: Recipe
    view: TestView
    resources: Resources
    name: str = ""
    storage: str = "store"

    def identity(self) -> Settings:
        """What makes two requests the same one: all but how, where and under which name it runs."""
        found = dataclasses.asdict(self)
        for field in ("resources", "name", "storage"):
            del found[field]
        return found

    @property
    def run(self) -> str:
        """The run's name: as given, or made from the request, so that the same request finds its run again."""
        if self.name:
            return self.name
        digest = hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:6]
        return f"{self.method}-{self.data.dataset}-D{self.ensemble.D}-L{self.ensemble.L}-{digest}"


SECTIONS: dict[str, Any] = {
    "data": DataRequest,
    "ensemble": EnsembleRequest,
    "recipe": Recipe,
    "view": TestView,
    "resources": Resources,
}
#: The smallest picture of the networks that are asked for most, in pixels.
COMMON_BACKBONES = {"conv4": 16, "resnet18": 32, "resnet50": 32, "googlenet": 32}
TOP = ("method", "preset", "image_size", "name", "storage")


def load(config: Path | None, flags: Mapping[str, Any], assignments: list[str]) -> LaunchRequest:
    """The request from a TOML file, flags (dotted names; None: not given) and `key=value` assignments.

    Raises UsageError with all mistakes that can be told without reading the data.
    """
    settings: Settings = {section: {} for section in SECTIONS}
    problems = _merge_file(settings, config) if config else []
    for name, value in flags.items():
        if value is not None:
            _put(settings, name, value)
    for assignment in assignments:
        problems += _assign(settings, assignment)
    return _build(settings, problems)


def open_data(request: DataRequest) -> datasets.DataSet:
    """The data set that a request names. Raises UsageError if there is none such."""
    return datasets.open_data_set(
        request.dataset, request.root, allow_counts=request.allow_counts, test_list=request.test_list
    )


def parse_request(saved: Mapping[str, Any]) -> LaunchRequest:
    """A request from the JSON that a run's folder keeps."""
    try:
        return TypeAdapter(LaunchRequest).validate_python(dict(saved))
    except ValidationError as error:
        raise UsageError(_complaints(error, "", LaunchRequest)) from error


def to_dict(request: LaunchRequest) -> Settings:
    """The request as plain values for JSON."""
    return dataclasses.asdict(request)


def parse_bytes(text: str) -> int:
    """ "2GB", "512MB", "1GiB" or a plain number, as bytes; 0 for anything else."""
    units = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "B": 1}
    upper = text.strip().upper()
    unit = next((u for u in sorted(units, key=len, reverse=True) if upper.endswith(u)), "")
    try:
        count = float(upper.removesuffix(unit))
    except ValueError:
        return 0
    return max(0, int(count * units.get(unit, 1)))


def _build(settings: Settings, problems: list[str]) -> LaunchRequest:
    dataset = datasets.canonical(str(settings["data"].get("dataset", "glyphs")))
    settings["data"]["dataset"] = dataset
    data = _parse(DataRequest, settings["data"], "data", problems)
    if dataset != "vehicleid" and settings["data"].get("test_list", "small") != "small":
        problems.append(f"data.test_list: only vehicleid has test lists, and the data set is {dataset}.")
    if dataset != "vehicleid" and settings["data"].get("vehicleid_protocol", "self") != "self":
        problems.append(f"data.vehicleid_protocol: it is vehicleid's, and the data set is {dataset}.")
    traits = _traits(dataset, settings["data"].get("root"), problems)
    if dataset == "glyphs":
        settings["ensemble"] = {"D": 100, "backbone": "conv4", **settings["ensemble"]}
    recipe, view = _with_preset(settings, dataset, traits, problems)
    parsed = {
        "data": data,
        "ensemble": _parse(EnsembleRequest, settings["ensemble"], "ensemble", problems),
        "recipe": _parse(Recipe, recipe, "recipe", problems),
        "view": _parse(TestView, view, "view", problems),
        "resources": _parse(Resources, settings["resources"], "resources", problems),
    }
    problems += resize_problems(parsed)
    crops = {parsed[section].crop for section in ("recipe", "view") if parsed[section] is not None}
    problems += backbone_problems(settings["ensemble"].get("backbone", EnsembleRequest.backbone), crops)
    if settings.get("method", "dreml") != "dreml":
        problems.append(f"method = {settings['method']!r}: there is dreml.")
    name = str(settings.get("name") or "")
    if name and not all(c.isalnum() or c in "._-" for c in name):
        problems.append(f"name = {name!r}: use letters, digits, '.', '_' and '-'.")
    if problems:
        raise UsageError(problems)
    preset = settings.get("preset") or presets.preset_for(dataset)
    storage = str(settings.get("storage") or "store")
    return LaunchRequest(**parsed, preset=preset, name=name, storage=storage)


def _traits(dataset: str, root: Any, problems: list[str]) -> Traits:
    try:
        return datasets.open_data_set(dataset, root).traits
    except UsageError as error:
        problems += error.problems
        return datasets.Glyphs.traits  # stands in, so that the rest is checked too


def _with_preset(
    settings: Settings, dataset: str, traits: Traits, problems: list[str]
) -> tuple[Settings, Settings]:
    preset = settings.get("preset") or presets.preset_for(dataset)
    if preset not in presets.PRESETS:
        problems.append(f"preset = {preset!r}: there are {', '.join(presets.PRESETS)}.")
        preset = "paper"
    side = settings.get("image_size") or presets.picture_side(dataset)
    if not isinstance(side, int) or side < 8:
        problems.append(f"image_size = {side}: must be a whole number of pixels, at least 8.")
        side = presets.picture_side(dataset)
    epochs = settings["recipe"].get("epochs")
    recipe, view = presets.settings(preset, traits, side, epochs if isinstance(epochs, int) else None)
    return {**recipe, **settings["recipe"]}, {**view, **settings["view"]}


def resize_problems(parsed: Settings) -> list[str]:
    """What is wrong with the resize rules of a parsed recipe and test view."""
    problems = []
    for section in ("recipe", "view"):
        if parsed[section] is not None:
            try:
                ResizeRule.parse(parsed[section].resize)
            except ValueError as error:
                problems.append(f"{section}.{error}.")
    return problems


def backbone_problems(backbone: Any, crops: set[int]) -> list[str]:
    """Whether the network exists and takes pictures of these sides, in pixels."""
    if backbone in COMMON_BACKBONES:  # the list of all of them is torchvision's, and slow to import
        least = COMMON_BACKBONES[backbone]
        small = [crop for crop in crops if crop < least]
        return [
            f"{backbone} needs pictures of at least {least} px and gets {crop}: give --image-size {least}."
            for crop in small
        ]
    from workers import backbones

    if backbone not in backbones.names():
        near = difflib.get_close_matches(str(backbone), backbones.names(), 3)
        hint = f"Did you mean {' or '.join(near)}?" if near else "Try conv4, resnet18 or googlenet."
        return [f"There is no backbone {backbone!r}. {hint}"]
    causes = {crop: backbones.refusal(backbone, crop) for crop in sorted(crops)}
    return [
        f"{backbone} can't take pictures of {crop} px: {cause}." for crop, cause in causes.items() if cause
    ]


def _parse(kind: Any, values: Settings, section: str, problems: list[str]) -> Any:
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        problems += _complaints(error, section, kind)
        wrong = {item["loc"][0] for item in error.errors() if item["loc"]}
        if wrong:  # ranges are checked only when all types are right: tell them in the same message
            _parse(kind, {key: value for key, value in values.items() if key not in wrong}, section, problems)
        return None


def _complaints(error: ValidationError, section: str, kind: Any) -> list[str]:
    """Pydantic's findings as sentences: the key, what is wrong, and which keys there are."""
    found = []
    for item in error.errors():
        where = ".".join(str(part) for part in ([section] if section else []) + list(item["loc"]))
        if item["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
            known = [field.name for field in dataclasses.fields(kind)]
            near = difflib.get_close_matches(str(item["loc"][-1]), known, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            found.append(f"{where}: there is no such key.{hint} There are: {', '.join(known)}.")
        elif item["type"] == "value_error":
            prefix = f"{section}." if section else ""
            found += [f"{prefix}{part}." for part in str(item["ctx"]["error"]).split("; ")]
        else:
            found.append(f"{where} = {item.get('input')!r}: {item['msg'][0].lower()}{item['msg'][1:]}.")
    return found


def _merge_file(settings: Settings, path: Path) -> list[str]:
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        return [f"--config {path}: {error.strerror}."]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return [f"--config {path}: not valid TOML: {error}."]
    problems = []
    for key, value in content.items():
        if key in SECTIONS and isinstance(value, dict):
            settings[key].update(value)
        elif key in TOP:
            settings[key] = value
        else:
            known = [*TOP, *(f"[{section}]" for section in SECTIONS)]
            near = difflib.get_close_matches(key, [*TOP, *SECTIONS], 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            problems.append(f"{path}: {key}: there is no such key.{hint} There are: {', '.join(known)}.")
    return problems


def _assign(settings: Settings, assignment: str) -> list[str]:
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        return [f"--set {assignment}: write --set key=value."]
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    names = {
        field.name: section
        for section in reversed(SECTIONS)
        for field in dataclasses.fields(SECTIONS[section])
    }
    names |= {field.name: "recipe" for field in dataclasses.fields(Recipe)}
    section, dot, rest = key.partition(".")
    if dot and section in SECTIONS:
        _put(settings, f"{section}.{rest}", value)
    elif key in TOP:
        settings[key] = value
    elif key in names:
        _put(settings, f"{names[key]}.{key}", value)
    else:
        near = difflib.get_close_matches(key, [*names, *TOP], 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        return [f"--set {key}: there is no such key.{hint} There are: {', '.join(sorted({*names, *TOP}))}."]
    return []


def _put(settings: Settings, name: str, value: Any) -> None:
    section, dot, key = name.partition(".")
    if dot:
        settings[section][key] = value
    else:
        settings[name] = value
