"""What each query found, against the definitions: one query at a time, in float64."""

from __future__ import annotations

import numpy as np
import pytest

from muster.workers.score.protocol import Protocol, leave_one_out
from muster.workers.score.queries import QueryRecord
from muster.workers.score.ranking import bytes_per_query
from muster.workers.score.retrieval import prefix_curve
from tests.workers.score.test_retrieval import ensemble, small_integers


def checked(protocol: Protocol, members: list[np.ndarray], record: QueryRecord) -> None:
    """Ranks and nearest images are those of a fresh look at each query; a right image loses every tie."""
    kinds = (record.ranks.dtype, record.nearest.dtype, record.similarity.dtype)
    assert kinds == (np.int32, np.int32, np.float32)
    for number, row in enumerate(protocol.query):
        right = protocol.labels[protocol.gallery] == protocol.labels[row]
        others = protocol.gallery != row
        if not (right & others).any():
            assert not record.ranks[number].any()
            assert (record.nearest[number] == -1).all()
            continue
        for place, size in enumerate(record.sizes):
            whole = np.concatenate(members[:size], axis=1).astype(np.float64)
            similar = whole[protocol.gallery] @ whole[row]
            first = max(similar[right & others])
            assert record.ranks[number, place] == 1 + (similar[~right] >= first).sum()
        best = sorted(zip(-similar[others], right[others], strict=True))[: record.nearest.shape[1]]
        found = record.nearest[number][record.nearest[number] >= 0]
        assert len(found) == len(best)
        assert row not in protocol.gallery[found]
        np.testing.assert_allclose(record.similarity[number][: len(best)], [-s for s, _ in best], atol=1e-5)
        np.testing.assert_allclose(similar[found], [-s for s, _ in best], atol=1e-5)
        assert right[found].tolist() == [is_right for _, is_right in best]


@pytest.mark.parametrize("made", [ensemble, small_integers], ids=["no ties", "full of ties"])
def test_ranks_and_nearest_images_are_the_definitions(made):
    labels, members = made(90, (5, 3, 4), 9)
    protocol = leave_one_out(labels)
    record = QueryRecord(protocol, (1, 2, 3))
    curve = prefix_curve(members, protocol, (1, 4), record=record)
    checked(protocol, members, record)
    for score, ranks in zip(curve, record.ranks.T, strict=True):
        assert score.hits == {k: int(((ranks >= 1) & (ranks <= k)).sum()) for k in (1, 4)}


def test_queries_that_are_not_in_the_gallery_and_a_gallery_smaller_than_ten():
    labels, members = small_integers(40, (3,), 3)
    rows = np.random.default_rng(5).permutation(40)
    protocol = Protocol(labels, np.sort(rows[:33]), np.sort(rows[30:38]))
    record = QueryRecord(protocol, (1,))
    prefix_curve(members, protocol, record=record)
    assert record.nearest.shape == (33, 8)
    checked(protocol, members, record)


def test_queries_without_a_right_answer_stay_empty():
    labels, members = ensemble(30, (4,), 4)
    labels[7] = 99
    record = QueryRecord(leave_one_out(labels), (1,))
    prefix_curve(members, leave_one_out(labels), record=record)
    checked(leave_one_out(labels), members, record)
    assert record.ranks[7, 0] == 0


def test_small_blocks_write_the_same_record():
    labels, members = small_integers(70, (3, 5), 6)
    protocol = leave_one_out(labels)
    records = [QueryRecord(protocol, (1, 2)) for _ in range(2)]
    need = sum(bytes_per_query(protocol, full=False))
    for record, memory in zip(records, (1 << 30, 8 * need), strict=True):
        prefix_curve(members, protocol, memory=memory, record=record)
    np.testing.assert_array_equal(records[0].ranks, records[1].ranks)
    np.testing.assert_array_equal(records[0].similarity, records[1].similarity)
