"""What the fleet asks of Ray for an attempt; what Ray makes of it is the drills' to see."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorAlreadyExistsError

from muster.orchestrator.fleet.actors import fleet as module
from muster.orchestrator.fleet.actors.fleet import RayProcesses, former_of
from muster.orchestrator.fleet.processes import Former
from muster.orchestrator.fleet.scheduler import FleetSettings
from tests.orchestrator.fleet.stubs import bier, member


class Kind:
    """An actor class: it notes what is asked of it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.asked, self.given = error, dict[str, Any](), tuple[Any, ...]()

    def options(self, **asked: Any) -> Kind:
        self.asked = asked
        return self

    def remote(self, *given: Any) -> str:
        self.given = given
        if self.error:
            raise self.error
        return "a process"


def processes(gpus: float = 0.0) -> RayProcesses:
    return RayProcesses(FleetSettings("store", "run", 0, gpus))


@pytest.mark.parametrize(
    ("node", "asked"),
    [
        ("", {"num_cpus": 3, "label_selector": None}),
        (
            "a",
            {"num_cpus": 0, "label_selector": {"ray.io/node-id": "a"}},
        ),  # the holder has its CPU, and its GPU
    ],
)
def test_a_member_has_a_name_and_its_place(node: str, asked: dict[str, Any]) -> None:
    found, task = processes(), member(1, threads=3)
    found.member = Kind()
    assert found.hire(task, ranked=False, avoided=[], node=node) == "a process"
    assert found.member.asked == {"name": f"member-{task.key}", "namespace": "muster", **asked}
    assert found.member.given == ()


def test_a_holder_takes_a_whole_gpu_and_the_cpus_of_its_members(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = Kind()
    monkeypatch.setattr(module, "HolderActor", kind)
    assert processes(0.25).hold("a", 4) == "a process"
    assert kind.asked == {"num_gpus": 1, "num_cpus": 4, "label_selector": {"ray.io/node-id": "a"}}


def test_it_goes_to_none_of_the_nodes_that_it_avoids() -> None:
    found = processes()
    found.member = Kind()
    found.hire(member(1), ranked=False, avoided=["a", "b"])
    assert found.member.asked["label_selector"] == {"ray.io/node-id": "!in(a,b)"}


@pytest.mark.parametrize(("avoided", "nodes"), [([], None), (["a"], {"ray.io/node-id": "!in(a)"})])
def test_ranks_reserve_their_own_places_on_the_same_nodes(
    monkeypatch: pytest.MonkeyPatch, avoided: list[str], nodes: dict[str, str] | None
) -> None:
    kind = Kind()
    monkeypatch.setattr(module, "RanksActor", kind)
    task = bier(2)
    assert processes(1.0).hire(task, ranked=True, avoided=avoided) == "a process"
    assert kind.asked == {"name": f"member-{task.key}", "namespace": "muster", "label_selector": nodes}
    assert kind.given == (nodes,)


def test_a_name_that_is_taken_is_no_error_and_anything_else_is() -> None:
    found = processes()
    found.member = Kind(ActorAlreadyExistsError("the name is taken"))
    assert found.hire(member(1), ranked=False, avoided=[]) is None
    found.member = Kind(ValueError("num_gpus must be whole"))
    with pytest.raises(ValueError, match="whole"):
        found.hire(member(1), ranked=False, avoided=[])


def test_nodes_are_those_that_live(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        {"NodeID": "a", "Alive": True, "Resources": {"CPU": 2.0}},
        {"NodeID": "b", "Alive": False, "Resources": {"CPU": 4.0}},
        {"NodeID": "c", "Alive": True, "Resources": {}},
    ]
    monkeypatch.setattr(module, "ray", SimpleNamespace(nodes=lambda: nodes))
    assert processes().nodes() == {"a": {"CPU": 2.0}, "c": {}}


def dead(name: str, owner: bytes, *, began: int, node: str = "a", cause: str = "") -> dict[str, Any]:
    """An actor as Ray's controller knows it after its end, or after that of its owner on node a."""
    text = (
        cause or "The actor is dead because its owner has died. Owner worker exit type: NODE_OUT_OF_MEMORY."
    )
    died = SimpleNamespace(error_message=text, owner_id=owner)
    return {
        "Name": name,
        "StartTime": began,
        "Address": {"NodeID": node},
        "OwnerAddress": {"NodeID": "a"},
        "DeathCause": SimpleNamespace(actor_died_error_context=died),
    }


def test_of_dead_actors_those_tell_that_died_with_their_fleet() -> None:
    killed = "The actor is dead because its owner has died. Owner worker exit type: SYSTEM_ERROR."
    found = former_of(
        [
            dead("member-x", b"third", began=5, cause=killed),
            dead("member-x", b"second", began=4),
            dead("member-x", b"first", began=1),
            dead("member-y", b"first", began=2, node="b"),
            dead("member-z", b"", began=3, cause="ray.kill"),
            dead("a trial", b"first", began=3),
        ]
    )
    assert found == [
        Former("x", "a", others=1, memory=True),
        Former("y", "b", others=1, memory=False),  # there was memory where it ran
        Former("x", "a", others=0, memory=True),
        Former("x", "a", others=0, memory=False),
    ]
