"""The papers' tables: which rows they have, and the launches that measure those that muster can train.

A row that names no method is shown with its published cells alone. What a row trains is one set of a launch's
flags for each data set, in this module and nowhere else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from muster.orchestrator.ensemble.requests import EnsembleRequest
from muster.orchestrator.jobs.reproduce.request import ReproduceOptions, ensemble_request, launch_request
from muster.workers.datasets.vehicleid import TEST_LISTS
from muster.workers.errors import UsageError

Flags = dict[str, Any]


#: BIER's own network, whose weights must be brought along: `--weights bvlc_googlenet=FILE`.
CAFFE = "bvlc_googlenet"


@dataclass(frozen=True)
class Place:
    """What a table's columns are about: a data set, of VehicleID one of its test lists."""

    dataset: str
    test_list: str = ""

    @property
    def name(self) -> str:
        """As in `published`: cub200, vehicleid-small."""
        return f"{self.dataset}-{self.test_list}" if self.test_list else self.dataset


FlagsOf = Callable[[ReproduceOptions, Place], Flags | None]


@dataclass(frozen=True)
class Row:
    """A row: what it is called in the paper, and how it is trained."""

    name: str
    "For `--rows`."
    label: str
    method: str = ""
    "The name of a method; empty: not trained here."
    flags: FlagsOf = lambda options, place: {}
    "A launch's flags on a data set; None: this row is not trained on it."
    teacher: str = ""
    "The row whose ensembles it learns from."


@dataclass(frozen=True)
class Want:
    """One ensemble of a row: a data set and a seed. Without a `request`, `refusal` says why it can't be trained."""

    row: Row
    place: Place
    seed: int
    name: str
    "The request's."
    request: EnsembleRequest | None
    refusal: str = ""


@dataclass(frozen=True)
class Table:
    """One of the papers' tables."""

    name: str
    title: str
    datasets: tuple[str, ...]
    "The paper's own."
    extra_datasets: tuple[str, ...]
    "Others that it can be asked for."
    rows: tuple[Row, ...]
    nmi: bool
    notes: tuple[str, ...]
    "Which choice was made where the paper, its code and others differ."

    @property
    def row_names(self) -> tuple[str, ...]:
        return tuple(row.name for row in self.rows)

    def chosen_rows(self, options: ReproduceOptions) -> list[Row]:
        return [row for row in self.rows if not options.rows or row.name in options.rows]

    def metrics(self, ks: tuple[int, ...]) -> list[str]:
        """What its cells are, in their order."""
        return [*(f"recall_at_{k}" for k in ks), *(["nmi"] if self.nmi else [])]

    def wants(self, options: ReproduceOptions) -> list[Want]:
        """What the rows train; the first seed of all rows before the second of any."""
        return [
            self._want(options, row, place, flags, seed)
            for seed in range(options.seeds)
            for place in places(options.datasets)
            for row in self.chosen_rows(options)
            if row.method and (flags := row.flags(options, place)) is not None
        ]

    def requests(self, options: ReproduceOptions) -> list[EnsembleRequest]:
        """The ensembles that the rows are made of; those that can't be asked for are left out."""
        return [want.request for want in self.wants(options) if want.request is not None]

    def _want(self, options: ReproduceOptions, row: Row, place: Place, flags: Flags, seed: int) -> Want:
        name = f"{self.name}: {place.name} {row.label} seed {seed}"
        shared: Flags = {"resources.nmi": self.nmi}
        if place.test_list:
            shared["data.test_list"] = place.test_list
        try:
            if row.teacher:
                (teacher,) = (other for other in self.rows if other.name == row.teacher)
                its = {**(teacher.flags(options, place) or {}), **shared}
                shared["teacher"] = launch_request(options, place.dataset, teacher.method, its, seed).run
            request = ensemble_request(options, name, place.dataset, row.method, {**flags, **shared}, seed)
        except UsageError as error:
            return Want(row, place, seed, name, None, " ".join(error.problems))
        return Want(row, place, seed, name, request)


