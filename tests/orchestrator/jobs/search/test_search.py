"""Searches through the real command line, on the session's local head, with real members."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.cli import Muster, Ran
from tests.drills.test_kills import processes
from tests.orchestrator.jobs.search.searches import (
    DS,
    WINDOW,
    attempts,
    outcome,
    small_search,
    tiny_members,
    trained,
)


@pytest.fixture(scope="module")
def tiny(shapes: Path) -> list[object]:
    return tiny_members(shapes)


@pytest.fixture(scope="module")
def search(shapes: Path) -> list[object]:
    return small_search(shapes)


@pytest.fixture(scope="module")
def sought(
    muster: Muster, search: list[object], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any]:
    store = tmp_path_factory.mktemp("sought")
    return store, muster(*search, "--storage", store, "--name", "first", "--json").document


def test_a_search_ends_with_the_table_and_the_answer(sought: tuple[Path, Any]) -> None:
    store, answer = sought
    assert answer["state"] == "done"
    assert [row["D"] for row in answer["trials"]] == list(DS)
    assert sorted(row["L"] for row in answer["trials"]) == [3, 3, 5]
    assert sorted(row["ended"] for row in answer["trials"]) == ["complete", "cut", "cut"]
    (verdict,) = answer["verdicts"]
    assert verdict["rung"] == 3
    assert len(verdict["goes"]) == 1
    assert answer["chosen_on"]["split"] == "val"
    assert "4 validation classes" in answer["recommended"]["sentence"]
    assert {row["split"] for row in answer["curve"]} == {"val", "test"}
    run = store / "runs/first"
    for name in ("search.json", "answer.json", "plots/by_L.png", "plots/by_D.svg"):
        assert (run / name).stat().st_size > 0
    assert pq.read_table(run / "curves.parquet").num_rows == 2 * (3 + 3 + 5)


def test_what_is_found_without_training_stands_beside_what_is_recommended(
    muster: Muster, tiny: list[object], sought: tuple[Path, Any], tmp_path: Path
) -> None:
    assert "floors" not in sought[1]
    store = shutil.copytree(sought[0], tmp_path / "store")
    few = ["search", *tiny, "--D", "2,3", "--max-L", 2, "--val-classes", 4, "--scheduler", "none"]
    ran = muster(*few, "--storage", store, "--name", "floored", "--budget-members", 100, "--json")
    answer = ran.document
    assert answer["cost"]["overshoot"] == ""
    assert [row["floor"] for row in answer["floors"]] == ["pixels", "network"]
    for row in answer["floors"]:
        assert 0 < row["val_recall_at_1"] <= row["val_recall_at_2"] <= 1
        assert 0 < row["test_recall_at_1"] <= 1
    best = max(row["val_recall_at_1"] for row in answer["floors"])
    below = answer["recommended"]["recall_at_1"] <= best < 1
    assert any("is no better than" in text for text in answer.get("warnings", ())) is below
    shown = muster(*few, "--storage", store, "--name", "floored").out
    assert "Without any training" in shown
    assert all(len(line) <= 80 for line in shown.partition("Without any training")[2].splitlines()[:5])


def test_only_the_prefixes_are_trained_and_a_little_more(sought: tuple[Path, Any]) -> None:
    store, answer = sought
    union = {(row["D"], index) for row in answer["trials"] for index in range(1, row["L"] + 1)}
    stopped = sum(row["ended"] != "complete" for row in answer["trials"])
    there = trained(store)
    assert union <= there
    assert len(there - union) <= (WINDOW - 1) * stopped
    assert answer["cost"]["trained"] == len(there)
    assert answer["cost"]["grid"] == 15


def test_steering_values_are_those_of_a_fresh_evaluation(sought: tuple[Path, Any], muster: Muster) -> None:
    """The chosen trial, launched with the same validation classes, has the same curve on them."""
    store, answer = sought
    row = max(answer["trials"], key=lambda row: row["L"])
    flags = shlex.split(answer["recommended"]["command"])[1:]
    flags[flags.index("--D") + 1], flags[flags.index("--L") + 1] = str(row["D"]), str(row["L"])
    muster(*flags, "--val-classes", 4, "--name", "checked", "--set", "nmi=false", "--json")
    metrics = json.loads((store / "runs/checked/metrics.json").read_text())["splits"]
    for split in ("val", "test"):
        mine = [
            point for point in answer["curve"] if (point["split"], point["trial"]) == (split, row["trial"])
        ]
        assert [point["recall_at_1"] for point in mine] == [
            point["recall_at_1"] for point in metrics[split]["curve"]
        ]


def test_a_model_of_learners_is_searched_in_one_iteration(
    muster: Muster, shapes: Path, tmp_path: Path
) -> None:
    """Two ways to combine the same learners: one model is trained, and it is a launch's own."""
    flags = [
        "--dataset", "folder", "--data-root", shapes, "--image-size", 20, "--backbone", "conv4", "--steps", 2,
        "--learners", "4,8", "--P", 4, "--storage", tmp_path,
    ]  # fmt: skip
    answer = muster(
        "search", "--method", "bier", *flags, "--search", "combine=share,concat", "--val-classes", 4, "--json"
    ).document
    assert [(row["combine"], row["L"], row["ended"]) for row in answer["trials"]] == [
        ("share", 1, "complete"), ("concat", 1, "complete"),
    ]  # fmt: skip
    assert (answer["cost"]["trained"], answer["cost"]["grid"]) == (1, 1)
    row = answer["trials"][1]
    where = ["--combine", "concat", "--val-classes", 4, "--set", "nmi=false", "--json"]
    launched = muster("launch", "bier", *flags, *where).document
    assert launched["models"]["trained"] == 0
    metrics = json.loads((tmp_path / f"runs/{launched['run']}/metrics.json").read_text())["splits"]
    for split in ("val", "test"):
        assert metrics[split]["curve"][0]["recall_at_1"] == row[f"{split}_recall_at_1"]
    command = shlex.split(answer["recommended"]["command"])[1:]
    assert muster(*command, "--dry-run", "--json").document["to_train"] == 1
    assert (tmp_path / f"runs/{answer['run']}/plots/by_combine.png").stat().st_size > 0


