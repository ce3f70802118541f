"""A source that one node at a time reads (Traits.shared = False), by a lease in the engine.

    acquire ─▶ a host is made, and runs ─▶ the lease is renewed by thirds ─▶ drained, or lost ─▶ given up
       ▲                                                                          └─▶ drained in a hurry ─┐
       └──────────────────────────────────────────────────────────────────────────────────────────────────┘

What belongs here: whether this node reads the source. How it is read: intake.py, announce.py, stream.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from eventfn.bus.announce import Announcer
from eventfn.bus.intake import LAST_WORD, Intake
from eventfn.bus.source import SourceStatus
from eventfn.bus.stream import StreamIntake
from eventfn.bus.waiting import wait_for, within
from eventfn.clock import Clock
from eventfn.engine.contract import Engine, Lease
from eventfn.errors import EngineError

LEASE = 30.0  # seconds that a source stays with a node that is gone
RENEW = LEASE / 3  # seconds: two may fail

Host = Intake | StreamIntake | Announcer
Make = Callable[[], Host]  # each runs once, with a trigger of its own


class Alone:
    """`run` it once; `drain` ends it."""

    def __init__(
        self, make: Make, engine: Engine, clock: Clock, *, source: str, owner: str, log: logging.Logger
    ) -> None:
        self._make = make
        self._engine = engine
        self._clock = clock
        self._name = f"source/{source}"
        self._owner = owner
        self._log = log
        self._host = make()  # what is wrong with its settings is said at once
        self._reads = False
        self._waits = SourceStatus()
        self._tried = asyncio.Event()  # the lease was asked for, and is another node's
        self._draining = asyncio.Event()
        self._drain_seconds = 0.0
        self._ended = asyncio.Event()
        self._ended.set()

    @property
    def status(self) -> SourceStatus:
        return self._host.status if self._reads else self._waits

    @property
    def standby(self) -> bool:
        """Another node reads the source; this one does once that one is gone."""
        return not self._reads and self._tried.is_set()

    async def tried(self) -> None:
        """Returns once the source is connected, or the first try has failed, or it is another node's."""
        tries: set[asyncio.Future[Any]] = {
            asyncio.ensure_future(self._host.tried()),
            asyncio.ensure_future(self._tried.wait()),
        }
        try:
            await asyncio.wait(tries, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in tries:
                each.cancel()
            await asyncio.gather(*tries, return_exceptions=True)

    async def pending(self) -> int | None:
        """How many records wait in the source; None when it cannot say, or another node reads it."""
        return await self._host.pending() if self._reads else None

    async def run(self) -> None:
        """Until drained, or cancelled."""
        self._ended.clear()
        try:
            while not self._draining.is_set():
                lease = await self._acquire()
                if lease is None:
                    self._tried.set()
                    await wait_for(self._draining, self._clock, RENEW)
                else:
                    await self._read(lease)
        finally:
            self._ended.set()

    async def drain(self, deadline: float) -> None:
        """As the host's, and the lease is given up: another node may read at once."""
        self._drain_seconds = deadline
        self._draining.set()
        await self._ended.wait()

    async def _read(self, lease: Lease) -> None:
        self._reads = True
        reading = asyncio.ensure_future(self._host.run())
        keeping = asyncio.ensure_future(self._keep(lease))
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({reading, keeping, draining}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                # What is lost is read by somebody else already: it has no more than a moment to end.
                await self._host.drain(self._drain_seconds if self._draining.is_set() else LAST_WORD)
        finally:
            for each in (reading, keeping, draining):
                each.cancel()
            ends = await asyncio.gather(reading, keeping, draining, return_exceptions=True)
            await self._give_up(lease)
            self._reads = False
        if isinstance(ends[0], Exception):
            raise ends[0]
        if not self._draining.is_set():
            self._host = self._make()

    async def _keep(self, lease: Lease) -> None:
        """Returns when it is lost."""
        while True:
            await self._clock.sleep(RENEW)
            now = self._clock.now_ms()
            try:
                renewed = await self._asked()
            except (EngineError, TimeoutError) as error:
                self._log.warning("the lease of this source cannot be renewed now: %s", error)
                if now + RENEW * 1000 < lease.until_ms:
                    continue
                renewed = None  # before it lapses: nobody else has it yet
            if renewed is None or renewed.epoch != lease.epoch:
                self._log.warning("the lease of this source is lost: another node may read it")
                return
            lease = renewed

    async def _acquire(self) -> Lease | None:
        try:
            lease = await self._asked()
        except (EngineError, TimeoutError) as error:
            self._waits.last_error = f"cannot ask the engine whether another node reads it: {error}"
            self._log.warning("%s", self._waits.last_error)
            return None
        self._waits.last_error = None
        return lease

    async def _asked(self) -> Lease | None:
        now = self._clock.now_ms()
        asking = self._engine.acquire(self._name, self._owner, now + round(LEASE * 1000), now)
        return await within(asking, self._clock, LAST_WORD)

    async def _give_up(self, lease: Lease) -> None:
        try:
            await within(self._engine.give_up(lease), self._clock, LAST_WORD)
        except (EngineError, TimeoutError) as error:
            self._log.warning("this source stays with this node until its lease lapses: %s", error)
