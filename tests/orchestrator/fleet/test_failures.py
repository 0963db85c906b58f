"""What a member's failure says: one line, in the words of its cause."""

from __future__ import annotations

from muster.orchestrator.fleet.failures import judge


def test_colours_of_ray_and_of_a_log_don_t_come_through() -> None:
    verdict = judge(
        RuntimeError("\x1b[36mray::MemberActor.run()\x1b[39m failed"), node_lost=False, siblings=False
    )
    assert verdict.cause == "RuntimeError: ray::MemberActor.run() failed"