@pytest.mark.long
def test_a_second_search_trains_nothing_and_finds_the_same(
    sought: tuple[Path, Any], muster: Muster, search: list[object]
) -> None:
    store, answer = sought
    before = trained(store)
    second = muster(*search, "--storage", store, "--name", "second", "--json").document
    assert second["cost"]["trained"] == 0
    assert second["cost"]["reused"] == 11
    assert trained(store) == before
    assert outcome(second) == outcome(answer)
    resumed = muster("resume", "first", "--storage", store, "--json").document
    assert outcome(resumed) == outcome(answer)
    assert resumed["cost"]["trained"] == 11  # by the run, in any of its attempts


def test_a_search_can_be_read_with_the_cluster_off(
    sought: tuple[Path, Any], muster: Muster, tmp_path: Path
) -> None:
    store, _ = sought
    alone = Muster({**muster.env, "MUSTER_STATE_DIR": str(tmp_path / "none")})
    status = alone("status", "first", "--storage", store, "--json").document
    assert status["kind"] == "search"
    assert status["state"] == "done"
    assert len(status["members"]) == 11
    assert [trial["D"] for trial in status["trials"]] == list(DS)
    assert "is a search" in alone("evaluate", "first", "--storage", store, code=2).err


@pytest.mark.long
def test_a_killed_driver_is_resumed_to_the_same_table(
    sought: tuple[Path, Any], muster: Muster, search: list[object], tmp_path: Path, until: Callable[..., Any]
) -> None:
    process = muster.start(*search, "--storage", tmp_path, "--name", "orphan")
    until(lambda: len(trained(tmp_path)) >= 4, 120)
    for driver in processes(muster, "muster.orchestrator.jobs.entry search"):
        driver.kill()
    process.communicate(timeout=120)
    assert process.returncode == 1
    before = len(trained(tmp_path))
    answer = muster("resume", "orphan", "--storage", tmp_path, "--json").document
    assert outcome(answer) == outcome(sought[1])
    assert before < len(trained(tmp_path)) == answer["cost"]["trained"]
    assert attempts(tmp_path) == {1}


@pytest.mark.long
def test_a_search_on_test_classes_shares_its_members_with_launches(
    muster: Muster, tiny: list[object], tmp_path: Path
) -> None:
    where = [*tiny, "--storage", tmp_path, "--json"]
    muster("launch", "dreml", *where, "--D", 2, "--L", 2, "--set", "nmi=false")
    searched = muster(
        "search", *where, "--D", "2,3", "--max-L", 2, "--select-on", "test", "--scheduler", "none"
    ).document
    assert searched["cost"]["trained"] == 2
    assert searched["cost"]["reused"] == 2
    assert "TEST classes" in searched["recommended"]["sentence"]
    assert searched["recommended"]["training"]["to_train"] == 0
    launched = muster("launch", "dreml", *where, "--D", 3, "--L", 2, "--set", "nmi=false").document
    assert launched["models"] == {"asked": 2, "reused": 2, "trained": 0, "failed": 0}
    command = shlex.split(searched["recommended"]["command"])[1:]
    assert muster(*command, "--dry-run", "--json").document["to_train"] == 0


@pytest.mark.long
def test_a_budget_ends_a_search_with_what_there_is(
    muster: Muster, search: list[object], tmp_path: Path
) -> None:
    ran = muster(*search, "--storage", tmp_path, "--name", "poor", "--budget-members", 4, "--json", code=3)
    answer = ran.document
    assert len(trained(tmp_path)) == answer["cost"]["trained"] == 4
    assert answer["state"] == "partial 0 of 3"
    assert {row["ended"] for row in answer["trials"]} == {"budget"}
    assert answer["cost"]["overshoot"] == ""


