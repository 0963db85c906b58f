"""Protocols, draws and a member's vectors as evaluation takes them, on made vectors in a real store."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muster.orchestrator.ensemble.requests import EnsembleResult
from muster.orchestrator.methods.loading import load
from muster.orchestrator.vectors import evaluate, learners
from muster.orchestrator.vectors.evaluate import (
    all_vectors,
    cpu_seconds,
    evaluate_here,
    evaluate_on_ray,
    prefix_nmi,
    protocol_of,
)
from muster.orchestrator.vectors.learners import correlation_row, learner_scores
from muster.orchestrator.vectors.protocols import draws_of, mean_curve, protocol_text, recall_at
from muster.orchestrator.vectors.vectors import forgetting, member_vectors
from muster.workers.errors import DamagedMember, StoreError
from muster.workers.score import nmi as clustering
from muster.workers.score import retrieval
from muster.workers.score.combine import Combination, combine, correlation
from muster.workers.score.nmi import nmi
from muster.workers.score.protocol import leave_one_out, one_of_each_class
from muster.workers.score.retrieval import prefix_curve
from muster.workers.store.files import Files
from muster.workers.store.layout import Store
from muster.workers.store.vectors import read_vectors, write_vectors
from tests.orchestrator.made_ensembles import concatenation, labels_of, made_ensemble


@pytest.fixture(scope="module")
def made(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, EnsembleResult]:
    store = Store(str(tmp_path_factory.mktemp("made")))
    return store, made_ensemble(store, shapes, "made", D=4, L=3)


def keys_of(got: EnsembleResult) -> list[str]:
    return [task.key for task in got.tasks]


# A member's vectors.


def test_rows_of_a_member_are_those_that_were_asked_for(made: tuple[Store, EnsembleResult]) -> None:
    store, got = made
    key, digest = keys_of(got)[0], got.target("test").digest
    whole = read_vectors(store.model(key).embedding(digest))
    assert np.array_equal(member_vectors(store, key, digest), whole)
    assert np.array_equal(member_vectors(store, key, digest, 10, 30), whole[10:30])
    assert np.array_equal(member_vectors(store, key, digest, 90), whole[90:])
    combination = Combination((1, 3), "sqrt")
    combined = member_vectors(store, key, digest, 5, 9, combination)
    assert np.array_equal(combined, combine(whole[5:9], (1, 3), "sqrt"))


def test_vectors_that_cannot_be_trusted_are_the_member_s_fault(made: tuple[Store, EnsembleResult]) -> None:
    store, got = made
    with pytest.raises(DamagedMember) as caught:
        member_vectors(store, "f" * 32, got.target("test").digest)
    assert caught.value.key == "f" * 32
    assert "vectors" in str(caught.value)


def test_members_too_large_for_memory_are_mapped(made: tuple[Store, EnsembleResult], tmp_path: Path) -> None:
    store, got = made
    target, keys = got.target("test"), keys_of(got)
    plain = [member_vectors(store, key, target.digest) for key in keys]
    size = sum(vectors.nbytes for vectors in plain)
    for memory, mapped in ((size, False), (size - 1, True)):
        found = all_vectors(store, target, keys, memory, tmp_path)
        assert [isinstance(vectors, np.memmap) for vectors in found] == [mapped] * 3
        assert all(np.array_equal(one, other) for one, other in zip(found, plain, strict=True))
    (combined, *_) = all_vectors(store, target, keys, size, tmp_path, Combination((2, 2), "concat"))
    assert np.array_equal(combined, combine(plain[0], (2, 2), "concat"))


# Scores.


def test_a_curve_is_that_of_the_vectors_with_nmi_where_it_is_computed(
    made: tuple[Store, EnsembleResult],
) -> None:
    store, got = made
    target, keys = got.target("test"), keys_of(got)
    found = evaluate_here(store, target, keys, (1, 3), memory=1 << 30, nmi=True)
    labels = labels_of(store, got, "test")
    members = [member_vectors(store, key, target.digest) for key in keys]
    plain = prefix_curve(members, leave_one_out(labels), (1, 3), map_at_r=True)
    assert [{**row, "nmi": None} for row in found["curve"]] == [
        {**score.full_row, "nmi": None} for score in plain
    ]
    for size, row in enumerate(found["curve"], start=1):
        joined = concatenation(store, got, "test", size).astype(np.float32)
        value = nmi(joined, labels, 0, iterations=100, restarts=5)
        assert row["nmi"] == prefix_nmi(store.root, target, keys[:size]) == pytest.approx(value)
    assert (found["queries"], found["lone"]) == (96, {"queries": 0, "classes": []})
    assert found["near_ties"] == found["curve"][-1]["near_ties"]
    assert "learners" not in found
    without = evaluate_here(store, target, keys, (1, 3), memory=1 << 30, nmi=False)
    assert [row["nmi"] for row in without["curve"]] == [None] * 3


@pytest.mark.parametrize("how", [{}, {"draws": 2}, {"nmi": False}])
def test_on_a_gpu_the_same_is_found_and_it_says_so(
    made: tuple[Store, EnsembleResult], monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    store, got = made
    target, asked = got.target("test"), {"memory": 1 << 30, "nmi": True, **how}
    monkeypatch.setattr(evaluate, "WORTH_SECONDS", 0.0)

    def on_gpu(work: Any, *args: Any) -> Any:
        """A CPU in its place: what is asked for crosses to another process there. By this name it is no CPU to NMI."""
        return work(*pickle.loads(pickle.dumps(args)), device="cpu:0")

    devices = spied(monkeypatch)
    found = evaluate_on_ray(store, target, got.tasks, (1, 3), on_gpu=on_gpu, **asked)
    assert devices == {"cpu:0"}
    assert found.pop("scored_on") == "cpu:0"
    plain = evaluate_here(store, target, keys_of(got), (1, 3), **asked)
    for mine, cpus in zip(found["curve"], plain["curve"], strict=True):
        clusters = mine.pop("nmi"), cpus.pop("nmi")
        assert clusters == (None, None) or clusters[0] == pytest.approx(clusters[1], abs=0.1)
    assert found == plain


def spied(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Where scores and clusters are computed from now on."""
    seen = set()
    for module, name in ((retrieval, "prefix_curve"), (learners, "prefix_curve"), (clustering, "nmi")):

        def noted(
            *args: Any, real: Any = getattr(module, name, None), device: str = "cpu", **how: Any
        ) -> Any:
            seen.add(device)
            return real(*args, device=device, **how)

        if hasattr(module, name):
            monkeypatch.setattr(module, name, noted)
    return seen