def places(names: tuple[str, ...]) -> list[Place]:
    """The columns' subjects of these data sets: VehicleID has three."""
    found = []
    for name in names:
        lists = TEST_LISTS if name == "vehicleid" else [""]
        found += [Place(name, test_list) for test_list in lists]
    return found


def _dreml(backbone: str, D: int, L: int) -> FlagsOf:
    """DREML as its code trains it, with the learning rates of its text: 12 epochs, divided by 10 every 4.

    The code's own steps (times 0.01 at half and at 0.8) are younger than the paper; its views, its cap of images
    of a class and its choice of the epoch are in no way contradicted by the text but for the resize.
    """

    def flags(options: ReproduceOptions, place: Place) -> Flags | None:
        shape = {"ensemble.D": D, "ensemble.L": L}
        if place.dataset == "glyphs":  # drawn characters of 32 px: its own small network and recipe
            return {**shape, "ensemble.backbone": "conv4"} if backbone == "resnet18" else None
        steps = {"schedule": "step", "step_epochs": 4, "gamma": 0.1, "milestones": ()}
        recipe = {f"recipe.{name}": value for name, value in steps.items()}
        return {**shape, "ensemble.backbone": backbone, "preset": "code", **recipe}

    return flags


def _bier(**settings: Any) -> FlagsOf:
    """BIER with the data set's preset, and these of `muster.workers.methods.bier.settings`' fields changed.

    The authors' network, Caffe's GoogLeNet, is taken if its weights were given (they are in no library), and else
    torchvision's, which has ImageNet weights.
    """

    def flags(options: ReproduceOptions, place: Place) -> Flags | None:
        found = {f"bier.{name}": value for name, value in settings.items()}
        if place.dataset != "glyphs":
            caffe = options.weights_file(CAFFE) is not None
            found["ensemble.backbone"] = CAFFE if caffe else "googlenet"
        return found

    return flags


def _baseline(loss: str) -> FlagsOf:
    """A compared method on the pictures of DREML's rows."""

    def flags(options: ReproduceOptions, place: Place) -> Flags | None:
        found = {"baseline.loss": loss}
        return found if place.dataset == "glyphs" else {**found, "preset": "code"}

    return flags


def _student(options: ReproduceOptions, place: Place) -> Flags | None:
    """One network on the pictures of DREML's rows, that learns from the ensemble of another row."""
    return {} if place.dataset == "glyphs" else {"preset": "code"}


TRIPLET = Row("triplet", "Triplet semi-hard", "baseline", _baseline("triplet"))
NPAIRS = Row("npairs", "N-pairs", "baseline", _baseline("npairs"))
PROXYNCA = Row("proxynca", "Proxy-NCA", "baseline", _baseline("proxynca"))
BIER = Row("bier", "BIER", "bier", _bier())
HDC = Row("hdc", "HDC")

RECIPE = (
    "DREML's rows: short side 281 and crops of 256 px, at most 500 images of a class, the epoch with the best "
    "training accuracy, plain logits, as in the authors' code; learning rate divided by 10 every 4 of 12 epochs, "
    "as in the text (the code's later versions: times 0.01 at half and at 0.8). glyphs has its own preset and conv4."
)
BIER_RECIPE = (
    "BIER's rows: the settings of the authors' code. Known are those for SOP and the defaults, which the other data "
    "sets get. Their Caffe GoogLeNet is used with --weights bvlc_googlenet=FILE; else torchvision's googlenet, "
    "which has BatchNorm and is no reproduction. glyphs has a preset of its own and conv4."
)
BASELINE_RECIPE = (
    "Triplet, N-pairs and Proxy-NCA: ResNet-18 (on glyphs conv4) on the pictures of DREML's rows, one embedding of 64, "
    "settings of ours. "
    "The published cells were obtained with other networks and settings."
)
STUDENT = (
    "Student: no row of the paper, whose section 5 asks for it. One ResNet-18 (on glyphs conv4) of 512 dimensions that "
    "learns the similarities of this table's own ensemble; it is trained with that row (--rows dreml-r,distill)."
)
LEFT_OUT = "A row without measured cells is a method that muster does not train, or not on that data set."

