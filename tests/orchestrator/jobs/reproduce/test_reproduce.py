"""The papers' tables through the real command line, on small copies of the data sets, with real members."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli import Muster, Ran, recorded_with
from tests.workers.datasets import copies

ROWS = "dreml-r,hdc"


@pytest.fixture(scope="module")
def copies_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with small copies: one under its own name, two under their archives' names."""
    root = tmp_path_factory.mktemp("papers")
    copies.cub200(root)
    copies.cars_joint(root / "cars196")
    copies.vehicleid(root)
    return root


@pytest.fixture(scope="module")
def table(muster: Muster, copies_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A store with a rehearsal of Table 1's rows HDC and (R,12,48), and the command's answer."""
    store = tmp_path_factory.mktemp("store")
    ran = muster(*rehearsal(copies_root, store), "--json", timeout=580)
    return store, ran.document


def rehearsal(root: Path, store: Path, *flags: object) -> list[object]:
    where = ["--data-root", root, "--storage", store]
    return ["reproduce", "dreml-table1", *where, "--scale", 0.04, "--rows", ROWS, "--no-floors", *flags]


def finished(store: Path) -> dict[str, int]:
    """When each model of a store was committed."""
    return {done.parent.name: done.stat().st_mtime_ns for done in store.glob("models/*/DONE.json")}


def row_of(answer: Any, row: str, place: str) -> Any:
    (target,) = answer["targets"]
    (found,) = [one for one in target["rows"] if (one["row"], one["place"]) == (row, place)]
    return found


def test_a_rehearsal_of_a_table_sets_each_measured_cell_beside_the_published_one(
    table: tuple[Path, Any],
) -> None:
    store, answer = table
    assert answer["state"] == "done"
    assert answer["models"] == {"asked": 4, "reused": 0, "trained": 4, "failed": 0}
    assert len(finished(store)) == 4
    for place, printed in (("cub200", 63.9), ("cars196", 86.0)):
        row = row_of(answer, "dreml-r", place)
        assert (row["complete"], row["members"], row["seeds"]) == (True, "2 of 2", 1)
        assert row["precision"] == "fp32"
        assert row["device_hours"] > 0
        assert "resnet18 from random weights, D = 2, L = 2, 1 epoch" in row["recipe"]
        assert [cell["metric"] for cell in row["cells"]] == [
            *(f"recall_at_{k}" for k in (1, 2, 4, 8)), "nmi",
        ]  # fmt: skip
        first = row["cells"][0]
        assert first["published"] == printed
        # Nothing that a rehearsal gives is set against what was published.
        assert {cell["difference"] for cell in row["cells"]} == {None}
        why = r"a rehearsal and not the published images: D = 2, L = 2, (\d+) test images"
        images = re.fullmatch(why, row["not_compared"])
        assert images
        hits = first["measured"] / 100 * int(images[1])
        assert hits == pytest.approx(round(hits), abs=1e-6)  # of these images
        assert all(cell["source"] for cell in row["cells"])
        hdc = row_of(answer, "hdc", place)
        assert (hdc["method"], hdc["members"]) == ("", "")
        assert all(cell["measured"] is None for cell in hdc["cells"])


def test_every_file_says_that_it_is_a_rehearsal_and_has_the_same_cells(table: tuple[Path, Any]) -> None:
    _, answer = table
    text = {
        kind: Path(answer["paths"][f"table_{kind}"]).read_text() for kind in ("json", "csv", "md", "html")
    }
    assert all("REHEARSAL at scale 0.04" in content for content in text.values())
    assert all("instead of 5,864 of 100" in text[kind] for kind in ("json", "md", "html"))
    assert json.loads(text["json"])["tables"] == answer["targets"]
    lines = list(csv.DictReader(text["csv"].splitlines()))
    assert len(lines) == 2 * 2 * 5
    (cell,) = [
        line for line in lines if (line["row"], line["place"], line["metric"]) == ("dreml-r", "cub200", "nmi")
    ]
    measured = row_of(answer, "dreml-r", "cub200")["cells"][-1]["measured"]
    assert (float(cell["published"]), float(cell["measured"])) == (67.8, measured)
    for kind in ("md", "html"):
        assert f"{measured:.1f}" in text[kind]
        assert "muster launch dreml --dataset cub200" in text[kind]
    assert "<script" not in text["html"]


def test_what_is_found_without_training_stands_below_the_rows(
    muster: Muster,
    muster_without_cluster: Muster,
    table: tuple[Path, Any],
    copies_root: Path,
    tmp_path: Path,
) -> None:
    """Asked for where it was not before: nothing is trained for it."""
    store = Path(shutil.copytree(table[0], tmp_path / "store"))
    before = finished(store)
    words = [word for word in rehearsal(copies_root, store) if word != "--no-floors"]
    answer = muster(*words, "--json").document
    assert answer["models"] == {"asked": 4, "reused": 4, "trained": 0, "failed": 0}
    assert len(finished(store)) == len(before) + 2  # the pixels, and resnet18 as it begins
    for place in ("cub200", "cars196"):
        for of in ("pixels", "resnet18"):
            row = row_of(answer, f"untrained {of}", place)
            assert (row["label"], row["method"], row["complete"]) == (f"no training: {of}", "", True)
            *recalls, nmi = [cell["measured"] for cell in row["cells"]]
            assert recalls == sorted(recalls)
            assert 0 < recalls[0] <= 100
            assert nmi is None
            assert all(cell["difference"] is None for cell in row["cells"])
    text = {kind: Path(answer["paths"][f"table_{kind}"]).read_text() for kind in ("csv", "md", "html")}
    assert all("no training: pixels" in content for content in text.values())
    again = muster_without_cluster(*words, "--json").document
    assert again["targets"] == answer["targets"]


def test_the_same_command_again_trains_nothing_and_asks_no_cluster(
    muster_without_cluster: Muster, table: tuple[Path, Any], copies_root: Path
) -> None:
    store, answer = table
    before = finished(store)
    ran = muster_without_cluster(*rehearsal(copies_root, store))
    assert finished(store) == before
    assert "Starting a local Ray head" not in ran.err
    assert "(0 trained, 4 reused)" in ran.out
    assert "DREML (R,12,48)" in ran.out
    assert "REHEARSAL" in ran.out
    lines = [
        line
        for line in ran.out.splitlines()
        if " published [" in line or line.strip().startswith("measured ")
    ]
    assert len(lines) == 6
    assert all(len(line) <= 80 for line in lines)
    again = muster_without_cluster(*rehearsal(copies_root, store), "--json").document
    assert row_of(again, "dreml-r", "cub200") == row_of(answer, "dreml-r", "cub200")


def test_a_row_is_exactly_the_launch_that_it_names(
    muster_without_cluster: Muster, table: tuple[Path, Any]
) -> None:
    _, answer = table
    words = shlex.split(row_of(answer, "dreml-r", "cub200")["command"])[1:]
    found = muster_without_cluster(*words, "--dry-run", "--json").document
    assert (found["asked"], found["to_train"]) == (2, 0)


def test_dry_run_tells_what_the_store_has_and_writes_nothing(
    muster: Muster, muster_without_cluster: Muster, table: tuple[Path, Any], copies_root: Path, tmp_path: Path
) -> None:
    store, _ = table
    before = finished(store)
    ran = muster_without_cluster(*rehearsal(copies_root, store, "--seeds", 2, "--dry-run", "--json"))
    assert [(row["members"], row["to_train"]) for row in ran.document["rows"]] == [(2, 0)] * 2 + [(2, 2)] * 2
    assert (ran.document["members"], ran.document["to_train"]) == (8, 4)
    assert (whole := ran.document["device_seconds"]) > 0
    halves = ("--seeds", 2, "--gpus-per-member", 0.5, "--dry-run", "--json")
    with_gpu = recorded_with(muster, tmp_path, num_gpus=1)
    half = with_gpu(*rehearsal(copies_root, store, *halves)).document
    assert half["device_seconds"] == pytest.approx(whole / 2)
    assert finished(store) == before
    empty = muster_without_cluster(*rehearsal(copies_root, tmp_path / "none", "--dry-run"))
    assert "2 ensembles of unknown cost" in empty.out
    assert not (tmp_path / "none").exists()


def test_a_data_set_that_is_not_there_is_a_row_and_the_rest_is_measured(
    muster: Muster, table: tuple[Path, Any], copies_root: Path, tmp_path: Path
) -> None:
    store, answer = table
    (tmp_path / "CUB_200_2011").symlink_to(copies_root / "CUB_200_2011")
    before = finished(store)
    ran = muster(*rehearsal(tmp_path, store, "--json"), code=3)
    assert ran.document["state"] == "partial 1 of 2 rows"
    missing = row_of(ran.document, "dreml-r", "cars196")
    assert f"no data at {tmp_path}" in missing["trouble"]
    assert missing["cells"][0]["published"] == 86.0
    assert row_of(ran.document, "dreml-r", "cub200")["cells"] == row_of(answer, "dreml-r", "cub200")["cells"]
    assert finished(store) == before
    shown = muster(*rehearsal(tmp_path, store), code=3)
    assert "no data at" in shown.out


def test_status_and_logs_tell_of_a_reproduction(
    muster_without_cluster: Muster, table: tuple[Path, Any]
) -> None:
    store, answer = table
    status = muster_without_cluster("status", answer["run"], "--storage", store, "--json").document
    assert (status["kind"], status["state"], status["done"], status["asked"]) == ("reproduce", "done", 4, 4)
    assert [(row["done"], row["asked"]) for row in status["ensembles"]] == [(2, 2), (2, 2)]
    assert "(R,12,48)" in muster_without_cluster("status", answer["run"], "--storage", store).out
    logs = muster_without_cluster("logs", answer["run"], "--storage", store, "--json").document
    assert len(logs) == 4
    ran = muster_without_cluster("evaluate", answer["run"], "--storage", store, code=2)
    assert "reproduction" in ran.err


@pytest.mark.long
def test_members_that_rows_share_are_trained_once(muster: Muster, copies_root: Path, tmp_path: Path) -> None:
    """VehicleID's three test lists have one training set."""
    ran = muster(
        "reproduce", "dreml-table3", "--data-root", copies_root, "--storage", tmp_path, "--scale", 0.1,
        "--rows", "dreml-r", "--no-floors", "--json", timeout=580,
    )  # fmt: skip
    assert ran.document["models"]["trained"] == len(finished(tmp_path)) == 2
    rows = ran.document["targets"][0]["rows"]
    assert [(row["place"], row["members"]) for row in rows] == [
        (f"vehicleid-{size}", "2 of 2") for size in ("small", "medium", "large")
    ]
    assert all(row["complete"] for row in rows)
    before = finished(tmp_path)
    other = muster(
        "reproduce", "dreml-table3", "--data-root", copies_root, "--storage", tmp_path, "--scale", 0.1,
        "--rows", "dreml-r", "--vehicleid-protocol", "reid", "--no-floors", "--json", timeout=580,
    ).document  # fmt: skip
    assert finished(tmp_path) == before
    for row in other["targets"][0]["rows"]:
        assert "re-identification" in row["protocol"]
        assert row["cells"][0]["measured"] is not None
        assert row["cells"][0]["difference"] is None


@pytest.mark.long
def test_the_whole_of_table_1_on_small_copies_and_again(
    muster: Muster, copies_root: Path, tmp_path: Path
) -> None:
    command = ["reproduce", "dreml-table1", "--data-root", copies_root, "--scale", 0.1, "--storage", tmp_path]
    first = muster(*command, "--json", timeout=580).document
    assert first["state"] == "done"
    rows = [row for row in first["targets"][0]["rows"] if row["method"]]
    compared, papers, students = 3, 3, 1  # of papers: BIER, and DREML twice
    assert len(rows) == 2 * (compared + papers + students)
    assert {row["members"] for row in rows} == {"5 of 5", "1 of 1"}
    before = finished(tmp_path)
    again = muster(*command, "--json").document
    assert again["models"]["trained"] == 0
    assert finished(tmp_path) == before


@pytest.mark.long
def test_a_reproduction_that_was_stopped_is_partial_and_resumes(
    muster: Muster, tmp_path: Path, until: Callable[..., Any]
) -> None:
    process = muster.start(
        "reproduce", "dreml-table1", "--datasets", "glyphs", "--rows", "dreml-r", "--scale", 0.25, "--parallel", 1,
        "--storage", tmp_path, "--name", "mine", "--no-floors", "--json",
    )  # fmt: skip
    until(lambda: len(finished(tmp_path)) >= 1)
    muster("stop", "mine")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 3, err
    (row,) = json.loads(out)["targets"][0]["rows"]
    done, _, asked = row["members"].partition(" of ")
    assert 1 <= int(done) < int(asked) == 12
    assert row["cells"][0]["measured"] > 0
    status = muster("status", "mine", "--storage", tmp_path, "--json").document
    assert status["state"] == "partial"
    resumed = muster("resume", "mine", "--storage", tmp_path, "--json", timeout=580).document
    assert resumed["state"] == "done"
    assert resumed["models"]["reused"] == int(done)
    other = muster(
        "reproduce", "dreml-table1", "--datasets", "glyphs", "--scale", 0.5, "--storage", tmp_path, "--name", "mine",
        code=2,
    )  # fmt: skip
    assert "asked for otherwise" in other.err
    assert "scale was 0.25, is 0.5" in other.err


@pytest.mark.long
def test_bier_beside_its_baselines_with_mean_and_spread(muster: Muster, tmp_path: Path) -> None:
    ran = muster(
        "reproduce", "bier-table1", "--datasets", "glyphs", "--scale", 0.1, "--seeds", 2, "--storage", tmp_path,
        "--rows", "bier,a-bier,baseline-512,baseline-split", "--json", timeout=580,
    )  # fmt: skip
    assert ran.document["state"] == "done"
    rows = {row["row"]: row for row in ran.document["targets"][0]["rows"]}
    floors = {"untrained pixels", "untrained conv4"}
    assert set(rows) == {"bier", "a-bier", "baseline-512", "baseline-split", *floors}
    for row in (row for name, row in rows.items() if name not in floors):
        first = row["cells"][0]
        low, high = sorted(first["by_seed"])
        assert first["measured"] == pytest.approx((low + high) / 2)
        assert first["spread"] == pytest.approx((high - low) / 2**0.5)
    assert "learners 512 all pair weights 1" in rows["baseline-512"]["recipe"]
    assert "adversarial" in rows["a-bier"]["recipe"]


@pytest.fixture
def refused(muster_without_cluster: Muster, tmp_path: Path) -> Callable[..., Ran]:
    """Runs a reproduction that must be refused, before a cluster is started or anything is written."""

    def run(*flags: object) -> Ran:
        store = tmp_path / "store"
        ran = muster_without_cluster("reproduce", *flags, "--storage", store, code=2)
        assert ran.out == ""
        assert "Starting a local Ray head" not in ran.err
        assert not list(store.glob("runs/*"))
        assert 1 <= len(ran.err.splitlines()) <= 8
        return ran

    return run


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["dreml-tabel1"], ["'dreml-tabel1'", "Did you mean dreml-table1?", "bier-table1, all"]),
        (
            ["dreml-table1", "--datasets", "sop,cub200"],
            ["--datasets sop: dreml-table1 has cub200, cars196, glyphs."],
        ),
        (["dreml-table1", "--datasets", "cub200,"], ["--datasets 'cub200,'", "commas"]),
        (["dreml-table1", "--rows", "dreml-x"], ["--rows dreml-x", "dreml-r"]),
        (["dreml-fig3", "--rows", "bier"], ["is a figure and has no rows"]),
        (["dreml-table1", "--scale", 0], ["--scale 0", "above 0, at most 1"]),
        (["dreml-table1", "--scale", 1.5], ["--scale 1.5", "above 0, at most 1"]),
        (["dreml-table1", "--scale", "nan"], ["--scale nan", "above 0, at most 1"]),
        (["dreml-table1", "--seeds", 0], ["--seeds 0", "at least 1"]),
        (["dreml-table1", "--weights", "my.pth"], ["--weights my.pth", "BACKBONE=FILE"]),
        (["dreml-table3", "--vehicleid-protocol", "other"], ["--vehicleid-protocol other", "self and reid"]),
        (["dreml-table1"], ["--data-root is missing", "cub200, cars196"]),
        (["all"], ["--data-root is missing"]),
        (
            ["dreml-table1", "--data-root", "/nowhere"],
            ["no data at /nowhere: no copy of cub200", "cars196", "Give --data-root", "muster data list"],
        ),
        (["dreml-table1", "--name", "a/b"], ["name = 'a/b'"]),
        (["dreml-table1", "--name", ".."], ["name = '..'", "begins with a letter or a digit"]),
        (["dreml-table1", "--gpus-per-member", "inf"], ["gpus_per_member = inf"]),
        (["dreml-table1", "--seeds", 10**9], ["--seeds 1000000000", "at most 100"]),
        (["dreml-table1", "--weights", "foo=bar"], ["--weights foo=bar", "no backbone 'foo'"]),
        (
            ["dreml-table1", "--datasets", "glyphs", "--weights", "resnet18=/nofile", "--dry-run"],
            ["--weights /nofile", "no such file"],
        ),
        (
            ["dreml-table1", "--datasets", "glyphs", "--weights", "conv4=/nofile"],
            ["--weights /nofile", "no such file"],
        ),
        (
            ["bier-table1", "--datasets", "glyphs", "--ranks", 7],
            ["--ranks 7: a batch of 128 images doesn't divide", "1, 2, 4, 8"],
        ),
        (["dreml-table1", "--gpus-per-member", 1.5], ["gpus_per_member = 1.5"]),
        (
            [
                "dreml-table1",
                "--datasets",
                "sop",
                "--rows",
                "x",
                "--scale",
                -1,
                "--seeds",
                0,
                "--parallel",
                -1,
            ],
            ["--datasets sop", "--rows x", "--scale -1", "--seeds 0", "parallel = -1"],
        ),
        (["dreml-tabel1", "--scale", 2, "--seeds", 0], ["Did you mean", "--scale 2", "--seeds 0"]),
    ],
)
def test_a_wrong_reproduction_is_refused_in_one_message(
    refused: Callable[..., Ran], flags: list[object], said: list[str]
) -> None:
    ran = refused(*flags)
    assert all(text in ran.err for text in said), ran.err


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--rows", "hdc"], "dreml-table1 trains nothing of what was asked for"),
        (["--weights", "imagenet"], "conv4 has no ImageNet weights"),
    ],
)
def test_a_reproduction_that_would_train_nothing_is_refused(
    refused: Callable[..., Ran], flags: list[object], said: str, dry_run: list[object]
) -> None:
    assert said in refused("dreml-table1", "--datasets", "glyphs", *flags, *dry_run).err
