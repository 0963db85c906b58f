"""The whole configuration: one loader for TOML files and flags, all mistakes in one message.

What determines a model's weights is described in `muster.workers.spec` and parsed here into those same classes;
this module adds what does not: where the data are, which resources, which store. Precedence, lowest first:
preset, file, flags, `--set`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from muster.orchestrator.methods import baseline as presets_baseline
from muster.orchestrator.methods import bier as presets_bier
from muster.orchestrator.methods import dreml as presets
from muster.orchestrator.settings.checks import backbone_problems, resize_problems
from muster.orchestrator.settings.parse import Settings, assign, merge_file, parse, parse_saved, put
from muster.orchestrator.settings.resources import Resources
from muster.workers import datasets
from muster.workers.datasets import Traits
from muster.workers.errors import UsageError
from muster.workers.forms import APART, form, keyed
from muster.workers.methods.baseline.settings import OWN, BaselineLoss, BaselineSettings
from muster.workers.methods.bier.settings import BierSettings
from muster.workers.methods.dreml.settings import Recipe
from muster.workers.networks.facts import WITHOUT_IMAGENET
from muster.workers.score.combine import Combine
from muster.workers.spec import InputRecipe, TestView, check
from muster.workers.store.layout import check_run_name

Method = Literal["dreml", "bier", "baseline"]
#: The papers' largest ensembles have 48; every member has a key, a place in the queue and a row in the report.
MOST_MEMBERS = 1000
#: Each is a ranking of the whole gallery.
MOST_REPEATS = 1000
STRICT: dict[str, str] = {"extra": "forbid"}


@keyed(
    "dataset root train_classes val_classes skip_bad_images allow_counts test_list vehicleid_protocol repeats"
)
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
                f"repeats = {self.repeats}: {MOST_REPEATS} is the most": self.repeats <= MOST_REPEATS,
                f"repeats = {self.repeats} has no effect without vehicleid_protocol = reid": self.repeats
                == 10
                or self.vehicleid_protocol == "reid",
                f"train_classes = {self.train_classes}: must not be negative": self.train_classes >= 0,
                f"val_classes = {self.val_classes}: must not be negative": self.val_classes >= 0,
            }
        )


@keyed("D L seed backbone weights precision threads deterministic batch_norm")
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
    batch_norm: Literal["batch", "frozen"] = "batch"
    "BIER alone: BatchNorm's statistics are those of the global batch, or frozen ones of pretrained weights."

    def __post_init__(self) -> None:
        check(
            {
                f"D = {self.D}: an embedding needs at least 2 meta-classes": self.D >= 2,
                f"L = {self.L}: an ensemble needs at least 1 member": self.L >= 1,
                f"L = {self.L}: an ensemble has at most {MOST_MEMBERS} members": self.L <= MOST_MEMBERS,
                f"threads = {self.threads}: must be at least 1": self.threads >= 1,
            }
        )


@keyed("method data ensemble preset recipe view bier baseline combine")
@dataclass(frozen=True, kw_only=True)
class LaunchRequest:
    """All of a launch: what is written to `run.json`."""

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    method: Method = "dreml"
    data: DataRequest
    ensemble: EnsembleRequest
    preset: str
    recipe: Recipe | InputRecipe
    "BIER's is the input alone."
    view: TestView
    resources: Resources = field(metadata=APART)
    bier: BierSettings | None = None
    "Of method bier."
    baseline: BaselineSettings | None = None
    "Of method baseline."
    combine: Combine = "share"
    "How BIER's learners are combined at test time; the model does not depend on it."
    name: str = field(default="", metadata=APART)
    storage: str = field(default="store", metadata=APART)

    def identity(self) -> Settings:
        """What makes two requests the same one: all but how, where and under which name it runs."""
        found: Settings = form(self)
        return found

    @property
    def run(self) -> str:
        """The run's name: as given, or made from the request, so that the same request finds its run again."""
        if self.name:
            return self.name
        digest = hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:6]
        shape = f"D{self.ensemble.D}-L{self.ensemble.L}" if self.method == "dreml" else f"{self.ensemble.D}d"
        return f"{self.baseline.loss if self.baseline else self.method}-{self.data.dataset}-{shape}-{digest}"


