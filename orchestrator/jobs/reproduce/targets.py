"""What `muster reproduce` can be asked for: the papers' tables and figures by name, and the check of a request.

Figures are modules of the room `figures` (see `request` for what they offer); each is imported only when it is
wanted.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from muster.orchestrator.ensemble.requests import EnsembleRequest
from muster.orchestrator.jobs.reproduce.request import ReproduceOptions
from muster.orchestrator.jobs.reproduce.tables.papers import TABLES, Table, for_table
from muster.orchestrator.methods.loading import load
from muster.orchestrator.settings import compat
from muster.orchestrator.settings.checks import backbone_problems
from muster.orchestrator.settings.parse import parse_saved, short_digest
from muster.workers import datasets
from muster.workers.datasets import PUBLISHED
from muster.workers.errors import UsageError
from muster.workers.methods.registry import METHODS


@dataclass(frozen=True)
class Figure:
    """One of DREML's figures."""

    name: str
    title: str
    datasets: tuple[str, ...]
    "The paper's own."
    extra_datasets: tuple[str, ...]

    @property
    def row_names(self) -> tuple[str, ...]:
        return ()

    @property
    def module(self) -> Any:
        """The module that asks and draws."""
        name = self.name.removeprefix("dreml-")
        return importlib.import_module(f"muster.orchestrator.jobs.reproduce.figures.{name}")

    def requests(self, options: ReproduceOptions) -> list[EnsembleRequest]:
        """The ensembles that it is drawn from. Raises MusterError."""
        return [
            dataclasses.replace(one, name=f"{self.name}: {one.name}") for one in self.module.requests(options)
        ]


Target = Table | Figure

FIGURES = {
    figure.name: figure
    for figure in (
        Figure("dreml-fig3", "DREML, Fig. 3: recall@1 against L and D", ("cars196",), ("cub200", "glyphs")),
        Figure("dreml-fig4", "DREML, Fig. 4: dot products of pairs", ("cars196",), ("cub200", "glyphs")),
        Figure("dreml-fig5", "DREML, Fig. 5: the closest training image", ("cars196",), ("cub200", "glyphs")),
        Figure(
            "dreml-fig6",
            "DREML, Fig. 6: queries and their four nearest images",
            ("cub200", "cars196", "inshop", "vehicleid"),
            ("glyphs",),
        ),
    )
}
TARGETS: dict[str, Target] = {
    **{name: table for name, table in TABLES.items() if name.startswith("dreml")},
    **FIGURES,
    "bier-table1": TABLES["bier-table1"],
}
ALL = "all"
#: A mean and its spread are known well with far fewer; every row is trained with each.
MOST_SEEDS = 100


def load_options(target: str, given: Mapping[str, Any], weights: tuple[str, ...] = ()) -> ReproduceOptions:
    """The request from what was given on the command line, by dotted name: fields of the options ("reproduce.seeds"),
    of a launch's resources, name and storage.

    Raises UsageError with all mistakes.
    """
    own = {
        name.removeprefix("reproduce."): value
        for name, value in given.items()
        if name.startswith("reproduce.")
    }
    shared = {name: value for name, value in given.items() if not name.startswith("reproduce.")}
    problems = _target_problems(target)
    names = _names(own.pop("datasets", ()), "--datasets", problems)
    wanted = tuple(dict.fromkeys(datasets.canonical(name) for name in names))
    chosen = tuple(dict.fromkeys(_names(own.pop("rows", ()), "--rows", problems)))
    if not problems or target in {*TARGETS, ALL}:
        mine = list(TARGETS.values()) if target == ALL else [TARGETS[target]]
        problems += _dataset_problems(target, mine, wanted)
        problems += _row_problems(target, mine, chosen)
    problems += [*_weights_problems(weights), *_choice_problems(own)]
    try:
        able = next(method.name for method in METHODS.values() if method.multi_rank)
        launch = load(None, {**shared, "method": able}, [])  # its own checks: nothing else of it is used
    except UsageError as error:
        problems += error.problems
    if problems:
        raise UsageError(problems)
    options = ReproduceOptions(
        target=target, datasets=wanted, rows=chosen, weights=weights,
        resources=launch.resources, name=launch.name, storage=launch.storage, **own,
    )  # fmt: skip
    needs_root = [d for _, one in each_target(options) for d in one.datasets if d in PUBLISHED]
    if needs_root and options.data_root is None:
        first = ", ".join(dict.fromkeys(needs_root))
        raise UsageError(
            f"--data-root is missing: the folder that holds your copies of {first} (docs/reproduce.md)."
        )
    return named(options)


