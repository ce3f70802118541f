"""Receiving from one queue: how many requests at once, and what becomes of messages that nobody takes.

A request that is cancelled may have received messages all the same: the server thinks that they are being worked on.
So requests are tasks of their own. A read that is cancelled leaves them running, and the next one takes what they
brought; if none comes soon, it goes back to the queue.

An answer takes a server longer than a function takes for it. So while there is a backlog requests are under way for
all that the host has a place for, and not only for the read that waits. What they brought and nobody reads yet, since
the places are taken after all, is kept invisible: given back it would be one receive nearer to the dead letters.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from eventfn.clock import Clock

PER_REQUEST = 10  # messages, at most
LONG_POLL = 20  # seconds that a request waits at the server, while the queue is empty
MOST_REQUESTS = 10  # at once: a hundred messages, of up to a megabyte each

T = TypeVar("T")


class Receiver(Generic[T]):
    """`receive(count, wait)` asks for at most `count` messages and waits so many seconds for the first one. `extend`
    makes the claim on messages longer, `give_back` ends it; these two keep to themselves what fails."""

    def __init__(
        self,
        receive: Callable[[int, int], Awaitable[list[T]]],
        extend: Callable[[Sequence[T]], Awaitable[None]],
        give_back: Callable[[Sequence[T]], Awaitable[None]],
        clock: Clock,
        most_requests: int = MOST_REQUESTS,
    ) -> None:
        self._most_requests = most_requests
        self._receive = receive
        self._extend = extend
        self._give_back = give_back
        self._clock = clock
        self.keep = 5.0  # seconds that messages wait to be read before something is done about it
        self.expected = 0  # messages that there are places for, those of the next read included
        self._width = 1  # requests that the backlog is worth
        self._requests: set[asyncio.Task[None]] = set()
        self._quick = 0  # those of them that do not wait at the server
        self._asked = 0  # messages that they may bring
        self._ready: deque[tuple[float, T]] = deque()  # and since when each waits
        self._failure: BaseException | None = None
        self._abandoned = False  # the last read was cancelled: there may be no other
        self._watching: asyncio.Task[None] | None = None

    async def read(self, limit: int) -> list[T]:
        """1 to `limit` messages. Raises what `receive` does. Safe to cancel."""
        self._abandoned = False
        try:
            self._look_at_failures()
            self._ask(limit)
            while not self._ready or (len(self._ready) < limit and self._quick):
                await asyncio.wait(self._requests, return_when=asyncio.FIRST_COMPLETED)
                self._look_at_failures()
                if not self._requests and not self._ready:
                    self._ask(limit)
        except asyncio.CancelledError:
            self._abandoned = True
            raise
        return [self._ready.popleft()[1] for _ in range(min(limit, len(self._ready)))]

    def take(self, which: Callable[[T], bool]) -> list[T]:
        """Takes those out that no read is to have any more."""
        taken = [message for _, message in self._ready if which(message)]
        self._ready = deque(waiting for waiting in self._ready if not which(waiting[1]))
        return taken

    async def close(self) -> None:
        tasks = [*self._requests, *([] if self._watching is None else [self._watching])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._return()

    def _look_at_failures(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None and not self._ready:  # what fails beside something that was brought fails again
            raise failure

    def _ask(self, limit: int) -> None:
        """One long poll while there is little. With a backlog several requests that do not wait, since those that come
        back empty must not hold up what the others have brought."""
        room = max(limit, self.expected) - len(self._ready) - self._asked
        requests = min(self._width, self._most_requests) - len(self._requests)
        if self._ready and self._width == 1:
            return
        quick = bool(self._ready or self._requests) or min(requests * PER_REQUEST, room) > PER_REQUEST
        while room > 0 and requests > 0:
            size = min(PER_REQUEST, room)
            request = asyncio.create_task(self._request(size, 0 if quick else LONG_POLL))
            request.add_done_callback(functools.partial(self._ended, size, quick))
            self._requests.add(request)
            self._quick += quick
            self._asked += size
            room -= size
            requests -= 1

    async def _request(self, size: int, wait: int) -> None:
        messages = await self._receive(size, wait)
        now = self._clock.monotonic()
        self._ready.extend((now, message) for message in messages)
        # A full answer is worth another request, and an empty one is worth none.
        self._width = max(1, min(self._width + (len(messages) == size) - (not messages), self._most_requests))

    def _ended(self, size: int, quick: bool, request: asyncio.Task[None]) -> None:
        self._requests.discard(request)
        self._quick -= quick
        self._asked -= size
        if not request.cancelled() and (error := request.exception()) is not None:
            self._failure = error
            self._width = 1
        if self._ready and (self._watching is None or self._watching.done()):
            self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """What waits for long to be read is ours for longer, or goes back when there may be no other read."""
        while self._ready:
            await self._clock.sleep(min(since for since, _ in self._ready) + self.keep - self._clock.monotonic())
            if self._abandoned:
                await self._return()
                continue
            now = self._clock.monotonic()
            waiting = [message for since, message in self._ready if now - since >= self.keep]
            if waiting:
                self._ready = deque((now if now - at >= self.keep else at, message) for at, message in self._ready)
                await self._extend(waiting)

    async def _return(self) -> None:
        messages = [message for _, message in self._ready]
        self._ready.clear()
        if messages:
            await self._give_back(messages)
