"""What a table's rows ask for at full scale and in a rehearsal, and how scores become cells."""

from __future__ import annotations

import dataclasses
import shlex
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from muster.orchestrator.ensemble.requests import EnsembleResult
from muster.orchestrator.jobs.reproduce.request import ReproduceOptions, launch_request, root_of
from muster.orchestrator.jobs.reproduce.tables.files import blocks
from muster.orchestrator.jobs.reproduce.tables.papers import TABLES
from muster.orchestrator.jobs.reproduce.tables.rows import table_answer
from muster.orchestrator.jobs.reproduce.targets import each_target, load_options
from muster.orchestrator.methods.bier.frontend import BierRequest
from muster.orchestrator.methods.command import launch_command
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.errors import UsageError
from muster.workers.methods.dreml.settings import Recipe
from muster.workers.store.layout import Store
from tests.cli import Muster
from tests.workers.datasets import copies

#: Means and deviations of DREML's code (color_lib), RGB.
STATISTICS = {
    "cub200": ((0.4707, 0.4601, 0.4549), (0.2767, 0.2760, 0.2850)),
    "cars196": ((0.4853, 0.4965, 0.4295), (0.2237, 0.2193, 0.2568)),
    "inshop": ((0.8324, 0.8109, 0.8041), (0.2206, 0.2378, 0.2444)),
    "vehicleid": ((0.3912, 0.4110, 0.4118), (0.2357, 0.2332, 0.2338)),
}
SHAPES = {"dreml-table1": (12, 48), "dreml-table2": (192, 48), "dreml-table3": (192, 12)}


def options(**fields: Any) -> ReproduceOptions:
    return ReproduceOptions(**{"target": "dreml-table1", "data_root": "/copies", **fields})


def requests(target: str, row: str, **fields: Any) -> list[LaunchRequest]:
    """The launches of a table's row, for each place and seed."""
    table = TABLES[target]
    chosen = options(target=target, rows=(row,), **{"datasets": table.datasets, **fields})
    return [one.launch for one in table.requests(chosen)]


@pytest.mark.parametrize("target", SHAPES)
def test_dremls_rows_are_the_code_with_the_learning_rates_of_the_text(target: str) -> None:
    for request in requests(target, "dreml-r"):
        recipe, D_and_L = request.recipe, (request.ensemble.D, request.ensemble.L)
        assert isinstance(recipe, Recipe)
        assert D_and_L == SHAPES[target]
        assert (request.ensemble.backbone, request.ensemble.weights) == ("resnet18", "imagenet")
        assert (recipe.epochs, recipe.lr, recipe.schedule, recipe.step_epochs, recipe.gamma) == (
            12, 0.01, "step", 4, 0.1,
        )  # fmt: skip
        assert (recipe.resize, recipe.crop, recipe.pad) == ("short:281", 256, 0)
        assert (request.view.resize, request.view.crop) == ("short:256", 256)
        assert (recipe.class_cap, recipe.select, recipe.normalize_logits) == (500, "best-train", False)
        mean_and_std = STATISTICS[request.data.dataset]
        assert (recipe.mean, recipe.std) == (request.view.mean, request.view.std) == mean_and_std
        assert request.resources.nmi == (target == "dreml-table1")


def test_the_inception_row_and_the_three_test_lists() -> None:
    assert [r.ensemble.backbone for r in requests("dreml-table1", "dreml-i")] == ["googlenet"] * 2
    found = requests("dreml-table3", "dreml-r")
    assert [request.data.test_list for request in found] == ["small", "medium", "large"]
    assert len({(request.recipe, request.ensemble) for request in found}) == 1


def test_biers_rows_are_its_learners_boosted_or_not() -> None:
    shown = {
        row: [
            (r.settings.bier.sizes, r.settings.bier.boost, r.settings.bier.auxiliary)
            for r in requests("bier-table1", row)
            if isinstance(r.settings, BierRequest)
        ]
        for row in ("bier", "a-bier", "baseline-split", "baseline-512")
    }
    assert shown == {
        "bier": [((96, 160, 256), True, "none")] * 2,
        "a-bier": [((96, 160, 256), True, "adversarial")] * 2,
        "baseline-split": [((96, 160, 256), False, "none")] * 2,
        "baseline-512": [((512,), False, "none")] * 2,
    }