def test_a_gpu_is_asked_for_where_a_cpu_would_be_long_at_it() -> None:
    cub, sop = (
        leave_one_out(np.arange(images) % classes) for images, classes in ((5924, 100), (60502, 11316))
    )
    small = leave_one_out(np.arange(96) % 12)
    members = [12] * 48
    assert cpu_seconds(small, members, 1, nmi=True) < 1
    assert cpu_seconds(cub, members, 1, nmi=False) < evaluate.WORTH_SECONDS
    assert cpu_seconds(sop, members, 1, nmi=False) > 5 * evaluate.WORTH_SECONDS
    assert cpu_seconds(sop, [12], 1, nmi=True) > 1000
    assert cpu_seconds(cub, members, 10, nmi=False) == pytest.approx(
        10 * cpu_seconds(cub, members, 1, nmi=False)
    )


def test_draws_are_scored_one_by_one_and_averaged(made: tuple[Store, EnsembleResult]) -> None:
    store, got = made
    target, keys = got.target("test"), keys_of(got)
    found = evaluate_here(store, target, keys, (1, 5), memory=1 << 30, nmi=False, draws=3)
    labels = protocol_of(store, target).labels
    members = [member_vectors(store, key, target.digest) for key in keys]
    drawn = [
        prefix_curve(members, one_of_each_class(labels, draw), (1, 5), map_at_r=True)[-1].recall[1]
        for draw in range(3)
    ]
    last = found["curve"][-1]
    assert last["recall_at_1"] == pytest.approx(np.mean(drawn))
    assert last["recall_at_1_spread"] == pytest.approx(np.std(drawn, ddof=1))
    assert found["queries"] == 96 - 12


def test_a_model_with_learners_is_scored_whole_and_by_its_parts(made: tuple[Store, EnsembleResult]) -> None:
    store, got = made
    target = got.target("test")
    combination = Combination((1, 3), "share")
    found = evaluate_here(
        store, target, keys_of(got)[:1], (1,), memory=1 << 30, nmi=False, combination=combination
    )
    raw = member_vectors(store, keys_of(got)[0], target.digest)
    protocol = leave_one_out(labels_of(store, got, "test"))
    (whole,) = prefix_curve([combine(raw, (1, 3), "share")], protocol, (1,), map_at_r=True)
    assert found["curve"] == [{**whole.full_row, "nmi": None}]
    assert {name: found[name] for name in ("learners", "correlation")} == learner_scores(
        raw, (1, 3), protocol, (1,), 1 << 30
    )


