"""Retrieval scores against hand examples, slow independent code and another library."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from muster.workers.errors import UsageError
from muster.workers.score import retrieval
from muster.workers.score.protocol import Protocol, leave_one_out
from muster.workers.score.ranking import bytes_per_query
from muster.workers.score.retrieval import PrefixScorer, prefix_curve

KS = (1, 2, 4, 8)


def ensemble(n, dims, classes, seed=0, signal=0.8):
    """(labels [n], one float32 array of unit rows for each D in dims); classes differ in size."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n) * 7 + 3
    members = []
    for d in dims:
        x = rng.standard_normal((n, d)) + signal * rng.standard_normal((labels.max() + 1, d))[labels]
        members.append((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32))
    return labels, members


def small_integers(n, dims, classes, seed=0):
    """As `ensemble`, but not of unit length: products are exact in float32 and full of ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return labels, [rng.integers(-2, 3, (n, d)).astype(np.float32) for d in dims]


def reference(vectors, labels, query, gallery, ks, tolerance=0.0):
    """The definitions, one query at a time in float64: recalls, MAP@R, RP, near ties, queries."""
    x = vectors.astype(np.float64)
    found, ap, rp, near = dict.fromkeys(ks, 0), [], [], 0
    for q in query:
        others = [(-(x[q] @ x[g]), labels[g] == labels[q]) for g in gallery if g != q]
        r = sum(right for _, right in others)
        if not r:
            continue
        ranked = [right for _, right in sorted(others)]  # at equal similarity False, the wrong one, is first
        for k in ks:
            found[k] += any(ranked[:k])
        hits = np.cumsum(ranked[:r])
        ap.append(sum(hits[i] / (i + 1) for i in range(r) if ranked[i]) / r)
        rp.append(hits[-1] / r)
        best = max(-s for s, right in others if right)
        wrong = [-s for s, right in others if not right]
        surely = sum(s > best + tolerance for s in wrong)
        perhaps = sum(s >= best - tolerance for s in wrong)
        near += (surely < min(ks)) != (perhaps < min(ks))
    n = len(ap)
    return {k: v / n for k, v in found.items()}, np.mean(ap), np.mean(rp), near, n


def assert_alike(one, other):
    """Equal counts; sums of float64 that may have been added in another order."""
    assert [(s.members, s.queries, s.hits, s.near_ties) for s in one] == [
        (s.members, s.queries, s.hits, s.near_ties) for s in other
    ]
    for a, b in zip(one, other, strict=True):
        assert a.sums == pytest.approx(b.sums, rel=1e-12)


def assert_same(score, expected):
    recall, map_at_r, r_precision, near_ties, queries = expected
    assert score.recall == pytest.approx(recall, abs=1e-12)
    assert score.row["map_at_r"] == pytest.approx(map_at_r, abs=1e-9)
    assert score.row["r_precision"] == pytest.approx(r_precision, abs=1e-9)
    assert (score.near_ties, score.queries) == (near_ties, queries)


def test_hand_example_of_map_at_r_and_r_precision():
    # One query at angle 0; gallery by growing angle: right, wrong, right, wrong, wrong, right. So R = 3, and of
    # the first three places 1 and 3 are right: RP = 2/3, MAP@R = (1/1 + 2/3) / 3 = 5/9.
    angles = np.deg2rad([0, 10, 20, 30, 40, 50, 60])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    protocol = Protocol(np.array([5, 5, 9, 5, 9, 9, 5]), np.array([0]), np.arange(1, 7))
    (score,) = prefix_curve([vectors], protocol, (1, 2), map_at_r=True)
    assert score.recall == {1: 1.0, 2: 1.0}
    assert score.row["r_precision"] == pytest.approx(2 / 3)
    assert score.row["map_at_r"] == pytest.approx(5 / 9)


def test_each_prefix_equals_a_fresh_evaluation_of_the_concatenation():
    labels, members = ensemble(150, (6, 3, 12, 5), 12)
    curve = prefix_curve(members, leave_one_out(labels), KS, map_at_r=True)
    assert [score.members for score in curve] == [1, 2, 3, 4]
    rows = np.arange(150)
    for count, score in enumerate(curve, 1):
        joined = np.concatenate(members[:count], axis=1)
        assert_same(score, reference(joined, labels, rows, rows, KS, 1e-6 * count))
    assert curve[0].recall[1] < curve[-1].recall[1] < 1  # the example is neither trivial nor hopeless


@pytest.mark.parametrize("ks", [(1, 2, 4, 8), (3, 9), (1,), (50,)])
def test_ties_rank_wrong_images_first_and_are_counted(ks):
    labels, members = small_integers(90, (2, 3), 9)
    rows = np.arange(90)
    curve = prefix_curve(members, leave_one_out(labels), ks, map_at_r=True)
    for count, score in enumerate(curve, 1):
        joined = np.concatenate(members[:count], axis=1)
        assert_same(score, reference(joined, labels, rows, rows, ks, 1e-6 * count))
    assert max(ks) == 50 or curve[0].near_ties > 5


def test_a_near_tie_is_a_difference_within_rounding_for_the_members_so_far():
    labels = np.array([0, 0, 1])
    protocol = Protocol(labels, np.array([0]), np.array([1, 2]))

    def near(*gaps):
        members = [np.array([[1, 0], [0.5, 0], [0.5 + gap, 0]], np.float32) for gap in gaps]
        return [score.near_ties for score in prefix_curve(members, protocol)]

    assert near(5e-7) == near(-5e-7) == near(0) == [1]
    assert near(2e-6) == near(-2e-6) == [0]
    assert near(0, 1.5e-6) == [1, 1]
    assert near(0, 1.5e-6, 5e-6) == [1, 1, 0]


def test_a_collapsed_embedding_finds_nothing():
    labels = np.repeat(np.arange(10), 20)
    members = [np.tile(np.float32([0.6, 0.8]), (200, 1))] * 3
    for score in prefix_curve(members, leave_one_out(labels), KS, map_at_r=True):
        assert set(score.recall.values()) == {0.0}
        assert score.row["map_at_r"] == score.row["r_precision"] == 0
        assert score.near_ties == 200


def test_queries_look_in_the_gallery_only_and_never_find_themselves():
    labels, members = ensemble(160, (5, 8), 10)
    shuffled = np.random.default_rng(1).permutation(160)
    query, gallery = shuffled[:70], shuffled[40:]  # 30 queries are in the gallery too
    curve = prefix_curve(members, Protocol(labels, query, gallery), KS, map_at_r=True)
    for count, score in enumerate(curve, 1):
        joined = np.concatenate(members[:count], axis=1)
        assert_same(score, reference(joined, labels, query, gallery, KS, 1e-6 * count))


def test_a_gallery_in_one_stretch_scores_like_the_same_gallery_shuffled():
    labels, members = small_integers(80, (3, 4), 8)
    query, gallery = np.arange(20), np.arange(20, 80)
    shuffled = np.random.default_rng(0).permutation(gallery)
    one, other = (
        prefix_curve(members, Protocol(labels, query, g), map_at_r=True) for g in (gallery, shuffled)
    )
    assert_alike(one, other)


def test_lone_classes_are_left_out_and_reported():
    labels, (vectors,) = ensemble(60, (8,), 6)
    labels[[4, 9]] = 1000, 500
    protocol = leave_one_out(labels)
    assert (protocol.lone_queries, protocol.lone_classes) == (2, (500, 1000))
    (score,) = prefix_curve([vectors], protocol, KS, map_at_r=True)
    assert score.queries == 58
    assert_same(score, reference(vectors, labels, range(60), range(60), KS, 1e-6))


def test_blocks_of_one_query_score_like_one_block(monkeypatch):
    labels, members = small_integers(120, (3, 5), 11)
    protocol = leave_one_out(labels)
    whole = prefix_curve(members, protocol, KS, map_at_r=True)
    sizes = []

    class Watched(retrieval.Block):
        def __init__(self, protocol, queries, *rest):
            sizes.append(len(queries))
            super().__init__(protocol, queries, *rest)

    monkeypatch.setattr(retrieval, "Block", Watched)
    need = sum(bytes_per_query(protocol, full=True)) * torch.get_num_threads()
    for memory, rows in ((need, 1), (8 * need - 1, 7)):
        sizes.clear()
        assert_alike(prefix_curve(members, protocol, KS, map_at_r=True, memory=memory), whole)
        assert max(sizes) == rows
    with pytest.raises(UsageError, match="memory has 1,000"):
        prefix_curve(members, protocol, memory=1000)


def test_recall_alone_equals_recall_beside_map_at_r():
    labels, members = ensemble(200, (4, 4, 4), 20)
    protocol = leave_one_out(labels)
    fast = prefix_curve(members, protocol, KS)
    full = prefix_curve(members, protocol, KS, map_at_r=True)
    assert [(s.hits, s.near_ties) for s in fast] == [(s.hits, s.near_ties) for s in full]
    assert set(fast[0].row) == {"recall_at_1", "recall_at_2", "recall_at_4", "recall_at_8"}


def test_members_added_one_by_one_score_like_the_whole_curve():
    labels, members = ensemble(140, (4, 7, 3), 14)
    protocol = leave_one_out(labels)
    scorer = PrefixScorer(protocol, KS, map_at_r=True)
    assert [scorer.add(vectors) for vectors in members] == prefix_curve(members, protocol, KS, map_at_r=True)
    with pytest.raises(UsageError, match="use prefix_curve"):
        PrefixScorer(protocol, memory=140 * 140 * 4)


def test_a_refused_member_leaves_the_scorer_as_it_was():
    labels, (first, second) = ensemble(40, (4, 4), 5)
    scorer = PrefixScorer(leave_one_out(labels))
    scorer.add(first)
    with pytest.raises(UsageError, match="member 2"):
        scorer.add(second[:-1])
    assert scorer.add(second) == prefix_curve([first, second], leave_one_out(labels))[1]


@pytest.mark.parametrize("seed", [0, 1])
def test_equals_pytorch_metric_learning(seed):
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    labels, members = ensemble(250, (8, 8), 15, seed)
    labels[:3] = 2000, 2001, 2002  # lone
    metrics = ("precision_at_1", "mean_average_precision_at_r", "r_precision")
    calculator = AccuracyCalculator(include=metrics, k="max_bin_count", device=torch.device("cpu"))
    score = prefix_curve(members, leave_one_out(labels), map_at_r=True)[-1]
    joined = torch.from_numpy(np.concatenate(members, axis=1))
    theirs = calculator.get_accuracy(joined, torch.from_numpy(labels))
    ours = (score.recall[1], score.row["map_at_r"], score.row["r_precision"])
    assert ours == pytest.approx([theirs[name] for name in metrics], abs=1e-6)


def test_k_beyond_the_gallery_finds_everything():
    labels, (vectors,) = ensemble(30, (4,), 3)
    (score,) = prefix_curve([vectors], leave_one_out(labels), (1, 29, 1000))
    assert score.recall[29] == score.recall[1000] == 1.0
    assert prefix_curve([vectors], leave_one_out(labels), (1000,))[0].recall == {1000: 1.0}


def test_read_only_and_strided_vectors_are_scored_in_place(tmp_path):
    labels, members = small_integers(50, (4, 6), 5)
    joined = np.concatenate(members, axis=1)
    joined.tofile(tmp_path / "joined.f32")
    mapped = np.memmap(tmp_path / "joined.f32", np.float32, mode="r", shape=joined.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curve = prefix_curve([mapped[:, :4], mapped[:, 4:]], leave_one_out(labels))
    assert curve == prefix_curve(members, leave_one_out(labels))


def test_settings_of_training_do_not_reach_the_products_and_are_given_back(monkeypatch):
    labels, (vectors,) = ensemble(30, (4,), 3)
    seen = []

    class Watched(retrieval.Block):
        def add(self, *member):
            seen.append((torch.get_float32_matmul_precision(), torch.get_num_threads()))
            return super().add(*member)

    monkeypatch.setattr(retrieval, "Block", Watched)
    before = torch.get_float32_matmul_precision(), torch.get_num_threads()
    try:
        torch.set_float32_matmul_precision("medium")
        torch.set_num_threads(3)
        prefix_curve([vectors], leave_one_out(labels))
        assert (torch.get_float32_matmul_precision(), torch.get_num_threads()) == ("medium", 3)
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.set_num_threads(before[1])
    assert set(seen) == {("highest", 1)}


def test_scores_of_different_prefixes_do_not_add_up():
    labels, members = ensemble(30, (4, 4), 3)
    one, two = prefix_curve(members, leave_one_out(labels))
    with pytest.raises(ValueError, match="same prefix"):
        one + two
