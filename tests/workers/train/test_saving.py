"""Checkpoints that are written behind the training."""

from __future__ import annotations

import threading

import pytest

from muster.workers.errors import StoreError, ToldToEndError
from muster.workers.store.checkpoint import Checkpoint
from muster.workers.train.saving import Saver


def state(epoch: int) -> Checkpoint:
    return Checkpoint(epoch, {}, {})


class Disk:
    """Writes wait until they are let go on."""

    def __init__(self, *, slow: bool = True) -> None:
        self.written: list[int] = []
        self.began, self.go = threading.Semaphore(0), threading.Semaphore(0 if slow else 1000)

    def write(self, checkpoint: Checkpoint) -> None:
        self.began.release()
        assert self.go.acquire(timeout=30)
        self.written.append(checkpoint.epoch)


def test_nobody_waits_for_a_write_and_of_those_that_wait_the_newest_is_next() -> None:
    disk = Disk()
    with Saver(disk.write) as saver:
        saver(state(1))
        assert disk.began.acquire(timeout=30)
        for epoch in (2, 3, 4):
            saver(state(epoch))  # returns at once
        assert disk.written == []
        disk.go.release()
        assert disk.began.acquire(timeout=30)
        disk.go.release()
    assert disk.written == [1, 4]


def test_at_the_end_what_is_being_written_is_finished_and_what_waits_is_left() -> None:
    disk = Disk()
    with Saver(disk.write) as saver:
        saver(state(1))
        assert disk.began.acquire(timeout=30)
        saver(state(2))
        threading.Timer(0.2, disk.go.release).start()
    assert disk.written == [1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, StoreError])
def test_left_by_an_error_it_writes_what_waits(error: type[BaseException]) -> None:
    disk = Disk()

    def ends() -> None:
        with Saver(disk.write) as saver:
            saver(state(1))
            assert disk.began.acquire(timeout=30)
            saver(state(2))
            disk.go.release()
            disk.go.release()
            raise error

    with pytest.raises(error):
        ends()
    assert disk.written == [1, 2]


def test_what_a_write_raises_the_training_hears() -> None:
    def full(checkpoint: Checkpoint) -> None:
        raise StoreError("no space left")

    def trains(epochs: int) -> None:
        with Saver(full) as saver:
            for epoch in range(epochs):
                saver(state(epoch))
                saver.thread.join(30)
                assert epoch == 0, "it was not told"

    for epochs in (1, 2):
        with pytest.raises(StoreError, match="no space"):
            trains(epochs)


def test_who_is_told_to_end_does_not_say_that_it_saved_what_it_could_not() -> None:
    def full(checkpoint: Checkpoint) -> None:
        raise StoreError("no space left")

    def ends() -> None:
        with Saver(full) as saver:
            saver(state(1))
            raise ToldToEndError("was told to end, and has saved its work")

    with pytest.raises(StoreError, match="no space"):
        ends()


def test_without_a_checkpoint_there_is_nothing_to_write() -> None:
    disk = Disk(slow=False)
    with Saver(disk.write):
        pass
    assert disk.written == []