def test_each_learner_is_scored_alone() -> None:
    rng = np.random.default_rng(0)
    raw, protocol = rng.normal(size=(40, 5)).astype(np.float32), leave_one_out(np.arange(40) // 4)
    found = learner_scores(raw, (2, 3), protocol, (1, 2), 1 << 30)
    unit = combine(raw, (2, 3), "concat")
    for row, part in zip(found["learners"], (unit[:, :2], unit[:, 2:]), strict=True):
        (score,) = prefix_curve([np.ascontiguousarray(part)], protocol, (1, 2), map_at_r=True)
        assert row == {"learner": row["learner"], "dimension": part.shape[1], **score.row}
    assert [(row["learner"], row["dimension"]) for row in found["learners"]] == [(1, 2), (2, 3)]
    plain = correlation(raw, (2, 3))
    assert found["correlation"] == {
        "between_learners": plain.clf_corr, "between_dimensions": plain.feat_corr, "constant_dimensions": 0,
        "images": 40,
    }  # fmt: skip


def test_a_correlation_needs_two_learners_three_images_and_some_variation() -> None:
    raw = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    assert correlation_row(raw, (4,)) is None
    assert correlation_row(raw[:2], (2, 2)) is None
    found = correlation_row(raw, (2, 2))
    assert found is not None
    assert None not in found.values()
    constant = correlation_row(np.ones((5, 4), np.float32), (2, 2))
    assert constant == {
        "between_learners": None, "between_dimensions": None, "constant_dimensions": 4, "images": 5,
    }  # fmt: skip


# Which protocol.


def test_a_mean_curve_has_means_spreads_and_the_most_near_ties() -> None:
    names = ("L", "recall_at_1", "map_at_r", "near_ties")
    values = [[(1, 0.5, 0.2, 3), (2, 0.7, 0.4, 0)], [(1, 0.7, 0.4, 1), (2, 0.7, 0.6, 2)]]
    draws = [[dict(zip(names, row, strict=True)) for row in curve] for curve in values]
    first, second = mean_curve(draws)
    assert first == pytest.approx(
        {"L": 1, "recall_at_1": 0.6, "recall_at_1_spread": 0.2 / 2**0.5, "map_at_r": 0.3, "near_ties": 3}
    )
    assert second == pytest.approx(
        {"L": 2, "recall_at_1": 0.7, "recall_at_1_spread": 0.0, "map_at_r": 0.5, "near_ties": 2}
    )
    assert mean_curve(draws[:1]) == draws[0]
    with pytest.raises(ValueError, match="shorter"):
        mean_curve([draws[0], draws[1][:1]])


def test_the_protocol_is_the_data_set_s_or_the_one_asked_for() -> None:
    launch: Any = load(None, {"data.dataset": "vehicleid", "data.root": "/x"}, [])
    reid = replace(launch.data, vehicleid_protocol="reid", repeats=4)
    assert (draws_of(launch.data), draws_of(reid)) == (0, 4)
    assert "means of 4 draws" in protocol_text(reid)
    assert "draws" not in protocol_text(launch.data)
    assert protocol_text(replace(launch.data, dataset="inshop")) != protocol_text(launch.data)
    assert recall_at(launch) == (1, 5)
    assert recall_at(replace(launch, data=replace(launch.data, dataset="glyphs"))) == (1, 2, 4, 8)


def test_roles_of_the_data_set_say_who_asks_whom(made: tuple[Store, EnsembleResult], tmp_path: Path) -> None:
    store, got = made
    plain = protocol_of(store, got.target("test"))
    assert np.array_equal(plain.query, plain.gallery)
    assert np.array_equal(plain.labels, labels_of(store, got, "test"))
    assert np.array_equal(plain.query, np.arange(96))


def test_vectors_are_written_as_they_are_read(tmp_path: Path) -> None:
    folder = Store(str(tmp_path)).model("0" * 32).embedding("d" * 16)
    vectors = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    write_vectors(folder, vectors, {})
    for start, stop in ((0, None), (2, 5), (6, 7)):
        assert np.array_equal(read_vectors(folder, start, stop), vectors[start:stop])


def test_damage_is_named_also_where_it_can_t_be_forgotten(
    made: tuple[Store, EnsembleResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that may only be read."""
    store, got = made

    def refused(*_: object) -> None:
        raise StoreError("Can't delete x: Permission denied.")

    monkeypatch.setattr(Files, "delete", refused)
    with (
        pytest.raises(StoreError, match=r"vectors of it are damaged\..* and that is refused: Can't delete x"),
        forgetting(store, got.target("test").digest, "run"),
    ):
        raise DamagedMember(got.tasks[0].key, "The vectors of it are damaged.")
