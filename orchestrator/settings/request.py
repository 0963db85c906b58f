"""What a launch is asked for: data, ensemble, a method's own part, test view, resources.

What determines a model's weights is described in `muster.workers` and parsed into those same classes; this module
adds what does not: where the data are, which resources, which store.
"""

from __future__ import annotations

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from muster.orchestrator.settings import compat
from muster.orchestrator.settings.parse import Settings, short_digest
from muster.orchestrator.settings.resources import Resources
from muster.workers import datasets
from muster.workers.datasets import Reading
from muster.workers.datasets.base import NEWEST
from muster.workers.datasets.own.sources import NAMES as COLUMNS
from muster.workers.datasets.pictures import MOST_PIXELS, is_colour
from muster.workers.errors import UsageError
from muster.workers.flags import flag
from muster.workers.forms import APART, added, keyed
from muster.workers.methods.registry import METHODS
from muster.workers.score.combine import Combination
from muster.workers.spec import InputRecipe, ModelSpec, TestView, check

#: The papers' largest ensembles have 48; every member has a key, a place in the queue and a row in the report.
MOST_MEMBERS = 1000
#: Each is a ranking of the whole gallery.
MOST_REPEATS = 1000
STRICT: dict[str, str] = {"extra": "forbid"}
#: The settings of data that are paths or addresses, and their flags.
DATA_PLACES = {"root": "--data-root", "table": "--list", "split_file": "--split-file"}
#: A finished model's rows of history, one for each epoch.
History = Sequence[Mapping[str, Any]]
#: A launch's settings by dotted name: "ensemble.D".
Flags = dict[str, Any]


@keyed(
    "dataset root train_classes val_classes skip_bad_images allow_counts test_list vehicleid_protocol repeats"
)
@dataclass(frozen=True, kw_only=True)
class DataRequest:
    """Which images."""

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    dataset: str = field(default="glyphs", metadata=flag())
    "glyphs (embedded), folder (a directory of class folders), table (a list), or one of `muster data list`."
    root: str | None = field(default=None, metadata=flag("--data-root"))
    "Where a data set that is not embedded lies, as the nodes see it."
    train_classes: int = field(default=0, metadata=flag())
    "Train on the first N training classes only; 0: all."
    val_classes: int = field(default=0, metadata=flag())
    "Hold N of the training classes out, seeded, as a validation split."
    skip_bad_images: bool = field(default=False, metadata=flag())
    "Go on without images that can't be read; they are listed."
    allow_counts: bool = field(default=False, metadata=flag())
    "Go on with a copy of a published data set that is not as published; the report says so."
    table: str | None = added(None, absent=None, metadata=flag("--list"))
    "The table of a data set `table`: CSV, TSV, JSON lines or Parquet; without it the root is one of Hugging Face."
    columns: tuple[str, ...] = added((), absent=(), metadata=flag())
    "What columns of a table are called: path=file,label=item_id."
    layout: Literal["auto", "classes", "splits"] = added("auto", absent="auto", metadata=flag())
    "What folders at the top of a data root are: classes, splits, or auto: what they look like. Of a table: its splits."
    split_by: Literal["half", "random", "file"] = added("half", absent="half", metadata=flag())
    "Which classes train where no splits are given: half, the first by name; random, a random half; file, as listed."
    split_seed: int = added(0, absent=0, metadata=flag())
    "The seed of split_by = random."
    split_file: str | None = added(None, absent=None, metadata=flag())
    "The list of split_by = file: a table with the columns label and split."
    allow_shared_classes: bool = added(False, absent=False, metadata=flag())
    "Go on where a folder's splits have classes of the same name."
    drop_duplicates: bool = added(False, absent=False, metadata=flag())
    "Leave out pictures of a folder that are in another split too, or twice in test."
    background: str = added("white", absent="white", metadata=flag())
    "The colour that transparent pixels of a folder's pictures stand on: a name, or #rrggbb."
    exif_transpose: bool = added(False, absent=False, metadata=flag())
    "Turn a folder's pictures as their EXIF says."
    max_pixels: int = field(default=MOST_PIXELS, metadata={**flag(), **APART})
    "Pixels of the largest picture that is decoded."
    reading: int = field(default=NEWEST, metadata={**flag(), **APART})
    "The rule that a folder is read by; 1 is that of releases before it was named."
    test_list: Literal["small", "medium", "large"] = "small"
    "Which of vehicleid's test lists is the test split."
    vehicleid_protocol: Literal["self", "reid"] = "self"
    "self: each image asks all others, as in the paper; reid: each seeks its vehicle among one random image of each."
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
                f"max_pixels = {self.max_pixels}: must be at least 1": self.max_pixels >= 1,
                f"reading = {self.reading}: there are 1 to {NEWEST}": 1 <= self.reading <= NEWEST,
                **self._folder_checks(),
            }
        )

    def _folder_checks(self) -> dict[str, bool]:
        """What must hold of the settings of one's own pictures, for `check`."""
        usual = {field.name: field.default for field in dataclasses.fields(self)}
        own = {
            "layout", "allow_shared_classes", "drop_duplicates", "background", "exif_transpose", "reading", "split_by",
            "split_seed", "split_file",
        }  # fmt: skip
        table = {"table", "columns"}
        given = [name for name in usual if name in own | table and getattr(self, name) != usual[name]]
        first = [name for name in given if name not in {"reading", "drop_duplicates"}]
        folders = [name for name in given if name in table]
        odd = [one for one in self.columns if not re.fullmatch(rf"({'|'.join(COLUMNS)})=.+", one)]
        return {
            f"{' and '.join(given)}: only folder and table have that": self.dataset in datasets.OWN
            or not given,
            f"{' and '.join(folders)}: only the data set table has that": self.dataset != "folder"
            or not folders,
            f"{' and '.join(first)}: reading 1 does not know that": self.reading != 1 or not first,
            "reading = 1: a table was never read by it": self.reading != 1 or self.dataset != "table",
            f"columns = {','.join(odd)}: should be like path=file,label=item_id, of {', '.join(COLUMNS)}": not odd,
            f"columns = {','.join(self.columns)}: names one of {', '.join(COLUMNS)}, or one of yours, twice": all(
                len({one.split("=", 1)[part] for one in self.columns if "=" in one})
                == len([one for one in self.columns if "=" in one])
                for part in (0, -1)
            ),
            "split_by = file and split_file need each other": (self.split_by == "file")
            == (self.split_file is not None),
            f"split_seed = {self.split_seed}: has no effect without split_by = random": self.split_seed == 0
            or self.split_by == "random",
            f"split_seed = {self.split_seed}: must not be negative": self.split_seed >= 0,
            f"background = {self.background!r}: no colour, as white, black or #rrggbb are": is_colour(
                self.background
            ),
        }