@pytest.mark.long
def test_a_trial_whose_members_fail_says_why_and_the_others_go_on(
    muster: Muster, tiny: list[object], tmp_path: Path
) -> None:
    ran = muster(
        "search", *tiny, "--D", 2, "--search", "lr=0.002,1e30", "--max-L", 2, "--val-classes", 4,
        "--storage", tmp_path, "--json", code=3,
    )  # fmt: skip
    good, bad = ran.document["trials"]
    assert (good["ended"], good["L"]) == ("complete", 2)
    assert (bad["ended"], bad["L"]) == ("failed", 0)
    assert "member 1" in bad["message"]
    assert ran.document["state"] == "partial 1 of 2"
    assert ran.document["recommended"]["trial"] == 1


@pytest.fixture
def refused(muster_without_cluster: Muster, tmp_path: Path) -> Callable[..., Ran]:
    """Runs a search that must be refused, before a cluster is started or anything is written."""

    def run(*flags: object) -> Ran:
        store = tmp_path / "store"
        ran = muster_without_cluster("search", "--storage", store, "--max-L", 8, *flags, code=2)
        assert ran.out == ""
        assert "Starting a local Ray head" not in ran.err
        assert not list(store.glob("*"))
        assert 1 <= len(ran.err.splitlines()) <= 12
        return ran

    return run


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--D="], ["--D", "is empty"]),
        (["--D", "12,x"], ["--D 12,x", "not a whole number"]),
        (["--D", "100..12"], ["range is empty"]),
        ([], ["--D is missing"]),
        (["--D", "12,161"], ["D = 161", "160 training classes", "2..160"]),
        (["--D", "12", "--metric", "recall_at_3"], ["recall_at_1, recall_at_2", "map_at_r"]),
        (["--D", "12", "--search", "lrr=1"], ["lrr", "Did you mean lr?"]),
        (["--D", "12", "--search", "lr"], ["--search lr", "key=values"]),
        (["--D", "12", "--search", "D=3"], ["--search D=3", "D is searched already"]),
        (["--D", "12", "--search", "lr=1,2", "--search", "recipe.lr=3"], ["lr is searched already"]),
        (["--D", "12", "--search", "backbone=conv4,conv5"], ["conv5", "Did you mean conv4?"]),
        (["--D", "1e400,12"], ["--D 1e400,12", "not finite"]),
        (["--D", "12", "--gpus-per-member", "inf"], ["gpus_per_member = inf"]),
        (["--D", "12", "--name", ".."], ["name = '..'", "begins with a letter or a digit"]),
        (
            ["--D", "12", "--algorithm", "random", "--samples", 10**9],
            ["--samples 1000000000", "1000 is the most"],
        ),
        (["--D", "12", "--max-L", 10**8], ["L = 100000000", "at most 1000"]),
        (["--D", "2..100:9999"], ["'9999'", "points from 2 to 1000"]),
        (
            ["--D", "2..100:900", "--search", "lr=0.1..0.2:900"],
            ["The grid has 89100 trials", "1000 is the most"],
        ),
        (["--D", "12", "--budget-gpu-hours", "inf"], ["--budget-gpu-hours inf", "finite"]),
        (["--D", "12", "--plateau", "a:b"], ["--plateau a:b"]),
        (["--D", "12", "--set", "D=5"], ["--set D", "from --D"]),
        (["--D", "12", "--set", "ensemble.L=5"], ["--set ensemble.L", "from --max-L"]),
        (["--D", "12", "--set", "method=bier"], ["method = 'bier'"]),
        (["--D", "12", "--dry-run", "--weights", "/no/such/file.pt"], ["/no/such/file.pt", "no such file"]),
        (["--D", "12", "--dry-run", "--storage", "/etc/passwd"], ["Can't write /etc/passwd"]),
        (
            ["--D", "12", "--max-L", 0, "--metric", "nope", "--search", "lr"],
            ["L = 0", "--metric nope: there are recall_at_K", "--search lr"],
        ),
        (["--method", "beir", "--learners", 3], ["method = 'beir'", "Did you mean bier?"]),
        (["--D", "12", "--budget-members", 0], ["--budget-members 0", "above 0"]),
        (["--D", "12", "--budget-gpu-hours", 0], ["--budget-gpu-hours 0", "above 0"]),
        (["--D", "12", "--plateau", "3"], ["--plateau 3", "k:epsilon"]),
        (["--D", "12", "--select-on", "test"], ["leave --val-classes out"]),
        (["--D", "12", "--val-classes", 0], ["--val-classes N", "--select-on test"]),
        (
            ["--D", "12", "--epochs", 0, "--scheduler", "hyper", "--budget-members", 0],
            ["epochs = 0", "halving, asha, none", "above 0"],
        ),
    ],
)
def test_a_wrong_search_is_refused_in_one_message(
    refused: Callable[..., Ran], flags: list[object], said: list[str]
) -> None:
    ran = refused("--val-classes", 40, *flags)
    assert all(text in ran.err for text in said), ran.err


def test_optuna_that_is_not_installed_is_named_with_its_extra(refused: Callable[..., Ran]) -> None:
    if __import__("importlib.util").util.find_spec("optuna"):
        pytest.skip("optuna is installed here")
    ran = refused("--val-classes", 40, "--D", "12..50", "--algorithm", "optuna", "--scheduler", "asha")
    assert "pip install '.[optuna]' in muster's checkout" in ran.err
