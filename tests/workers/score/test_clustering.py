"""NMI against scikit-learn, and k-means that is the same every time."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from muster.workers.errors import MusterError, UsageError
from muster.workers.score import nmi as module
from muster.workers.score.nmi import _clusters, clusters_on, nmi, nmi_of_clusters, nmi_schedule


def clouds(n, d, classes, spread, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n) * 5
    x = rng.standard_normal((labels.max() + 1, d))[labels] + spread * rng.standard_normal((n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize(("parts", "classes"), [(1, 1), (1, 4), (4, 1), (3, 7), (40, 2), (60, 60)])
def test_nmi_equals_scikit_learn_for_given_clusters(parts, classes):
    rng = np.random.default_rng(parts)
    clusters, labels = rng.integers(0, parts, 60), rng.integers(0, classes, 60) * 3 - 7
    expected = normalized_mutual_info_score(labels, clusters, average_method="arithmetic")
    assert nmi_of_clusters(clusters, labels) == pytest.approx(expected, abs=1e-9)


def test_nmi_is_one_for_clusters_that_are_the_classes_under_other_names():
    labels = np.array([3, 3, 9, 9, 4])
    assert nmi_of_clusters(np.array([0, 0, 7, 7, 2]), labels) == pytest.approx(1)


def test_separate_clouds_are_found_and_noise_is_not():
    vectors, labels = clouds(300, 16, 3, spread=0.01)
    assert nmi(vectors, labels, seed=0, iterations=20, restarts=10) == pytest.approx(1)
    vectors, labels = clouds(300, 16, 6, spread=100)
    assert nmi(vectors, labels, seed=0, iterations=20) < 0.2


def test_no_image_is_left_out_of_the_clustering():
    """faiss would take 256 for each cluster, and miss a class of one image far away from all others."""
    labels = np.repeat([0, 1], [5999, 1])
    vectors = np.zeros((6000, 2), np.float32)
    vectors[:, 0] = np.random.default_rng(0).normal(0, 0.01, 6000)
    vectors[5999] = [0, 500]
    assert nmi(vectors, labels, seed=0, iterations=20, restarts=3) == pytest.approx(1)


def test_the_same_seed_gives_the_same_nmi_and_another_seed_may_not():
    vectors, labels = clouds(300, 8, 12, spread=0.8)
    values = [nmi(vectors, labels, seed, iterations=5, restarts=1) for seed in (7, 7, 8, 9, 2**40)]
    assert values[0] == values[1]
    assert len(set(values)) > 1


def test_small_classes_and_large_ones_print_no_warning(capfd):
    nmi(*clouds(40, 4, 9, spread=0.5), seed=0, iterations=3)
    nmi(*clouds(700, 4, 2, spread=0.5), seed=0, iterations=3)
    assert capfd.readouterr() == ("", "")


def test_column_slices_and_single_images_are_accepted():
    vectors, labels = clouds(50, 8, 4, spread=0.3)
    assert nmi(vectors[:, :4], labels, 0) == nmi(vectors[:, :4].copy(), labels, 0)
    assert nmi(vectors, np.arange(50), seed=0, iterations=2) == pytest.approx(1)


def test_as_many_rounds_are_run_as_are_asked_for():
    vectors, labels = clouds(300, 8, 12, spread=0.8)
    values = {rounds: nmi(vectors, labels, 0, iterations=rounds, restarts=1) for rounds in (1, 2, 25, 60)}
    assert values[1] != values[2] != values[25]
    assert nmi(vectors, labels, 0, iterations=1, restarts=8) != values[1]


@pytest.mark.parametrize("wrong", ["float64", "flat", "fewer"])
def test_vectors_of_another_kind_are_refused(wrong):
    vectors, labels = clouds(20, 4, 3, spread=0.5)
    given = {"float64": vectors.astype(np.float64), "flat": vectors[:, 0], "fewer": vectors[:-1]}[wrong]
    with pytest.raises(UsageError, match=r"nmi: the vectors are .* give float32 \[N, D\] and N labels"):
        nmi(given, labels, seed=0)


def test_mistakes_are_told_at_once():
    vectors, labels = clouds(20, 4, 3, spread=0.5)
    with pytest.raises(UsageError) as caught:
        nmi(vectors[:-1], labels.astype(float), seed=0, restarts=0)
    assert len(caught.value.problems) == 3
    with pytest.raises(UsageError, match="no vectors"):
        nmi(vectors[:0], labels[:0], seed=0)
    vectors[3, 1] = np.nan
    with pytest.raises(MusterError, match="NaN"):
        nmi(vectors, labels, seed=0)


def test_schedule_doubles_and_ends_with_the_whole_ensemble():
    assert [nmi_schedule(n) for n in (1, 2, 3, 8)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8]]
    assert nmi_schedule(48) == [1, 2, 4, 8, 16, 32, 48]
    with pytest.raises(UsageError, match="1 member or more"):
        nmi_schedule(0)


# On a device, which a CPU plays.


@pytest.mark.parametrize(("images", "classes", "dimension"), [(2000, 40, 16), (600, 200, 8)])
def test_clusters_of_a_device_are_as_good_as_faiss_s(images: int, classes: int, dimension: int) -> None:
    rng = np.random.default_rng(5)
    labels = np.arange(images) % classes
    noisy = rng.normal(size=(classes, dimension))[labels] + 0.8 * rng.normal(size=(images, dimension))
    vectors = (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)

    def spread(clusters: np.ndarray) -> float:
        """Squared distances from the clusters' means, which k-means makes small."""
        means = np.stack([vectors[clusters == one].mean(0) for one in range(classes)])
        return float(((vectors - means[clusters]) ** 2).sum())

    mine, theirs = [], []
    for seed in range(6):
        for found, clusters in (
            (mine, clusters_on("cpu", vectors, classes, seed, 100, 2)),
            (theirs, _clusters(vectors, classes, seed, 100, 2)),
        ):
            assert len(np.unique(clusters)) == classes
            found.append((nmi_of_clusters(clusters, labels), spread(clusters)))
    (my_nmi, my_spread), (their_nmi, their_spread) = np.mean(mine, 0), np.mean(theirs, 0)
    assert my_spread < 1.01 * their_spread
    assert my_nmi == pytest.approx(their_nmi, abs=0.01)


def test_a_device_takes_blocks_of_any_size_and_repeats_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    vectors = rng.normal(size=(300, 5)).astype(np.float32)
    whole = clusters_on("cpu", vectors, 9, 1, 50, 3)
    assert (clusters_on("cpu", vectors, 9, 1, 50, 3) == whole).all()
    monkeypatch.setattr(module, "BLOCK_BYTES", 100)
    assert (clusters_on("cpu", vectors, 9, 1, 50, 3) == whole).all()


def test_rows_that_are_all_alike_leave_a_device_clusters_without_a_row() -> None:
    alike = np.ones((20, 4), np.float32)
    assert len(np.unique(clusters_on("cpu", alike, 5, 0, 10, 2))) == 1
    three = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    found = clusters_on("cpu", three, 6, 0, 10, 5)
    assert len(np.unique(found)) == 3
    assert all(len(np.unique(found[start : start + 4])) == 1 for start in (0, 4, 8))
    assert nmi(alike, np.arange(20) % 5, 0, device="cpu:0") < 1


def test_a_device_is_not_given_nan() -> None:
    with pytest.raises(MusterError, match="NaN or infinity"):
        nmi(np.full((4, 2), np.nan, np.float32), np.arange(4), 0, device="cpu:0")
