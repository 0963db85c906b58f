"""Following a job's log over connections that may break: each line once, whole, in order.

The log is one growing file, and a new connection replays it from its start; so the number of characters
already seen is all the state there is. Judges nothing about the job except whether it has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Protocol
from urllib.parse import quote

from muster.cluster import dashboard
from muster.cluster.errors import ClusterError, UnreachableError


class Followed(Protocol):
    """A job as its follower knows it."""

    @property
    def done(self) -> bool: ...


class Asked(Protocol):
    """Who is asked about jobs: `muster.cluster.jobs.Jobs`."""

    url: str

    @property
    def headers(self) -> dict[str, str]: ...

    def info(self, submission_id: str) -> Followed: ...

    def log(self, submission_id: str) -> str: ...


PATIENCE_S = 120.0
_SILENCE_S = 1.0  # then ask whether the job has ended: Ray itself closes the stream 2 to 4 s later
_HEARTBEAT_S = 30.0  # tells a dead connection from a silent job
_GOODBYE_S = 0.1  # Ray does not answer a farewell while a job is silent; aiohttp would wait 10 s for it
_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)


def follow(jobs: Asked, submission_id: str) -> Iterator[str]:
    """See `Jobs.tail`."""
    seen, partial = 0, ""
    for text in _texts(jobs, submission_id):
        seen += len(text)
        *lines, partial = (partial + text).split("\n")
        yield from lines
    # The job has ended, but what it wrote last may not have come. If the node that held the log is gone by
    # now, what was seen is all there is.
    with contextlib.suppress(ClusterError):
        partial += jobs.log(submission_id)[seen:]
    *lines, partial = partial.split("\n")
    yield from lines
    if partial:
        yield partial


def _texts(jobs: Asked, submission_id: str) -> Iterator[str]:
    """The log in pieces as they come, over as many connections as it takes, until the job has ended."""
    seen = failures = 0
    with asyncio.Runner() as runner:
        while True:
            position = 0
            with _Stream(runner, jobs, submission_id) as stream:
                while (chunk := stream.read()) is not None:
                    if not chunk and _info_patiently(jobs, submission_id).done:
                        return
                    if fresh := chunk[max(0, seen - position) :]:
                        failures = 0
                        seen += len(fresh)
                        yield fresh
                    position += len(chunk)
            if _info_patiently(jobs, submission_id).done:
                return
            time.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
            failures += 1


class _Stream:
    """One connection to the log, read from ordinary code."""

    def __init__(self, runner: asyncio.Runner, jobs: Asked, submission_id: str) -> None:
        self._runner = runner
        self._chunks = _chunks(jobs, submission_id)
        self._pending: asyncio.Future[str | None] | None = None

    def read(self) -> str | None:
        """The next piece; "" after a second of silence; None when the connection has ended, however."""
        return self._runner.run(self._read())

    async def _read(self) -> str | None:
        import aiohttp

        # A read that is cut short would break the connection, so it stays pending from call to call.
        if self._pending is None:
            self._pending = asyncio.ensure_future(anext(self._chunks, None))
        done, _ = await asyncio.wait([self._pending], timeout=_SILENCE_S)
        if not done:
            return ""
        finished, self._pending = self._pending, None
        try:
            return finished.result()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._close())

    async def _close(self) -> None:
        if self._pending is not None:
            self._pending.cancel()
            await asyncio.wait([self._pending])
        await self._chunks.aclose()


async def _chunks(jobs: Asked, submission_id: str) -> AsyncGenerator[str, None]:
    import aiohttp

    url = f"{jobs.url}/api/jobs/{quote(submission_id, safe='')}/logs/tail"
    limits = aiohttp.ClientTimeout(total=None, sock_connect=10)
    goodbye = aiohttp.ClientWSTimeout(ws_close=_GOODBYE_S)
    proxies = not dashboard.is_loopback(url)
    async with (
        aiohttp.ClientSession(headers=jobs.headers, timeout=limits, trust_env=proxies) as session,
        session.ws_connect(url, heartbeat=_HEARTBEAT_S, max_msg_size=0, timeout=goodbye) as socket,
    ):
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                yield message.data


def _info_patiently(jobs: Asked, submission_id: str) -> Followed:
    """The job's state, asked for up to two minutes while nobody answers."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return jobs.info(submission_id)
        except UnreachableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSES_S[-1])
