"""A clock that tests jump: nothing waits, everything that is due happens, in order."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class FakeClock:
    """Stands still until `advance`. Sleepers whose time has come are woken in the order of their deadlines.

    clock = FakeClock()
    await clock.advance(60)      # one minute passes, and whatever it sets off has run
    """

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._start_ms = now_ms
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now_ms(self) -> int:
        return self._start_ms + round(self._elapsed * 1000)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), woken))
        await woken

    @property
    def next_wake(self) -> float | None:
        """Seconds until the first sleeper is due; None when nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] - self._elapsed if self._sleepers else None

    async def advance(self, seconds: float) -> None:
        until = self._elapsed + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            due, _, woken = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, due)
            if not woken.done():
                woken.set_result(None)
                await self._settle()
        self._elapsed = until
        await self._settle()

    async def _settle(self) -> None:
        # Ten turns of the loop let a woken task run on to its next wait through a few layers of awaits.
        for _ in range(10):
            await asyncio.sleep(0)