#: A bare key of `--set` that several have is the first one's.
SECTIONS: dict[str, Any] = {
    "recipe": Recipe,
    "data": DataRequest,
    "ensemble": EnsembleRequest,
    "view": TestView,
    "resources": Resources,
}
BIER_SECTIONS: dict[str, Any] = {"bier": BierSettings, **SECTIONS, "recipe": InputRecipe}
BASELINE_SECTIONS: dict[str, Any] = {"baseline": BaselineSettings, **SECTIONS, "recipe": InputRecipe}
METHOD_SECTIONS = {"dreml": SECTIONS, "bier": BIER_SECTIONS, "baseline": BASELINE_SECTIONS}
ALL_SECTIONS = {**BASELINE_SECTIONS, **BIER_SECTIONS}
#: Settings in shared sections that are BIER's: section, key, default, and why the others have none.
BIERS_ALONE = (
    ("ensemble", "batch_norm", "batch", "each batch's statistics are those of"),
    ("resources", "ranks", 1, "one process trains"),
)
TOP = ("method", "preset", "image_size", "combine", "name", "storage")


def load(config: Path | None, flags: Mapping[str, Any], assignments: list[str]) -> LaunchRequest:
    """The request from a TOML file, flags (dotted names; None: not given) and `key=value` assignments.

    Raises UsageError with all mistakes that can be told without reading the data.
    """
    settings: Settings = {section: {} for section in ALL_SECTIONS}
    problems = merge_file(settings, config, ALL_SECTIONS, TOP) if config else []
    said = [settings.get("method")]
    for name, value in flags.items():
        if value is not None:
            put(settings, name, value)
    sections = METHOD_SECTIONS.get(str(settings.get("method")), SECTIONS)
    for assignment in assignments:
        problems += assign(settings, assignment, sections, TOP)
    method = flags.get("method")
    for other in [*said, settings.get("method")] if method else []:
        if other not in {None, method}:
            problems.append(
                f"method = {other!r}: this command's is {method}; muster launch has one for each method."
            )
            settings["method"] = method
    return _build(settings, problems)


def open_data(request: DataRequest) -> datasets.DataSet:
    """The data set that a request names. Raises UsageError if there is none such."""
    return datasets.open_data_set(
        request.dataset, request.root, allow_counts=request.allow_counts, test_list=request.test_list
    )


def parse_request(saved: Mapping[str, Any], where: str) -> LaunchRequest:
    """A request from the JSON that a run's folder keeps; `where` names it. Raises UsageError."""
    found: LaunchRequest = parse_saved(LaunchRequest, saved, where)
    return found


def to_dict(request: LaunchRequest) -> Settings:
    """The request as plain values for JSON."""
    return dataclasses.asdict(request)


