"""Which networks the figures are made of: DREML as the tables train it, so that members are shared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from muster.orchestrator.ensemble.requests import EnsembleRequest
from muster.orchestrator.jobs.reproduce.request import ReproduceOptions, ensemble_request
from muster.orchestrator.jobs.reproduce.tables.papers import TABLES, Place

#: The table that has a data set's ResNet-18 ensemble.
TABLE_OF = {"inshop": "dreml-table2", "vehicleid": "dreml-table3"}


def table_flags(options: ReproduceOptions, dataset: str) -> dict[str, Any]:
    """The flags of the data set's row DREML (R, D, L); on glyphs with conv4."""
    table = TABLES[TABLE_OF.get(dataset, "dreml-table1")]
    row = next(row for row in table.rows if row.name == "dreml-r")
    return dict(row.flags(options, Place(dataset)) or {})


def table_ensemble(
    options: ReproduceOptions,
    dataset: str,
    flags: Mapping[str, Any],
    *,
    seed: int = 0,
    splits: tuple[str, ...] = (),
) -> EnsembleRequest:
    """The table's ensemble with other `flags`, named by what a rehearsal left of them. Raises UsageError."""
    given = {**table_flags(options, dataset), "resources.nmi": False, **flags}
    request = ensemble_request(options, "", dataset, "dreml", given, seed, splits)
    ensemble = request.launch.ensemble
    name = f"{dataset} D = {ensemble.D}, L = {ensemble.L}, seed {seed}"
    return dataclasses.replace(request, name=name)