def parse_options(saved: Mapping[str, Any], where: str) -> ReproduceOptions:
    """A request from the JSON that a run's folder keeps; `where` names it. Raises UsageError."""
    found: ReproduceOptions = parse_saved(ReproduceOptions, compat.current(saved, where), where)
    return found


def named(options: ReproduceOptions) -> ReproduceOptions:
    """With a name made from the request if it has none, so that the same request finds its run again."""
    if options.name:
        return options
    scale = "" if options.scale == 1 else f"-scale{options.scale:g}"
    return dataclasses.replace(options, name=f"{options.target}{scale}-{short_digest(options.identity())}")


def each_target(options: ReproduceOptions) -> list[tuple[Target, ReproduceOptions]]:
    """The targets of a request, each with the options that concern it: its own data sets and rows."""
    if options.target != ALL:
        target = TARGETS[options.target]
        return [(target, dataclasses.replace(options, datasets=options.datasets or target.datasets))]
    found = []
    for target in TARGETS.values():
        known = (*target.datasets, *target.extra_datasets)
        mine = tuple(name for name in options.datasets or target.datasets if name in known)
        own = dataclasses.replace(options, target=target.name, datasets=mine)
        if isinstance(target, Table):
            own = for_table(own, target)
        if mine and (not options.rows or own.rows) and not (options.rows and isinstance(target, Figure)):
            found.append((target, own))
    return found


def _choice_problems(own: Mapping[str, Any]) -> list[str]:
    """Numbers and choices that can't be."""
    scale, seeds, protocol = own.get("scale", 1), own.get("seeds", 1), own.get("vehicleid_protocol", "self")
    found = {
        f"--scale {scale:g}: must be above 0, at most 1.": 0 < scale <= 1,
        f"--seeds {seeds}: must be at least 1, at most {MOST_SEEDS}.": 1 <= seeds <= MOST_SEEDS,
        f"--vehicleid-protocol {protocol}: there are self and reid.": protocol in {"self", "reid"},
    }
    return [text for text, fine in found.items() if not fine]


def _target_problems(target: str) -> list[str]:
    known = [*TARGETS, ALL]
    if target in known:
        return []
    near = difflib.get_close_matches(target, known, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return [f"There is no table or figure {target!r}.{hint} There are: {', '.join(known)}."]


def _names(given: Iterable[object], flag: str, problems: list[str]) -> list[str]:
    found = list(map(str, given))
    if not all(found):
        problems.append(f"{flag} {','.join(found)!r}: write names separated by commas.")
    return [name for name in found if name]


def _weights_problems(weights: tuple[str, ...]) -> list[str]:
    found = []
    for entry in weights:
        backbone, equals, file = entry.partition("=")
        if not equals and entry not in {"none", "imagenet"}:
            found.append(
                f"--weights {entry}: write none, imagenet, or BACKBONE=FILE, as bvlc_googlenet=FILE (may be repeated)."
            )
        elif equals and not (backbone and file):
            found.append(f"--weights {entry}: write BACKBONE=FILE.")
        elif equals:
            found += [f"--weights {entry}: {problem}" for problem in backbone_problems(backbone, set())]
    return found


def _dataset_problems(target: str, mine: Iterable[Target], wanted: tuple[str, ...]) -> list[str]:
    own = dict.fromkeys(name for one in mine for name in one.datasets)
    known = dict.fromkeys([*own, *(name for one in mine for name in one.extra_datasets)])
    return [
        f"--datasets {name}: {target} has {', '.join(known)}." for name in wanted if name not in known
    ]  # fmt: skip


def _row_problems(target: str, mine: Iterable[Target], chosen: tuple[str, ...]) -> list[str]:
    known = list(dict.fromkeys(name for one in mine for name in one.row_names))
    if chosen and not known:
        return [f"--rows {','.join(chosen)}: {target} is a figure and has no rows."]
    return [f"--rows {name}: {target} has {', '.join(known)}." for name in chosen if name not in known]