def test_biers_own_network_is_taken_where_its_weights_are_given() -> None:
    (cub, _) = requests("bier-table1", "bier")
    assert (cub.ensemble.backbone, cub.ensemble.weights) == ("googlenet", "imagenet")
    (cub, _) = requests("bier-table1", "bier", weights=("imagenet", "bvlc_googlenet=/w/caffe.pth"))
    assert (cub.ensemble.backbone, cub.ensemble.weights) == ("bvlc_googlenet", "/w/caffe.pth")
    (cub, _) = requests("dreml-table1", "dreml-r", weights=("bvlc_googlenet=/w/caffe.pth",))
    assert (cub.ensemble.backbone, cub.ensemble.weights) == ("resnet18", "imagenet")


@pytest.mark.parametrize("scale", [0.001, 0.1, 0.5])
def test_a_rehearsal_has_fewer_of_all_and_never_too_few(scale: float) -> None:
    flags = {"ensemble.D": 100, "ensemble.L": 48}
    request = launch_request(options(scale=scale), "glyphs", "dreml", flags, seed=3)
    assert isinstance(request.recipe, Recipe)
    classes, D, L = request.data.train_classes, request.ensemble.D, request.ensemble.L
    assert classes == max(4, 200 * scale)
    assert max(2, classes // 2) == D
    assert max(2, round(48 * scale)) == L
    assert request.recipe.epochs == max(1, round(6 * scale))
    assert request.ensemble.seed == 3
    # A smaller D stays; a network with an output for each class keeps one for each that is left.
    small = launch_request(options(scale=0.5), "glyphs", "dreml", {"ensemble.D": 12}, seed=0)
    assert small.ensemble.D == 12
    single = {"data.train_classes": 96, "ensemble.D": 96, "ensemble.L": 1}
    each = launch_request(options(scale=0.5), "glyphs", "dreml", single, seed=0)
    assert (each.data.train_classes, each.ensemble.D, each.ensemble.L) == (48, 48, 1)


def test_a_rehearsal_of_bier_has_fewer_steps_and_no_more_labels_than_classes() -> None:
    request = launch_request(options(scale=0.1), "glyphs", "bier", {}, seed=0)
    whole = launch_request(options(), "glyphs", "bier", {}, seed=0)
    assert isinstance(request.settings, BierRequest)
    assert isinstance(whole.settings, BierRequest)
    assert request.data.train_classes == 20
    assert request.settings.bier.steps == round(whole.settings.bier.steps * 0.1 * 0.1)
    assert request.settings.bier.labels == 20


def test_a_rehearsal_goes_on_with_other_counts_from_random_weights(tmp_path: Path) -> None:
    copies.cub200(tmp_path)
    request = launch_request(
        options(scale=0.1, data_root=str(tmp_path)), "cub200", "dreml", {"ensemble.D": 12}, seed=0
    )
    assert (request.data.allow_counts, request.ensemble.weights) == (True, "none")
    assert (request.data.train_classes, request.ensemble.D) == (3, 2)


def test_a_data_root_holds_copies_under_their_names_or_is_one(tmp_path: Path) -> None:
    (tmp_path / "sop").mkdir()
    assert root_of(str(tmp_path), "sop") == str(tmp_path / "sop")
    assert root_of(str(tmp_path), "cub200") == str(tmp_path)
    assert root_of(str(tmp_path), "glyphs") is None


def asked(target: str, names: str | None = None, rows: str | None = None, **rest: Any) -> ReproduceOptions:
    lists = {name: tuple(text.split(",")) for name, text in {"datasets": names, "rows": rows}.items() if text}
    given = {"data_root": "/copies", **lists, **rest}
    return load_options(target, {f"reproduce.{name}": value for name, value in given.items()})


def test_all_gives_each_target_its_own_data_sets_and_rows() -> None:
    everything = {one.target: one for _, one in each_target(asked("all"))}
    assert list(everything) == [
        *(f"dreml-table{n}" for n in (1, 2, 3)), *(f"dreml-fig{n}" for n in (3, 4, 5, 6)), "bier-table1",
    ]  # fmt: skip
    assert everything["dreml-table3"].datasets == ("vehicleid",)
    some = {one.target: one for _, one in each_target(asked("all", names="cub200,sop", rows="bier,dreml-r"))}
    assert {target: (one.datasets, one.rows) for target, one in some.items()} == {
        "dreml-table1": (("cub200",), ("bier", "dreml-r")),
        "bier-table1": (("cub200", "sop"), ("bier",)),
    }
    assert asked("all").run != asked("all", names="cub200").run


def test_glyphs_needs_no_data_root() -> None:
    assert asked("bier-table1", names="glyphs", data_root=None).datasets == ("glyphs",)
    with pytest.raises(UsageError, match="--data-root is missing"):
        asked("bier-table1", names="glyphs,sop", data_root=None)


def got(one: Any, scores: dict[str, float], members: int) -> EnsembleResult:
    """An ensemble of which so many members were trained, with these scores; shares in 0..1."""
    metrics = {"splits": {"test": {"curve": [{"L": members, **scores}]}}}
    spec = SimpleNamespace(precision="fp32")
    everyone = tuple(SimpleNamespace(key=f"{n:032x}", spec=spec) for n in range(one.launch.ensemble.L))
    return EnsembleResult(request=one, tasks=everyone, members=everyone[:members], metrics=metrics)  # type: ignore[arg-type]


def test_cells_are_mean_and_spread_over_seeds_in_per_cent(tmp_path: Path) -> None:
    table = TABLES["dreml-table1"]
    chosen = options(datasets=("cub200", "cars196"), rows=("dreml-r",), seeds=3)
    shares = [0.60, 0.63, 0.66]
    wanted = [one for one in table.requests(chosen) if one.launch.data.dataset == "cub200"]
    assert [one.launch.ensemble.seed for one in wanted] == [0, 1, 2]
    found = {
        one.name: got(one, {"recall_at_1": share, "nmi": share / 2}, 48 if n else 4)
        for n, (one, share) in enumerate(zip(wanted, shares, strict=True))
    }
    answer = table_answer(chosen, table, found, {}, Store(str(tmp_path)))
    cub, cars = answer["rows"]
    assert (cub["members"], cub["seeds"], cub["complete"]) == ("100 of 144", 3, False)
    first, *_, nmi = cub["cells"]
    assert first["measured"] == pytest.approx(63.0)
    assert first["spread"] == pytest.approx(statistics.stdev([60, 63, 66]))
    assert first["difference"] == pytest.approx(63.0 - 63.9)
    assert nmi["measured"] == pytest.approx(31.5)
    assert cars["cells"][0]["measured"] is None
    assert cars["cells"][0]["published"] == 86.0
    assert answer["state"] == "partial 0 of 2 rows"
    block = blocks(answer)[0]
    assert block["columns"] == ["R@1", "R@2", "R@4", "R@8", "NMI"]
    lines = dict(block["rows"][0]["lines"])
    assert lines["measured"] == ["63.0", "", "", "", "31.5"]
    assert lines["difference"][0] == "-0.9"
    assert block["notes"] == ["DREML (R,12,48): partial: 100 of 144 members"]


def test_a_table_says_whose_k_means_its_nmi_is(tmp_path: Path) -> None:
    table, chosen = TABLES["dreml-table1"], options(datasets=("cub200",), rows=("dreml-r",), seeds=2)
    found = {one.name: got(one, {"recall_at_1": 0.6, "nmi": 0.3}, 48) for one in table.requests(chosen)}
    said = "NMI on NVIDIA H100: k-means of muster, with these settings."
    assert said not in table_answer(chosen, table, found, {}, Store(str(tmp_path)))["notes"]
    for one in found.values():
        assert one.metrics is not None
        one.metrics["splits"]["test"]["scored_on"] = "NVIDIA H100"
    assert table_answer(chosen, table, found, {}, Store(str(tmp_path)))["notes"].count(said) == 1


@pytest.mark.parametrize(
    ("target", "place", "data", "note", "differences"),
    [
        ("dreml-table1", "cub200", {}, "a rehearsal: --scale 0.5", ()),
        ("dreml-table1", "cub200", {}, "", ("train: 5,863 images, published are 5,864",)),
        ("dreml-table3", "vehicleid", {"vehicleid_protocol": "reid"}, "", ()),
        ("dreml-table1", "cub200", {}, "", None),
    ],
    ids=["a rehearsal", "an altered copy", "another protocol", "what is published"],
)
def test_no_difference_stands_beside_what_cannot_be_compared(
    tmp_path: Path, target: str, place: str, data: dict[str, Any], note: str, differences: Any
) -> None:
    chosen = options(target=target, datasets=(place,), rows=("dreml-r",), seeds=1)
    one = TABLES[target].requests(chosen)[0]
    launch = dataclasses.replace(one.launch, data=dataclasses.replace(one.launch.data, **data))
    one = dataclasses.replace(one, note=note, launch=launch)
    prepared = SimpleNamespace(differences=differences or (), facts={"test_images": 503})
    found = dataclasses.replace(got(one, {"recall_at_1": 0.6}, 48), prepared=prepared)
    comparable = differences is None
    answer = table_answer(chosen, TABLES[target], {one.name: found}, {}, Store(str(tmp_path)))
    row = answer["rows"][0]
    cell = row["cells"][0]
    assert (cell["published"], cell["measured"]) == ({"cub200": 63.9}.get(place, 88.5), 60.0)
    assert [cell["difference"] is None for cell in row["cells"]] == [not comparable] + [True] * (
        len(row["cells"]) - 1
    )
    assert bool(row["not_compared"]) != comparable
    assert comparable or "503 test images" in row["not_compared"]
    printed = [line for block in blocks(answer) for shown in block["rows"] for line in shown["lines"]]
    assert ("difference" in {what for what, _ in printed}) == comparable


def test_a_row_with_nothing_published_or_trained_on_a_data_set_is_left_out_there(tmp_path: Path) -> None:
    chosen = options(datasets=("cub200", "glyphs"))
    rows = table_answer(chosen, TABLES["dreml-table1"], {}, {}, Store(str(tmp_path)))["rows"]
    named = {place: [row["row"] for row in rows if row["place"] == place] for place in ("cub200", "glyphs")}
    assert set(named["cub200"]) - set(named["glyphs"]) == {"hdc", "dreml-i"}


def test_a_row_that_no_launch_can_train_says_why(tmp_path: Path) -> None:
    table = TABLES["dreml-table1"]
    chosen = options(datasets=("glyphs",), rows=("hdc",))
    odd = dataclasses.replace(table.rows[0], name="odd", label="Odd", method="alchemy")
    table = dataclasses.replace(table, rows=(odd,))
    chosen = dataclasses.replace(chosen, rows=())
    assert table.requests(chosen) == []
    (row,) = table_answer(chosen, table, {}, {}, Store(str(tmp_path)))["rows"]
    assert "method = 'alchemy': there are dreml" in row["trouble"]


@pytest.mark.parametrize(
    ("target", "row", "dataset"),
    [
        ("dreml-table1", "dreml-r", "glyphs"),
        ("dreml-table1", "dreml-i", "cub200"),
        ("bier-table1", "bier", "cub200"),
        ("bier-table1", "a-bier", "glyphs"),
        ("bier-table1", "baseline-512", "glyphs"),
    ],
)
def test_a_row_is_exactly_the_launch_that_it_prints(
    muster_without_cluster: Muster, target: str, row: str, dataset: str, tmp_path: Path
) -> None:
    copies.cub200(tmp_path)
    where = {"data_root": str(tmp_path), "storage": str(tmp_path / "store"), "datasets": (dataset,)}
    (request,) = requests(target, row, scale=0.3, **where)
    words = shlex.split(launch_command(request))[1:]
    found = muster_without_cluster(*words, "--dry-run", "--json").document
    assert found["run"] == request.run  # it holds a digest of all that the request says