@keyed("D L seed backbone weights precision threads deterministic batch_norm")
@dataclass(frozen=True, kw_only=True)
class EnsembleSettings:
    """Which networks."""

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    D: int = field(default=12, metadata=flag("--D", only="ensemble"))
    "Meta-classes of each member, and its embedding's dimension."
    L: int = field(default=8, metadata=flag("--L", only="ensemble"))
    "Members."
    seed: int = field(default=0, metadata=flag())
    "Random seed for partitions, initial weights, order and augmentation."
    backbone: str = field(default="resnet18", metadata=flag())
    "conv4, any classifier of torchvision by name, one of timm as timm/NAME, or your own as MODULE:FACTORY."
    weights: str = field(default="none", metadata=flag())
    "none, imagenet, or a file of a state dict."
    precision: Literal["auto", "fp32", "tf32", "bf16"] = field(default="auto", metadata=flag())
    "auto: bf16 where all GPUs have it, else fp32. tf32: float32 whose products GPUs round to 10 bits of mantissa."
    threads: int = 1
    "CPU threads of a member that trains on a CPU."
    deterministic: bool = field(default=False, metadata=flag())
    "Deterministic kernels on GPUs: the same bits again on the same hardware, somewhat slower."
    batch_norm: Literal["batch", "frozen"] = field(default="batch", metadata=flag(only="multi_rank"))
    "BatchNorm's statistics: batch, those of the whole batch; frozen, those of the pretrained weights."

    def __post_init__(self) -> None:
        check(
            {
                f"D = {self.D}: an embedding needs at least 2 meta-classes": self.D >= 2,
                f"L = {self.L}: an ensemble needs at least 1 member": self.L >= 1,
                f"L = {self.L}: an ensemble has at most {MOST_MEMBERS} members": self.L <= MOST_MEMBERS,
                f"threads = {self.threads}: must be at least 1": self.threads >= 1,
            }
        )


@dataclass(frozen=True, kw_only=True)
class InputRun:
    """A finished run that another model is trained from: its members' vectors of the training images."""

    keys: tuple[str, ...]
    "Its members', in index order."
    vectors: str
    "The digest of the images and the view that the vectors are of."
    combination: Combination | None
    "How a vector's parts are combined, where it has some."


