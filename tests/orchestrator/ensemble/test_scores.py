"""What became of an ensemble, and when its scores are computed: with made vectors, evaluated in this process."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from muster.orchestrator.ensemble import scores as scoring
from muster.orchestrator.ensemble.plan import PlannedEnsemble
from muster.orchestrator.ensemble.requests import EnsembleRequest, EnsembleResult
from muster.orchestrator.ensemble.scores import digest_of, keep, result_of, score_all, scored, scores_identity
from muster.orchestrator.fleet.work import Outcome
from muster.orchestrator.methods.loading import load
from muster.orchestrator.vectors.evaluate import evaluate_here
from muster.orchestrator.vectors.vectors import content_of
from muster.workers.spec import TestView
from muster.workers.store.layout import Store
from muster.workers.store.records import Done
from muster.workers.task import Images, Target
from tests.orchestrator.made_ensembles import made_ensemble


@pytest.fixture(scope="module")
def made(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, EnsembleResult]:
    store = Store(str(tmp_path_factory.mktemp("made")))
    return store, replace(made_ensemble(store, shapes, "made", D=4, L=3), metrics=None)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is asked of the evaluation, which runs here instead of on a cluster."""
    found: list[dict[str, Any]] = []

    def here(
        store: Store, target: Target, members: Any, ks: Any, *, queries: str, on_gpu: Any, **how: Any
    ) -> Any:
        keys = [task.key for task in members]
        found.append({"split": target.split, "keys": keys, "ks": ks, "queries": queries, **how})
        return evaluate_here(store, target, keys, ks, **how)

    monkeypatch.setattr(scoring, "evaluate_on_ray", here)
    return found


def planned(got: EnsembleResult) -> PlannedEnsemble:
    return PlannedEnsemble(got.request, got.prepared, got.tasks)


def lost(
    got: EnsembleResult, *indices: int, message: str = "the disk is full\nand more"
) -> dict[str, Outcome]:
    return {
        task.key: Outcome(task.key, task.spec.index, "failed", message=message)
        for task in got.tasks
        if task.spec.index in indices
    }


def test_members_of_which_nothing_was_heard_are_there(made: tuple[Store, EnsembleResult]) -> None:
    _, got = made
    for indices, left in (((), [1, 2, 3]), ((2,), [1, 3]), ((1, 3), [2])):
        found = result_of(planned(got), lost(got, *indices))
        assert [task.spec.index for task in found.members] == left
        assert (found.tasks, found.request, found.prepared) == (got.tasks, got.request, got.prepared)
        assert (found.trouble, found.metrics) == ("", None)
    done = {task.key: Outcome(task.key, task.spec.index, "reused") for task in got.tasks}
    assert result_of(planned(got), done).members == got.tasks


def test_an_ensemble_without_any_member_says_each_cause_once(made: tuple[Store, EnsembleResult]) -> None:
    _, got = made
    outcomes = lost(got, 1, 2) | lost(got, 3, message="no such device")
    found = result_of(planned(got), outcomes)
    assert found.members == ()
    assert found.trouble == "no member was trained: the disk is full; no such device"
    nothing = PlannedEnsemble(got.request)
    assert (result_of(nothing, {}).trouble, result_of(nothing, {}).members) == ("", ())


def test_scores_are_those_of_the_vectors_with_what_they_depend_on(
    made: tuple[Store, EnsembleResult], calls: list[dict[str, Any]]
) -> None:
    store, got = made
    kept: scoring.Kept = {}
    found = scored(got, ["test", "train"], store, kept, run=store.run("one"))
    assert [(call["split"], call["queries"]) for call in calls] == [
        ("test", "runs/one/queries.parquet"), ("train", "runs/one/queries-train.parquet"),
    ]  # fmt: skip
    assert all(call["keys"] == [task.key for task in got.tasks] for call in calls)
    assert {(call["ks"], call["memory"], call["nmi"], call["draws"]) for call in calls} == {
        ((1, 2, 4, 8), 10**9, True, 0)
    }
    metrics = found.metrics or {}
    plain = evaluate_here(store, got.target("test"), calls[0]["keys"], (1, 2, 4, 8), memory=10**9, nmi=True)
    assert metrics["splits"]["test"] == {
        **plain, "vectors": content_of(store, got.target("test"), calls[0]["keys"]),
    }  # fmt: skip
    assert metrics["splits"].keys() == {"test", "train"}
    assert (metrics["state"], metrics["ks"]) == ("done", [1, 2, 4, 8])
    assert metrics["identity"] == scores_identity(
        got.request.launch, [got.target("test"), got.target("train")], calls[0]["keys"]
    )
    assert list(kept) == [digest_of(metrics["identity"])]
    assert keep(metrics) == kept


def test_kept_scores_are_not_computed_again(
    made: tuple[Store, EnsembleResult], calls: list[dict[str, Any]]
) -> None:
    store, got = made
    kept: scoring.Kept = {}
    first = scored(got, ["test"], store, kept)
    assert scored(got, ["test"], store, keep(first.metrics or {})) == first
    assert (first.metrics or {})["warnings"] == []
    assert [call["queries"] for call in calls] == [""]
    scored(replace(got, members=got.members[:2]), ["test"], store, kept)
    scored(got, ["train"], store, kept)
    assert len(calls) == 3
    assert len(kept) == 3


