"""What an attempt's end is: that of its work, of its process, of its node, or of everybody's patience with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from muster.orchestrator.fleet.failures import HungError
from muster.orchestrator.fleet.processes import Processes
from muster.orchestrator.fleet.work import Work

#: Between two looks at what may have changed without a word: nodes that joined, a member that hangs.
LOOK_SECONDS = 5.0
#: Ray notices a dead node after about 13 s; until then its actors are merely out of reach.
NODE_VERDICT_SECONDS = 30.0


async def watched(
    processes: Processes, work: Work, process: Any, clock: Callable[[], float], hang_seconds: float
) -> None:
    """Waits for an attempt's end. Raises what it raises; HungError if it hung, with its process ended."""
    gpu = work.held.gpu if work.held is not None else None
    call = asyncio.ensure_future(processes.run(process, work.task, work.attempt, gpu))
    while not (await asyncio.wait({call}, timeout=LOOK_SECONDS))[0]:
        silence = work.steps.silence(clock(), hang_seconds)
        if silence:
            await asyncio.to_thread(processes.kill, process)
            await asyncio.wait({call}, timeout=NODE_VERDICT_SECONDS)
            call.add_done_callback(_heard)
            raise HungError(
                f"it hung: no step for {silence:.0f} s after {work.place} on {work.host}, "
                f"where a step takes {work.steps.usual:.2g} s; its process was ended"
            )
    await call


async def node_lost(processes: Processes, work: Work, clock: Callable[[], float], *, patience: bool) -> bool:
    """Whether the member's node is gone; with patience, waits for the cluster to make up its mind. A cluster that does
    not answer is asked again."""
    began = clock()
    while work.node:
        waited = clock() - began >= NODE_VERDICT_SECONDS
        with contextlib.suppress(Exception):
            if work.node not in await asyncio.to_thread(processes.nodes):
                return True
            waited |= not patience
        if waited:
            break
        await asyncio.sleep(0.5)
    return False


def _heard(call: asyncio.Future[None]) -> None:
    """Takes what an attempt raises of which nobody waits for the end any more."""
    if not call.cancelled():
        call.exception()
