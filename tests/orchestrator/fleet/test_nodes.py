"""Which nodes get no more members, for how long, and when one has no choice."""

from __future__ import annotations

import pytest

from muster.orchestrator.fleet.nodes import QUARANTINE_SECONDS, STRIKES, Nodes


@pytest.fixture
def nodes() -> Nodes:
    nodes = Nodes(clock=lambda: nodes.now)  # type: ignore[attr-defined]
    nodes.now = 0.0  # type: ignore[attr-defined]
    return nodes


def quarantine(nodes: Nodes, node: str) -> None:
    said = [nodes.strike(node) for _ in range(STRIKES)]
    assert said[:-1] == [""] * (STRIKES - 1)
    assert said[-1] == f"node {node[:12]} failed 3 times in a row: it gets no members for 10 minutes"


def test_a_node_in_quarantine_gets_no_members_until_its_time_is_over(nodes: Nodes) -> None:
    quarantine(nodes, "a")
    assert nodes.avoided("", {"a", "b"}) == ["a"]
    nodes.now = QUARANTINE_SECONDS - 1  # type: ignore[attr-defined]
    assert nodes.avoided("", {"a", "b"}) == ["a"]
    nodes.now = QUARANTINE_SECONDS  # type: ignore[attr-defined]
    assert nodes.avoided("", {"a", "b"}) == []
    assert nodes.strike("a") == ""  # it is counted from the beginning


def test_a_finished_member_forgives_what_was_before_it(nodes: Nodes) -> None:
    for _ in range(STRIKES - 1):
        nodes.strike("a")
    nodes.forgive("a")
    nodes.forgive("never seen")
    quarantine(nodes, "a")


def test_strikes_are_counted_by_node(nodes: Nodes) -> None:
    assert [nodes.strike(node) for node in ("a", "b", "a", "b", "")] == [""] * 5
    assert nodes.avoided("", {"a", "b"}) == []
    assert nodes.strike("b") != ""
    assert nodes.avoided("", {"a", "b"}) == ["b"]


@pytest.mark.parametrize(
    ("last", "able", "avoided"),
    [
        ("", {"a"}, []),
        ("a", {"a"}, []),  # the only one that can take it
        ("a", {"a", "b"}, ["a"]),
        ("gone", {"a", "b"}, []),
        ("gone", set(), []),
        ("b", {"a", "b", "bad"}, ["b", "bad"]),
        ("b", {"b", "bad"}, ["b"]),  # all are bad: anywhere but where it failed last
        ("", {"bad"}, []),
        ("bad", {"bad"}, []),
    ],
)
def test_where_a_member_had_better_not_go(
    nodes: Nodes, last: str, able: set[str], avoided: list[str]
) -> None:
    quarantine(nodes, "bad")
    assert nodes.avoided(last, able) == avoided
