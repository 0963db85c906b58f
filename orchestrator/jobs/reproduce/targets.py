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
from muster.workers.errors import MusterError, UsageError
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
        """The module that asks and draws. Raises MusterError if this installation has none."""
        name = f"muster.orchestrator.jobs.reproduce.figures.{self.name.removeprefix('dreml-')}"
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not name.startswith(str(error.name)):
                raise
            raise MusterError(f"{self.name}: this version of muster does not draw it.") from error

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


def load_options(
    target: str,
    *,
    names: str | None,
    rows: str | None,
    seeds: int,
    scale: float,
    resources: Mapping[str, Any],
    **rest: Any,
) -> ReproduceOptions:
    """The request from the command line; `names` (data sets) and `rows` are separated by commas.

    Raises UsageError with all mistakes.
    """
    problems = _target_problems(target)
    wanted = tuple(dict.fromkeys(datasets.canonical(name) for name in _listed(names, "--datasets", problems)))
    chosen = tuple(dict.fromkeys(_listed(rows, "--rows", problems)))
    if not problems or target in {*TARGETS, ALL}:
        mine = list(TARGETS.values()) if target == ALL else [TARGETS[target]]
        problems += _dataset_problems(target, mine, wanted)
        problems += _row_problems(target, mine, chosen)
    if not 0 < scale <= 1:
        problems.append(f"--scale {scale:g}: must be above 0, at most 1.")
    if not 1 <= seeds <= MOST_SEEDS:
        problems.append(f"--seeds {seeds}: must be at least 1, at most {MOST_SEEDS}.")
    problems += _weights_problems(rest["weights"])
    if rest["vehicleid_protocol"] not in {"self", "reid"}:
        problems.append(f"--vehicleid-protocol {rest['vehicleid_protocol']}: there are self and reid.")
    try:
        able = next(method.name for method in METHODS.values() if method.multi_rank)
        given = {**resources, "method": able, "name": rest["name"], "storage": rest["storage"]}
        shared = load(None, given, [])  # its own checks: nothing else of it is used
    except UsageError as error:
        problems += error.problems
    if problems:
        raise UsageError(problems)
    options = ReproduceOptions(
        target=target, datasets=wanted, rows=chosen, seeds=seeds, scale=float(scale),
        resources=shared.resources, **{**rest, "name": rest["name"] or "", "storage": shared.storage},
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


def _target_problems(target: str) -> list[str]:
    known = [*TARGETS, ALL]
    if target in known:
        return []
    near = difflib.get_close_matches(target, known, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return [f"There is no table or figure {target!r}.{hint} There are: {', '.join(known)}."]


def _listed(text: str | None, flag: str, problems: list[str]) -> list[str]:
    if text is None:
        return []
    found = [part.strip() for part in text.split(",")]
    if not all(found):
        problems.append(f"{flag} {text!r}: write names separated by commas.")
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
