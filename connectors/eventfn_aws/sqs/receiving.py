"""Receiving from one queue: how many requests at once, and what becomes of messages that nobody takes.

A request that is cancelled may have received messages all the same: the server thinks that they are being worked on.
So requests are tasks of their own. A read that is cancelled leaves them running, and the next one takes what they
brought; if none comes soon, it goes back to the queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from eventfn.clock import Clock

PER_REQUEST = 10  # messages, at most
LONG_POLL = 20  # seconds that a request waits at the server, while the queue is empty
MOST_REQUESTS = 10  # at once: a hundred messages, of up to a megabyte each

T = TypeVar("T")


class Receiver(Generic[T]):
    """`receive(count, wait)` asks for at most `count` messages and waits so many seconds for the first one."""

    def __init__(
        self,
        receive: Callable[[int, int], Awaitable[list[T]]],
        give_back: Callable[[Sequence[T]], Awaitable[None]],
        clock: Clock,
        most_requests: int = MOST_REQUESTS,
    ) -> None:
        self._most_requests = most_requests
        self._receive = receive
        self._give_back = give_back
        self._clock = clock
        self.keep = 5.0  # seconds that messages wait to be read
        self._width = 1  # requests that the backlog is worth
        self._requests: set[asyncio.Task[None]] = set()
        self._ready: deque[T] = deque()
        self._failure: BaseException | None = None
        self._read_runs = False
        self._returning: asyncio.Task[None] | None = None

    async def read(self, limit: int) -> list[T]:
        """1 to `limit` messages. Raises what `receive` does. Safe to cancel."""
        self._read_runs = True
        try:
            while not self._ready:
                if self._failure is not None:
                    failure, self._failure = self._failure, None
                    raise failure
                if not self._requests:
                    self._ask(limit)
                await asyncio.wait(list(self._requests))
            self._failure = None  # what fails beside something that was brought fails again
            return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
        finally:
            self._read_runs = False
            self._return_soon()

    def take(self, which: Callable[[T], bool]) -> list[T]:
        """Takes those out that no read is to have any more."""
        taken = [message for message in self._ready if which(message)]
        self._ready = deque(message for message in self._ready if not which(message))
        return taken

    async def close(self) -> None:
        tasks = [*self._requests, *([] if self._returning is None else [self._returning])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._return()

    def _ask(self, limit: int) -> None:
        """One long poll while there is little. With a backlog several requests that do not wait, since those that come
        back empty must not hold up what the others have brought."""
        count = min(self._width, -(-limit // PER_REQUEST))
        for first in range(0, min(limit, count * PER_REQUEST), PER_REQUEST):
            size = min(PER_REQUEST, limit - first)
            request = asyncio.create_task(self._request(size, LONG_POLL if count == 1 else 0))
            request.add_done_callback(self._ended)
            self._requests.add(request)

    async def _request(self, size: int, wait: int) -> None:
        messages = await self._receive(size, wait)
        self._ready.extend(messages)
        # A full answer is worth another request, and an empty one is worth none.
        self._width = max(1, min(self._width + (len(messages) == size) - (not messages), self._most_requests))
        self._return_soon()

    def _ended(self, request: asyncio.Task[None]) -> None:
        self._requests.discard(request)
        if not request.cancelled() and (error := request.exception()) is not None:
            self._failure = error
            self._width = 1

    def _return_soon(self) -> None:
        if self._ready and not self._read_runs and (self._returning is None or self._returning.done()):
            self._returning = asyncio.create_task(self._return_later())

    async def _return_later(self) -> None:
        await self._clock.sleep(self.keep)
        await self._return()

    async def _return(self) -> None:
        messages = list(self._ready)
        self._ready.clear()
        if messages:
            await self._give_back(messages)