TABLES = {
    table.name: table
    for table in (
        Table(
            "dreml-table1",
            "DREML, Table 1: CUB-200-2011 and Cars-196",
            ("cub200", "cars196"),
            ("glyphs",),
            (
                TRIPLET,
                NPAIRS,
                PROXYNCA,
                HDC,
                BIER,
                Row("dreml-i", "DREML (I,12,48)", "dreml", _dreml("googlenet", 12, 48)),
                Row("dreml-r", "DREML (R,12,48)", "dreml", _dreml("resnet18", 12, 48)),
                Row("distill", "Student of (R,12,48)", "distill", _student, teacher="dreml-r"),
            ),
            True,
            (
                RECIPE,
                STUDENT,
                "I is Inception V1 as torchvision has it (googlenet, with BatchNorm); which one the paper used is not "
                "known. R is ResNet-18.",
                "NMI: faiss k-means, as many clusters as test classes, 5 starts of 100 iterations, arithmetic mean; "
                "what the paper used is not known.",
                BIER_RECIPE,
                BASELINE_RECIPE,
                LEFT_OUT,
            ),
        ),
        Table(
            "dreml-table2",
            "DREML, Table 2: In-Shop Clothes Retrieval",
            ("inshop",),
            (),
            (
                Row("fashionnet", "FashionNet"),
                HDC,
                BIER,
                Row("dreml-r", "DREML (R,192,48)", "dreml", _dreml("resnet18", 192, 48)),
            ),
            False,
            (
                RECIPE,
                "L = 48 as in the table; the paper's section 5 says 12 for In-Shop.",
                "Published are 26,830 test images (14,218 queries, 12,612 in the gallery): the paper's 28,760 is a "
                "misprint.",
                BIER_RECIPE,
                LEFT_OUT,
            ),
        ),
        Table(
            "dreml-table3",
            "DREML, Table 3: PKU VehicleID",
            ("vehicleid",),
            (),
            (
                Row("gs-trs", "GS-TRS"),
                BIER,
                Row("dreml-r", "DREML (R,192,12)", "dreml", _dreml("resnet18", 192, 12)),
            ),
            False,
            (
                RECIPE,
                "L = 12 as in the table; the paper's section 5 says 48 for VehicleID.",
                "The published cells are of self-query (each image of a test list asks all others of it), as DREML's "
                "authors did. With --vehicleid-protocol reid the measured ones are not comparable: no difference is "
                "given.",
                "The test lists are those distributed today; the papers counted older ones.",
                BIER_RECIPE,
                LEFT_OUT,
            ),
        ),
        Table(
            "bier-table1",
            "BIER (summary), Table I: CUB-200-2011 and Stanford Online Products",
            ("cub200", "sop"),
            ("glyphs",),
            (
                Row("lifted", "Lifted structure"),
                PROXYNCA,
                Row(
                    "baseline-512",
                    "Baseline, one of 512",
                    "bier",
                    _bier(sizes=(512,), boost=False),
                ),
                Row("baseline-split", "Baseline, split", "bier", _bier(boost=False)),
                BIER,
                Row("a-bier", "A-BIER", "bier", _bier(auxiliary="adversarial")),
            ),
            False,
            (
                "The summary's row BIER has the numbers of A-BIER, BIER with the adversarial loss. It prints R@1.",
                "Baseline, one of 512: a single embedding of 512 without boosting. Baseline, split: BIER's learners "
                "with all pair weights 1.",
                BIER_RECIPE,
                BASELINE_RECIPE,
                LEFT_OUT,
            ),
        ),
    )
}


def for_table(options: ReproduceOptions, table: Table) -> ReproduceOptions:
    """The options of one table among several: its own data sets and rows of those asked for."""
    rows = tuple(row for row in options.rows if row in table.row_names)
    return dataclasses.replace(options, target=table.name, rows=rows)
