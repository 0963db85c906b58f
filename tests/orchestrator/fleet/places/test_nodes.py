"""Which nodes get no more members, for how long, and when one has no choice."""

from __future__ import annotations

import time

import pytest

from muster.orchestrator.fleet.places.nodes import QUARANTINE_SECONDS, STRIKES, Nodes, room_of


@pytest.fixture
def nodes() -> Nodes:
    nodes = Nodes(clock=lambda: nodes.now)  # type: ignore[attr-defined]
    nodes.now = 0.0  # type: ignore[attr-defined]
    return nodes


def test_long_names_of_nodes_are_cut(nodes: Nodes) -> None:
    (*_, said) = [nodes.strike("0123456789abcdef") for _ in range(STRIKES)]
    assert said.startswith("node 0123456789ab failed")


def quarantine(nodes: Nodes, node: str) -> None:
    said = [nodes.strike(node) for _ in range(STRIKES)]
    assert said[:-1] == [""] * (STRIKES - 1)
    assert said[-1] == f"node {node[:12]} failed 3 times in a row: it gets no members for 10 minutes"


def test_a_node_in_quarantine_gets_no_members_until_its_time_is_over(nodes: Nodes) -> None:
    quarantine(nodes, "a")
    assert nodes.avoided("", {"a": 2, "b": 1}) == ["a"]
    nodes.now = QUARANTINE_SECONDS - 1  # type: ignore[attr-defined]
    assert nodes.avoided("", {"a": 2, "b": 1}) == ["a"]
    nodes.now = QUARANTINE_SECONDS  # type: ignore[attr-defined]
    assert nodes.avoided("", {"a": 2, "b": 1}) == []
    assert nodes.strike("a") == ""  # it is counted from the beginning


def test_a_finished_member_forgives_what_was_before_it(nodes: Nodes) -> None:
    for _ in range(STRIKES - 1):
        nodes.strike("a")
    nodes.forgive("a")
    nodes.forgive("never seen")
    quarantine(nodes, "a")


def test_strikes_are_counted_by_node(nodes: Nodes) -> None:
    assert [nodes.strike(node) for node in ("a", "b", "a", "b", "")] == [""] * 5
    assert nodes.avoided("", {"a": 2, "b": 1}) == []
    assert nodes.strike("b") != ""
    assert nodes.avoided("", {"a": 2, "b": 1}) == ["b"]


@pytest.mark.parametrize(
    ("last", "room", "width", "avoided"),
    [
        ("", {"a": 1}, 1, []),
        ("a", {"a": 1}, 1, []),  # the only one that can take it
        ("a", {"a": 1, "b": 0}, 1, []),  # b is too small for it
        ("a", {"a": 1, "b": 1}, 1, ["a"]),
        ("gone", {"a": 1, "b": 1}, 1, []),
        ("gone", {}, 1, []),
        ("b", {"a": 1, "b": 1, "bad": 1}, 1, ["b", "bad"]),
        ("b", {"b": 1, "bad": 1}, 1, ["b"]),  # all are bad: anywhere but where it failed last
        ("", {"bad": 1}, 1, []),
        ("bad", {"bad": 1}, 1, []),
        ("a", {"a": 2, "b": 2, "c": 1}, 3, ["a"]),  # three ranks fit on the others together
        ("a", {"a": 2, "b": 2, "c": 1}, 4, []),
    ],
)
def test_where_a_member_had_better_not_go(
    nodes: Nodes, last: str, room: dict[str, int], width: int, avoided: list[str]
) -> None:
    quarantine(nodes, "bad")
    assert nodes.avoided(last, room, width) == avoided


def test_a_member_takes_one_place_unless_told_otherwise(nodes: Nodes) -> None:
    assert nodes.avoided("a", {"a": 1, "b": 1}) == ["a"]


@pytest.mark.parametrize(
    ("gpus", "threads", "room"),
    [
        (0.0, 1, {"a": 8, "b": 3, "c": 0}),
        (0.0, 2, {"a": 4, "b": 1, "c": 0}),
        (1.0, 2, {"a": 2, "b": 0, "c": 0}),
        (0.25, 2, {"a": 8, "b": 0, "c": 0}),
        (1 / 3, 2, {"a": 6, "b": 0, "c": 0}),
        (0.3, 1, {"a": 6, "b": 0, "c": 0}),
        (0.01, 1, {"a": 8, "b": 0, "c": 0}),
    ],
)
def test_members_that_a_node_holds(gpus: float, threads: int, room: dict[str, int]) -> None:
    assert room_of({"a": {"CPU": 8.0, "GPU": 2.0}, "b": {"CPU": 3.5}, "c": {}}, gpus, threads) == room


def test_the_clock_is_that_of_the_machine() -> None:
    nodes = Nodes()
    quarantine(nodes, "a")
    assert 0 < nodes.quarantined["a"] - time.monotonic() <= QUARANTINE_SECONDS
