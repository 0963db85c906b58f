"""What names a gathering, and what its manifest says: from the members alone, nothing is gathered."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from muster.orchestrator.vectors import gather as gathering
from muster.workers.score.combine import Combination
from muster.workers.spec import TestView
from muster.workers.task import Images, MemberTask, Target
from tests.workers.samples import VIEW, small_spec, synthetic_pack

PART = synthetic_pack(classes=12, each=1).index.part()
IMAGES = Images(pack="p" * 32, class_ids=None, digest=PART.digest)
TARGET = Target(split="test", images=IMAGES, view=VIEW)


def member(index: int, D: int = 3, seed: int = 0) -> MemberTask:
    return MemberTask(spec=small_spec(PART, index=index, D=D, seed=seed), train=IMAGES, targets=(TARGET,))


MEMBERS = (member(1), member(2, D=2), member(3, D=4))


def manifest(
    target: Target = TARGET,
    members: tuple[MemberTask, ...] = MEMBERS,
    facts: dict[str, Any] | None = None,
    dtype: str = "float32",
    combination: Combination | None = None,
) -> dict[str, Any]:
    return gathering._manifest(target, members, facts or {}, dtype, combination)


def test_a_manifest_says_where_each_member_s_part_is() -> None:
    found = manifest(facts={"backbone": "conv4"})
    places = [(entry["index"], entry["offset"], entry["dimension"]) for entry in found["members"]]
    assert places == [(1, 0, 3), (2, 3, 2), (3, 5, 4)]
    assert [entry["key"] for entry in found["members"]] == [task.key for task in MEMBERS]
    rest = {name: found[name] for name in found.keys() - {"members", "digest", "normalisation", "columns"}}
    assert rest == {
        "schema_version": 1, "split": "test", "images_digest": PART.digest, "embedding_digest": TARGET.digest,
        "dtype": "float32", "dimension": 9, "L": 3, "backbone": "conv4",
    }  # fmt: skip
    assert "length 1;" in found["normalisation"]
    assert found["columns"].keys() == {"image_id", "label", "path", "role", "embedding"}


def test_learners_are_told_with_how_they_are_combined() -> None:
    one = (member(1, D=8),)
    found = manifest(members=one, combination=Combination((2, 6), "sqrt"))
    assert (found["learners"], found["combine"]) == ((2, 6), "sqrt")
    assert "times its weight" in found["normalisation"]
    assert not {"learners", "combine"} & manifest(members=one).keys()


#: Each makes other shards, and so must be another gathering.
OTHERS: dict[str, Callable[[], dict[str, Any]]] = {
    "fewer members": lambda: manifest(members=MEMBERS[:2]),
    "another member": lambda: manifest(members=(*MEMBERS[:2], member(3, D=4, seed=1))),
    "another order": lambda: manifest(members=(MEMBERS[1], MEMBERS[0], MEMBERS[2])),
    "a member of another size": lambda: manifest(members=(*MEMBERS[:2], member(3, D=5))),
    "another number type": lambda: manifest(dtype="float16"),
    "another view": lambda: manifest(
        target=dataclasses.replace(TARGET, view=TestView(**{**dataclasses.asdict(VIEW), "crop": 17}))
    ),
    "other images": lambda: manifest(
        target=dataclasses.replace(TARGET, images=dataclasses.replace(IMAGES, digest="0" * 64))
    ),
    "combined by share": lambda: manifest(combination=Combination((9,), "share")),
    "combined by concat": lambda: manifest(combination=Combination((9,), "concat")),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_makes_other_shards_is_another_gathering(what: str) -> None:
    assert OTHERS[what]()["digest"] != manifest()["digest"]


def test_no_two_of_these_are_the_same_gathering() -> None:
    digests = [manifest()["digest"], *(make()["digest"] for make in OTHERS.values())]
    assert len(set(digests)) == len(digests)
    assert {len(digest) for digest in digests} == {32}


def test_what_changes_no_shard_is_the_same_gathering() -> None:
    tasks = tuple(dataclasses.replace(task, ranks=2, targets=()) for task in MEMBERS)
    elsewhere = dataclasses.replace(TARGET, images=dataclasses.replace(IMAGES, pack="q" * 32))
    assert manifest(members=tasks)["digest"] == manifest(target=elsewhere)["digest"] == manifest()["digest"]


def test_the_digests_that_older_stores_have_stay() -> None:
    """Else all their shards would be written again."""
    assert manifest()["digest"] == "7cd2543e4d309a1006dc1f46cc9406b8"
    assert manifest(combination=Combination((9,), "share"))["digest"] == "7dbba4f22d60346037d3df58cb022494"


@pytest.mark.parametrize(
    ("dimension", "rows"), [(576, 113 * 1024), (4, 16384 * 1024), (1 << 16, 1024), (1 << 18, 1024), (1 << 24, 1024)]
)  # fmt: skip
def test_a_shard_has_whole_row_groups_of_about_its_size(dimension: int, rows: int) -> None:
    found = gathering._shard_rows(dimension)
    assert (found, type(found)) == (rows, int)
    assert rows == gathering.ROW_GROUP or rows * dimension * 4 <= gathering.SHARD_BYTES


def test_paths_are_whole_where_the_data_set_has_files() -> None:
    import pyarrow as pa

    names = pa.chunked_array([["a/1.jpg"], ["b/2.jpg"]])
    assert gathering._paths(names, "/data").to_pylist() == ["/data/a/1.jpg", "/data/b/2.jpg"]
    assert gathering._paths(names, None).to_pylist() == [None, None]
    assert gathering._paths(names, None).type == pa.string()
