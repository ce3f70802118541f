"""Batches of telemetry on their way to an extension, which listens in the sandbox's own network: the keeper dials, and
hands the connection over.

The extension is hostile, or slow: one batch at a time, of which at most a head's worth of answer is read, with a
deadline. What was not taken comes again in the next attempt, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

from eventfn.workers.local_api.telemetry import Subscriber, Telemetry

_PATIENCE = 2.0  # seconds for one attempt
_PAUSE = 0.25  # seconds after one that failed
_ANSWER = 4096  # bytes of it that are read

# A connection to a port in the sandbox, as soon as there can be one: not while it is frozen. Raises OSError.
Dial = Callable[[int], Awaitable[socket.socket]]


class Delivery:
    """To one subscriber, from its first batch to `close`."""

    def __init__(self, subscriber: Subscriber, telemetry: Telemetry, dial: Dial) -> None:
        self._subscriber = subscriber
        self._telemetry = telemetry
        self._dial = dial
        self._loop = asyncio.get_running_loop()
        self._more = asyncio.Event()
        self._now = asyncio.Event()  # nothing is waited for any more
        self._unsent: bytes | None = None
        self._task = self._loop.create_task(self._run())

    def gathered(self) -> None:
        self._more.set()
        if self._subscriber.full:
            self._now.set()

    def hurry(self) -> None:
        """What has been gathered waits for no more: the environment ends soon."""
        self._now.set()

    def close(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._subscriber.buffering.timeout_ms / 1000):
                    await self._now.wait()
            self._now.clear()
            while self._unsent is not None or not self._subscriber.empty:
                if self._unsent is None:
                    self._unsent = self._telemetry.batch(self._subscriber)
                if await self._sent(self._unsent):
                    self._unsent = None
                else:
                    await asyncio.sleep(_PAUSE)

    async def _sent(self, batch: bytes) -> bool:
        writer: asyncio.StreamWriter | None = None
        try:
            connection = await self._dial(self._subscriber.port)
            async with asyncio.timeout(_PATIENCE):
                try:
                    reader, writer = await asyncio.open_connection(sock=connection, limit=_ANSWER)
                except BaseException:
                    connection.close()
                    raise
                head = (
                    f"POST {self._subscriber.path} HTTP/1.1\r\nHost: sandbox.localdomain:{self._subscriber.port}\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(batch)}\r\nConnection: close\r\n\r\n"
                )
                writer.write(head.encode() + batch)
                await writer.drain()
                return (await reader.read(_ANSWER)).startswith((b"HTTP/1.1 2", b"HTTP/1.0 2"))
        except (OSError, TimeoutError):
            return False
        finally:
            if writer is not None:
                writer.transport.abort()
