"""A member as a Ray actor: it lends `muster.workers.member` a process, a device, a log and a line to the fleet."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray

from muster.orchestrator.fleet.places.gpus import Gpu
from muster.workers.quantities import time_text

TICK_SECONDS = 1.0


@ray.remote(max_restarts=0, max_task_retries=0)
class MemberActor:
    """One attempt of one member. It is never restarted by Ray: the fleet decides, and knows what to avoid."""

    def prepare(self, store_root: str, task: Any) -> None:
        """Imports what a member needs, and brings its pictures to this node. What goes wrong is met again, and told, by
        `run`."""
        settle_allocator()
        with contextlib.suppress(Exception):
            from muster.workers.member import open_images
            from muster.workers.store.layout import Store

            open_images(Store(store_root), task.train)

    def lives(self) -> None:
        """Answers."""

    def run(
        self, store_root: str, run: str, task: Any, attempt: str, share: float, fleet: Any, gpu: Gpu | None
    ) -> None:
        """Trains and embeds what the store lacks, on this share of this GPU. Raises what the work raises, its log
        already in the store."""
        began = time.monotonic()
        settle_allocator()
        fleet.report.remote(task.key, attempt, {"state": "starting", **where_am_i()})
        from muster.workers.member import run_member
        from muster.workers.store.layout import Store

        store = Store(store_root)
        log = AttemptLog(store, store.run(run).log(task.key, attempt))
        with logged(log):
            ticker = Ticker(fleet, task.key, attempt)
            run_member(
                store, task, attempt, device_of(gpu, share),
                report=ticker, log=log, began=began, told_to_end=ticker.told_to_end,
            )  # fmt: skip


def where_am_i() -> dict[str, str]:
    """This process's node, for people and for Ray."""
    return {"node": socket.gethostname(), "node_id": ray.get_runtime_context().get_node_id()}


@contextmanager
def logged(log: Callable[[str], None] | None) -> Iterator[None]:
    """Puts what the work raises into its log before it is passed on."""
    from muster.workers.errors import MusterError

    try:
        yield
    except MusterError as error:  # says itself what happened: no traceback
        if log:
            log(str(error))
        raise
    except BaseException:
        if log:
            log(traceback.format_exc())
        raise


#: Of a GPU's memory each process needs so much for CUDA itself, beside what torch takes, in bytes.
CONTEXT_BYTES = 600 << 20


def settle_allocator() -> None:
    """Has torch take a GPU's memory in pieces that grow, so that none is lost in gaps. It must be said before torch is
    imported."""
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")


def device_of(gpu: Gpu | None, share: float) -> Any:
    """The device that the fleet gave. Never the CPU in place of a GPU: that would be slow, and silent.

    Until here this process saw no GPU, and CUDA was not asked for any. With others on it torch takes no more than its
    share of the memory. Raises DeviceError.
    """
    if gpu is None:
        import torch

        return torch.device("cpu")
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu.visible
    import torch

    from muster.workers.errors import DeviceError

    if not torch.cuda.is_available():
        raise DeviceError(
            f"torch can't use {gpu.shown}. "
            + (
                "Check that node's driver and torch's CUDA build: muster doctor."
                if gpu.name
                else f"{gpu.cure}."
            )
        )
    if share < 1:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(max(share / 2, share - CONTEXT_BYTES / total))
    return torch.device("cuda", 0)


class Ticker:
    """Passes progress on to the fleet: each change between steps and something else, and steps once a second. What the
    fleet answered to the one before is known then."""

    def __init__(self, fleet: Any, key: str, attempt: str) -> None:
        self.fleet, self.key, self.attempt = fleet, key, attempt
        self.last, self.stepping = 0.0, False
        self.answer: Any = None
        self.told = False
        "Did the fleet say that this process is to save and to end?"

    def __call__(self, progress: dict[str, Any]) -> None:
        now, stepping = time.monotonic(), progress.get("stepping", False)
        if now - self.last >= TICK_SECONDS or not (stepping and self.stepping):
            self.last, self.stepping = now, stepping
            if self.answer is not None and ray.wait([self.answer], timeout=0)[0]:
                with contextlib.suppress(ray.exceptions.RayError):  # a fleet that died is started again
                    self.told = ray.get(self.answer)
            self.answer = self.fleet.report.remote(self.key, self.attempt, progress)

    def told_to_end(self) -> bool:
        return self.told


class AttemptLog:
    """An attempt's log in the run folder, put whole at each line: there are few of them."""

    def __init__(self, store: Any, name: str) -> None:
        self.store, self.name, self.lines = store, name, [""]

    def __call__(self, text: str) -> None:
        stamp = time_text()
        self.lines[-1:] = [*(f"{stamp} {line}" for line in text.rstrip().splitlines()), ""]
        try:
            self.store.files.put(self.name, "\n".join(self.lines).encode())
        except Exception:
            logging.getLogger("muster").exception("can't write the log %s", self.name)