def test_a_partial_ensemble_says_whom_it_lacks(
    made: tuple[Store, EnsembleResult], calls: list[dict[str, Any]]
) -> None:
    store, got = made
    metrics = scored(replace(got, members=got.members[1:2]), ["test"], store, {}).metrics or {}
    assert metrics["state"] == "partial 1 of 3"
    assert metrics["warnings"] == ["1 of 3 members: without 1, 3."]
    assert [row["L"] for row in metrics["splits"]["test"]["curve"]] == [1]
    nobody = replace(got, members=())
    assert scored(nobody, ["test"], store, {}) is nobody


def test_near_ties_are_a_warning_and_times_add_up(made: tuple[Store, EnsembleResult]) -> None:
    _, got = made
    store = Store(made[0].root + "-times")
    for seconds, task in zip((3.0, 4.0, 5.0), got.tasks, strict=True):
        store.model(task.key).commit(Done({}, {"seconds": seconds, "ranks": 2}))
    identity = scores_identity(got.request.launch, [got.target("test")], [task.key for task in got.tasks])
    curve = [{"L": 3, "near_ties": 5}]
    kept = {digest_of(identity): {"test": {"curve": curve, "queries": 96}}}
    metrics = scored(got, ["test"], store, kept).metrics or {}
    assert metrics["device_seconds"] == 24
    (told,) = metrics["warnings"]
    assert told.startswith("5 of 96 queries are near ties")


def test_ensembles_that_want_the_same_scores_have_them_computed_once(
    made: tuple[Store, EnsembleResult], calls: list[dict[str, Any]]
) -> None:
    store, got = made
    named = [planned(replace(got, request=replace(got.request, name=name))) for name in "ab"]
    other = replace(planned(got), tasks=got.tasks[:2])
    other = replace(other, request=replace(got.request, name="c"))
    outcomes: dict[str, Outcome] = {}
    client: Any = SimpleNamespace(
        store=store, outcomes=outcomes, on_gpu=None, repaired=lambda work, tasks: work()
    )
    nothing = PlannedEnsemble(EnsembleRequest(launch=got.request.launch, name="d"))
    found = score_all([*named, other, nothing], client, {})
    assert list(found) == ["a", "b", "c", "d"]
    assert sorted(len(call["keys"]) for call in calls) == [2, 3]
    assert found["a"].metrics == found["b"].metrics != found["c"].metrics
    assert found["d"].metrics is None


def test_different_ensembles_are_scored_side_by_side(
    made: tuple[Store, EnsembleResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, got = made
    together = threading.Barrier(2)

    def met(*call: Any, **how: Any) -> Any:
        together.wait(timeout=60)  # each waits for the other one
        return {"curve": [{"L": 1}], "queries": 1}

    monkeypatch.setattr(scoring, "evaluate_on_ray", met)
    one = planned(replace(got, request=replace(got.request, name="one")))
    two = replace(one, tasks=got.tasks[:2], request=replace(got.request, name="two"))
    mended: list[Any] = []
    client: Any = SimpleNamespace(
        store=store, outcomes={}, on_gpu=None, repaired=lambda work, tasks: (mended.append(tasks), work())[1]
    )
    found = score_all([one, two], client, {})
    assert [len((each.metrics or {})["identity"]["members"]) for each in found.values()] == [3, 2]
    assert set(mended) == {one.tasks, two.tasks}


# What scores depend on.

LAUNCH = load(None, {"data.dataset": "glyphs"}, [])
VIEW = TestView(resize="squash:20", crop=16, mean=(0.5,) * 3, std=(0.3,) * 3)


def target(split: str, digest: str = "a") -> Target:
    return Target(split=split, images=Images(pack="p", class_ids=None, digest=digest), view=VIEW)


def test_what_scores_depend_on_is_in_their_identity() -> None:
    base = (LAUNCH, [target("test")], ["k1", "k2"])
    assert scores_identity(*base) == {
        "members": ["k1", "k2"], "embeddings": {"test": target("test").digest}, "ks": [1, 2, 4, 8], "nmi": True,
        "version": 1,
    }  # fmt: skip
    vehicles = replace(LAUNCH, data=replace(LAUNCH.data, dataset="vehicleid", root="/x"))
    reid = replace(vehicles, data=replace(vehicles.data, vehicleid_protocol="reid"))
    bier = load(None, {"method": "bier"}, [])
    found = [
        scores_identity(*base),
        scores_identity(LAUNCH, [target("test")], ["k2", "k1"]),
        scores_identity(LAUNCH, [target("test")], ["k1"]),
        scores_identity(LAUNCH, [target("test", "b")], ["k1", "k2"]),
        scores_identity(LAUNCH, [target("test"), target("val", "c")], ["k1", "k2"]),
        scores_identity(replace(LAUNCH, resources=replace(LAUNCH.resources, nmi=False)), *base[1:]),
        scores_identity(vehicles, *base[1:]),
        scores_identity(reid, *base[1:]),
        scores_identity(replace(reid, data=replace(reid.data, repeats=3)), *base[1:]),
        scores_identity(bier, *base[1:]),
        scores_identity(replace(bier, settings=replace(bier.settings, combine="concat")), *base[1:]),  # type: ignore[call-arg]
    ]
    assert len({digest_of(one) for one in found}) == len(found)
    assert found[7]["draws"] == 10
    assert found[9]["combine"] == "share"
    assert found[6]["ks"] != found[0]["ks"]


def test_a_metric_that_came_later_makes_older_scores_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    was = scores_identity(LAUNCH, [target("test")], ["k1"])
    later = [*scoring.BY_RANK, replace(scoring.BY_RANK[0], name="new", added=True)]
    monkeypatch.setattr(scoring, "BY_RANK", later)
    assert scores_identity(LAUNCH, [target("test")], ["k1"]) == {**was, "metrics": ["new"]}