@dataclass(frozen=True, kw_only=True)
class MethodRequest(ABC):
    """A method's own part of a request, and what follows from it; each method has its own class."""

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    recipe: InputRecipe

    @property
    @abstractmethod
    def title(self) -> str:
        """The method's name for people."""

    @property
    def prefix(self) -> str:
        """What names of runs begin with; by default the method's name."""
        return ""

    @property
    def drawn_at_once(self) -> int:
        """Images that each step draws, of which ranks take equal shares; 1 for a method that passes through all images,
        and whose last step has those that are left."""
        return 1

    @property
    def combination(self) -> Combination | None:
        """How its learners are combined at test time; None if its models have none."""
        return None

    def shape(self, ensemble: EnsembleSettings) -> str:
        """The shape of its vectors, for names of runs."""
        return f"{ensemble.D}d"

    @property
    def input_runs(self) -> tuple[str, ...]:
        """Names of finished runs in the same store that its models are trained from."""
        return ()

    @abstractmethod
    def specs(
        self, ensemble: EnsembleSettings, common: Mapping[str, Any], inputs: Sequence[InputRun]
    ) -> list[ModelSpec]:
        """The models that are asked for, in index order; `common` are the fields that all specs have, `inputs` what
        became of `input_runs`."""

    @abstractmethod
    def class_problems(self, request: LaunchRequest, classes: int) -> list[str]:
        """Why it can't train on so many classes."""

    @abstractmethod
    def rehearsed(self, request: LaunchRequest, scale: float, share: float, classes: int) -> Flags:
        """The flags of a rehearsal at `scale`, on so many classes and `share` of the full training images."""

    @abstractmethod
    def caption(self, request: LaunchRequest) -> str:
        """What a plot's title says of the model, after method, data set and backbone."""

    def notes(self) -> list[str]:
        """What a report says below its curve."""
        return []

    def fitted(self, preset: str) -> str:
        """How the preset's schedule was brought to the epochs that were asked for; empty if it was not."""
        return ""

    def doubts(self, ensemble: EnsembleSettings, histories: Sequence[History]) -> list[str]:
        """What in the histories of its finished models says that training has not got far, and what to try."""
        return []

    @abstractmethod
    def in_words(self, request: LaunchRequest) -> list[str]:
        """How it is trained, clause by clause, from the settings themselves."""


@keyed("method data ensemble preset view")
@dataclass(frozen=True, kw_only=True)
class LaunchRequest:
    """All of a launch."""

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT
    kind: ClassVar[str] = "launch"

    method: str
    data: DataRequest
    ensemble: EnsembleSettings
    preset: str
    settings: MethodRequest = field(metadata=APART)
    "Hashed beside the others, see `identity`."
    view: TestView
    resources: Resources = field(metadata=APART)
    name: str = field(default="", metadata=APART)
    storage: str = field(default="store", metadata=APART)

    @property
    def recipe(self) -> InputRecipe:
        return self.settings.recipe

    @property
    def one_model(self) -> bool:
        """Whether its method trains one model, and no ensemble of members."""
        return not METHODS[self.method].ensemble

    def identity(self) -> Settings:
        """What makes two requests the same one: all but how, where and under which name it runs."""
        return compat.identity(self, self.settings)

    def document(self) -> Settings:
        """The request as plain values for JSON, as `run.json` keeps it."""
        return compat.document(self, self.settings)

    @property
    def run(self) -> str:
        """The run's name: as given, or made from the request, so that the same request finds its run again."""
        if self.name:
            return self.name
        digest = short_digest(self.identity())
        prefix = self.settings.prefix or self.method
        return f"{prefix}-{self.data.dataset}-{self.settings.shape(self.ensemble)}-{digest}"


def open_data(request: DataRequest) -> datasets.DataSet:
    """The data set that a request names. Raises UsageError if there is none such."""
    reading = Reading(
        version=request.reading,
        layout=request.layout,
        shared=request.allow_shared_classes,
        skip_bad=request.skip_bad_images,
        background=request.background,
        transpose=request.exif_transpose,
        most_pixels=request.max_pixels,
        table=request.table or "",
        columns=request.columns,
        split_by=request.split_by,
        split_seed=request.split_seed,
        split_file=request.split_file or "",
    )
    return datasets.open_data_set(
        request.dataset,
        request.root,
        allow_counts=request.allow_counts,
        test_list=request.test_list,
        reading=reading,
    )


def gives_validation(request: DataRequest) -> bool:
    """Whether one's own pictures seem to come with a validation split; none is listed for it."""
    try:
        data = open_data(request)
        return isinstance(data, datasets.OwnPictures) and data.gives_validation()
    except UsageError:
        return False  # is said where the pictures are listed
