"""Several nodes, of which one dies, is broken, has no memory or holds a member that hangs: nothing counts against the
members that is not their fault, they go on elsewhere, and their weights are those of a calm run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli import Muster
from tests.drills.conftest import Struck, repeated_epochs
from tests.drills.nodes import played
from tests.drills.test_kills import weights
from tests.orchestrator.jobs.search.searches import outcome, small_search

pytestmark = pytest.mark.long  # see pyproject.toml


def seen(struck: Struck, home: Path, found: dict[str, Any]) -> dict[str, Any]:
    """What became of the disturbed run: all of its members are there, to the same bits."""
    ran: dict[str, Any] = found["struck"]
    struck.repeated = repeated_epochs(home / "struck")
    struck.lost = sum(one["state"] != "done" for one in ran["outcomes"])
    assert [one["state"] for one in ran["outcomes"]] == ["done"] * len(ran["outcomes"])
    assert ran["weights"] == found["calm"]["weights"]
    assert len(ran["weights"]) == len(ran["outcomes"])
    return ran


def nodes_of(ran: dict[str, Any], attempts: int) -> set[str]:
    """The nodes of the members that needed so many attempts; of ranks that of the first one, which tells last.

    Who starts the ranks may be elsewhere.
    """
    keys = {one["key"] for one in ran["outcomes"] if one["attempts"] == attempts}
    return set({attempt: node for attempt, node, key in ran["nodes"] if key in keys}.values())


@pytest.mark.drill("a member killed, of a cluster of nodes", long=False)
def test_a_member_that_failed_on_a_node_goes_to_another(shapes: Path, tmp_path: Path, struck: Struck) -> None:
    struck.faults = 1
    ran = seen(struck, tmp_path, played("a_member_killed", shapes, tmp_path))
    assert len(ran["retries"]) == 1
    assert len(nodes_of(ran, attempts=2)) == 2


@pytest.mark.drill("e: a node killed", long=False)
def test_a_lost_node_does_not_count_against_its_members(shapes: Path, tmp_path: Path, struck: Struck) -> None:
    struck.faults = 1
    found = played("a_node_lost", shapes, tmp_path)
    assert found["safe"]
    ran = seen(struck, tmp_path, found)
    assert ran["retries"] == ["its node was lost"]
    assert len(nodes_of(ran, attempts=2)) == 2


@pytest.mark.drill("e: SIGTERM to all processes of a node", long=False)
def test_members_of_a_node_that_is_taken_back_go_on_elsewhere(
    shapes: Path, tmp_path: Path, struck: Struck
) -> None:
    """What they had saved is gone on from: no attempt begins again at its first epoch."""
    struck.faults = 1
    ran = seen(struck, tmp_path, played("a_node_taken_back", shapes, tmp_path))
    assert len(ran["retries"]) == 1
    assert len(nodes_of(ran, attempts=2)) == 2
    assert ran["resumed"] == 1


@pytest.mark.drill("e: SIGTERM to a node's `ray start`")
def test_members_of_a_node_that_drains_save_and_go_on_elsewhere(
    shapes: Path, tmp_path: Path, struck: Struck
) -> None:
    """No step is taken twice: the member goes on in the middle of an epoch."""
    struck.faults = 1
    ran = seen(struck, tmp_path, played("a_node_drained", shapes, tmp_path))
    assert len(ran["retries"]) == 1
    assert re.fullmatch(r"Member [12] was told to end, and has saved its work\.", ran["retries"][0])
    assert len(nodes_of(ran, attempts=2)) == 2
    for log in (tmp_path / "struck").glob("runs/*/logs/*.log"):
        key, text = log.stem.partition("-")[0], log.read_text()
        if (resumed := re.search(r"resumed after (.*)", text)) is not None:
            (first,) = (other for other in log.parent.glob(f"{key}-*.log") if other != log)
            reached = re.findall(r"saved after (.*)|(epoch \d+): loss", first.read_text())[-1]
            assert resumed[1] in reached
            break
    else:
        raise AssertionError("no attempt goes on from another")


@pytest.mark.drill("e: a node killed under a search")
def test_a_search_that_lost_a_node_ends_where_an_undisturbed_one_does(
    muster: Muster, shapes: Path, tmp_path: Path, struck: Struck
) -> None:
    struck.faults = 1
    found = played("a_node_lost_under_a_search", shapes, tmp_path)
    assert found["code"] == 0
    calm = muster(*small_search(shapes), "--storage", tmp_path / "calm", "--name", "calm", "--json").document
    assert outcome(found["answer"]) == outcome(calm)
    ours, theirs = weights(tmp_path / "sought"), weights(tmp_path / "calm")
    both = ours.keys() & theirs.keys()  # beyond the prefixes either may hold members that were in flight
    assert len(both) >= sum(row["L"] for row in calm["trials"])
    assert {key: ours[key] for key in both} == {key: theirs[key] for key in both}


@pytest.mark.drill("f: a node where everything fails", long=False)
def test_a_node_where_everything_fails_gets_no_more_members_after_the_third(
    shapes: Path, tmp_path: Path, struck: Struck
) -> None:
    found = played("a_broken_node", shapes, tmp_path)
    ran = seen(struck, tmp_path, found)
    bad = [attempt for attempt, node, _ in ran["nodes"] if node == found["bad"]]
    struck.faults = len(set(bad))
    assert len(set(bad)) == 3
    assert ran["retries"] == ["ImportError: libc10.so: cannot be opened"] * 3
    assert max(one["attempts"] for one in ran["outcomes"]) == 2  # the second one is elsewhere
    (warning,) = [text for text in ran["warnings"] if "in a row" in text]
    assert warning.startswith(f"node {found['bad'][:12]} failed 3 times in a row")


@pytest.mark.drill("f: a member out of memory")
def test_a_member_that_is_killed_for_memory_goes_on_alone_where_there_is_some(
    shapes: Path, tmp_path: Path, struck: Struck
) -> None:
    found = played("a_node_without_memory", shapes, tmp_path)
    ran = seen(struck, tmp_path, found)
    struck.faults = len(ran["retries"])
    assert set(ran["retries"]) == {"killed: its node ran out of memory"}
    assert max(one["attempts"] for one in ran["outcomes"]) == 2  # the second one is elsewhere
    assert found["bad"] not in {node for _, node, _ in ran["nodes"][-1:]}


@pytest.mark.drill("f: members out of memory beside the fleet")
def test_members_that_need_more_memory_than_the_fleets_node_has_go_on_one_by_one(
    shapes: Path, tmp_path: Path, struck: Struck
) -> None:
    ran = seen(struck, tmp_path, played("a_head_without_memory", shapes, tmp_path))
    told = [text for text in ran["warnings"] if text.startswith("memory ran out where the fleet runs")]
    struck.faults = len(told)
    assert told == ["memory ran out where the fleet runs, with 2 at work: they go on with fewer at once"]
    assert [one["attempts"] for one in ran["outcomes"]] == [2, 2]


@pytest.mark.drill("f: a member alone out of memory beside the fleet", long=False)
def test_a_member_that_needs_more_memory_than_the_fleets_node_has_is_given_up(
    shapes: Path, tmp_path: Path, struck: Struck
) -> None:
    ran = played("a_head_with_too_little_memory", shapes, tmp_path)["struck"]
    (outcome,) = ran["outcomes"]
    struck.faults = outcome["attempts"]
    assert (outcome["state"], outcome["attempts"]) == ("failed", 3)
    first, *_, last = outcome["message"].splitlines()
    assert first.endswith(": killed: its node ran out of memory")
    assert last.strip() == "Give it a node with more memory, or run fewer members at once: --parallel."


@pytest.mark.drill("f: a member that hangs")
@pytest.mark.parametrize("what", ["a_member_that_hangs", "a_rank_that_hangs"])
def test_what_hangs_is_ended_and_goes_on_elsewhere_to_the_same_weights(
    shapes: Path, tmp_path: Path, what: str, struck: Struck
) -> None:
    found = played(what, shapes, tmp_path)
    ran = seen(struck, tmp_path, found)
    struck.faults = ran["stopped"]
    assert ran["stopped"] == 1
    assert ran["left"] == []
    (retry,) = ran["retries"]
    assert retry.startswith("it hung: no step for ")
    assert "its process was ended" in retry
    assert len(nodes_of(ran, attempts=2)) == 2


def test_scores_do_not_wait_for_a_node_that_is_gone(shapes: Path, tmp_path: Path) -> None:
    assert played("scores_on_a_node_that_is_lost", shapes, tmp_path) == {"threads": 1}


def test_what_was_stopped_stays_so_where_the_fleet_s_process_dies(shapes: Path, tmp_path: Path) -> None:
    found = played("a_fleet_that_dies_after_a_stop", shapes, tmp_path)
    assert found == {"states": ["dropped", "dropped"]}