def _build(settings: Settings, problems: list[str]) -> LaunchRequest:
    problems += _top_problems(settings)
    method = settings.get("method", "dreml")
    if method not in get_args(Method):
        problems.append(f"method = {method!r}: there are {', '.join(get_args(Method))}.")
        method = "dreml"
    dataset = datasets.canonical(str(settings["data"].get("dataset", "glyphs")))
    settings["data"]["dataset"] = dataset
    data = parse(DataRequest, settings["data"], "data", problems)
    if dataset != "vehicleid" and settings["data"].get("test_list", "small") != "small":
        problems.append(f"data.test_list: only vehicleid has test lists, and the data set is {dataset}.")
    if dataset != "vehicleid" and settings["data"].get("vehicleid_protocol", "self") != "self":
        problems.append(f"data.vehicleid_protocol: it is vehicleid's, and the data set is {dataset}.")
    root = settings["data"].get("root")
    traits = _traits(dataset, None if root is None else str(root), problems)
    make = {"dreml": _dreml_parts, "bier": _bier_parts, "baseline": _baseline_parts}[method]
    parsed = {"method": method, "data": data, **make(settings, dataset, traits, problems)}
    parsed["view"] = parse(TestView, settings["view"], "view", problems, parsed["view"])
    parsed["resources"] = parse(Resources, settings["resources"], "resources", problems)
    problems += resize_problems(parsed)
    crops = {parsed[section].crop for section in ("recipe", "view") if parsed[section] is not None}
    backbone = settings["ensemble"].get("backbone", EnsembleRequest.backbone)
    if isinstance(backbone, str):
        problems += backbone_problems(backbone, crops)
        if settings["ensemble"].get("weights") == "imagenet" and backbone in WITHOUT_IMAGENET:
            problems.append(WITHOUT_IMAGENET[backbone])
    name = str(settings.get("name") or "")
    if name:
        try:
            check_run_name(name)
        except UsageError as error:
            problems += error.problems
    if problems:
        raise UsageError(problems)
    storage = str(settings.get("storage") or "store")
    return LaunchRequest(**parsed, name=name, storage=storage)


def _top_problems(settings: Settings) -> list[str]:
    """What is no text among the settings that belong to no section; it is taken out."""
    wrong = {key: settings.get(key) for key in TOP if key != "image_size"}
    wrong = {key: value for key, value in wrong.items() if value is not None and not isinstance(value, str)}
    empty = [key for key in TOP if isinstance(settings.get(key), str) and not settings[key].strip()]
    for key in [*wrong, *empty]:
        del settings[key]
    return [
        *(f"{key} = {value!r}: must be text, in quotes." for key, value in wrong.items()),
        *(f"{key} is empty: give it a value or leave it out." for key in empty),
    ]


def _dreml_parts(settings: Settings, dataset: str, traits: Traits, problems: list[str]) -> Settings:
    """What is DREML's of a request; the test view is the preset's."""
    if dataset == "glyphs":
        settings["ensemble"] = {"D": 100, "backbone": "conv4", **settings["ensemble"]}
    _refuse_foreign(settings, "dreml", {}, problems)
    recipe, view = _with_preset(settings, dataset, traits, problems)
    return {
        "preset": settings.get("preset") or presets.preset_for(dataset),
        "ensemble": parse(EnsembleRequest, settings["ensemble"], "ensemble", problems),
        "recipe": parse(Recipe, settings["recipe"], "recipe", problems, recipe),
        "view": view,
    }


def _bier_parts(settings: Settings, dataset: str, traits: Traits, problems: list[str]) -> Settings:
    """What is BIER's of a request: one model, whose dimension is the sum of its learners'."""
    preset = settings.get("preset") or presets_bier.preset_for(dataset)
    if preset not in presets_bier.PRESETS:
        problems.append(f"preset = {preset!r}: there are {', '.join(presets_bier.PRESETS)}.")
        preset = "authors"
    if settings["baseline"]:
        problems.append("baseline: the method is bier.")
    wrong = [key for key in ("D", "L") if key in settings["ensemble"]]
    problems += [
        f"ensemble.{key}: BIER is one model; the sizes of its learners are bier.sizes." for key in wrong
    ]
    backbone = settings["ensemble"].setdefault("backbone", presets_bier.backbone_for(dataset))
    side = _picture_side(settings, dataset, problems)
    defaults = presets_bier.settings(preset, traits, side, backbone)
    bier = parse(BierSettings, presets_bier.completed(defaults.bier, settings["bier"]), "bier", problems)
    given = {key: value for key, value in settings["ensemble"].items() if key not in wrong}
    shape = {"D": max(2, bier.dimensions) if bier else 2, "L": 1}
    ensemble = parse(EnsembleRequest, {**given, **shape}, "ensemble", problems)
    if ensemble and ensemble.batch_norm == "frozen" and ensemble.weights == "none":
        problems.append(
            "ensemble.batch_norm = frozen needs pretrained weights (--weights): a new network's statistics describe "
            "nothing."
        )
    combine = settings.get("combine") or "share"
    if combine not in get_args(Combine):
        problems.append(f"combine = {combine!r}: there are {', '.join(get_args(Combine))}.")
    return {
        "preset": preset,
        "ensemble": ensemble,
        "recipe": parse(InputRecipe, settings["recipe"], "recipe", problems, defaults.recipe),
        "view": defaults.view,
        "bier": bier,
        "combine": combine,
    }


def _baseline_parts(settings: Settings, dataset: str, traits: Traits, problems: list[str]) -> Settings:
    """What is a compared method's of a request: one model, whose dimension is its own."""
    _refuse_foreign(
        settings, "baseline", {"D": "its dimension is baseline.dim", "L": "it is one model"}, problems
    )
    settings["ensemble"].setdefault("backbone", "conv4" if dataset == "glyphs" else EnsembleRequest.backbone)
    preset, side = _preset(settings, dataset, problems), _picture_side(settings, dataset, problems)
    given, recipe, view = presets_baseline.settings(preset, traits, side, settings["baseline"])
    losses = get_args(BaselineLoss)
    if given.get("loss") not in losses:
        said = f" = {given['loss']!r}: there are" if "loss" in given else ": give --loss, one of"
        problems.append(f"baseline.loss{said} {', '.join(losses)}.")
        given = {
            "loss": "triplet",
            **{k: v for k, v in given.items() if k not in {"loss", *OWN}},
        }  # stands in
    baseline = parse(BaselineSettings, given, "baseline", problems)
    kept = {key: value for key, value in settings["ensemble"].items() if key not in {"D", "L"}}
    shape = {"D": baseline.dim if baseline else 2, "L": 1}
    return {
        "preset": preset,
        "ensemble": parse(EnsembleRequest, {**kept, **shape}, "ensemble", problems),
        "recipe": parse(InputRecipe, settings["recipe"], "recipe", problems, recipe),
        "view": view,
        "baseline": baseline,
    }


def _refuse_foreign(settings: Settings, method: str, causes: Mapping[str, str], problems: list[str]) -> None:
    """Says which settings are another method's: sections, and keys of [ensemble] with the cause."""
    problems += [f"ensemble.{key}: {cause}." for key, cause in causes.items() if key in settings["ensemble"]]
    for section, key, default, cause in BIERS_ALONE:
        if settings[section].get(key, default) != default:
            problems.append(f"{section}.{key}: only bier has it; {cause} a {method} model.")
    foreign = [name for name in ("bier", "baseline") if name != method and settings[name]]
    foreign += ["combine"] if settings.get("combine") else []
    problems += [f"{name}: the method is {method}." for name in foreign]


def _traits(dataset: str, root: str | None, problems: list[str]) -> Traits:
    try:
        return datasets.open_data_set(dataset, root).traits
    except UsageError as error:
        problems += error.problems
        return datasets.Glyphs.traits  # stands in, so that the rest is checked too


def _with_preset(
    settings: Settings, dataset: str, traits: Traits, problems: list[str]
) -> tuple[Settings, Settings]:
    preset, side = _preset(settings, dataset, problems), _picture_side(settings, dataset, problems)
    epochs = settings["recipe"].get("epochs")
    return presets.settings(preset, traits, side, epochs if isinstance(epochs, int) else None)


def _preset(settings: Settings, dataset: str, problems: list[str]) -> str:
    preset = settings.get("preset") or presets.preset_for(dataset)
    if preset not in presets.PRESETS:
        problems.append(f"preset = {preset!r}: there are {', '.join(presets.PRESETS)}.")
        return "paper"
    return str(preset)


def _picture_side(settings: Settings, dataset: str, problems: list[str]) -> int:
    side = settings.get("image_size")
    if side is None:
        return presets.picture_side(dataset)
    if problem := presets.side_problem(side):
        problems.append(problem)
        return presets.picture_side(dataset)
    return int(side)
