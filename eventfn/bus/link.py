"""The connection of a stream: it is there, or it is being made again, with back-off, once for all that wait for it.

What belongs here: connecting, and what `status` says of it. What is read through it: shard.py.
"""

from __future__ import annotations

import asyncio
import logging

from eventfn.bus.source import Delays, Jitter, SourceStatus
from eventfn.clock import Clock
from eventfn.errors import Backoff, EventfnError
from eventfn.trigger import Stream


class Link:
    """`until_up` for those who need it, `lost` from those who find it broken; `run` keeps it, until cancelled."""

    def __init__(self, trigger: Stream, clock: Clock, log: logging.Logger, jitter: Jitter) -> None:
        self.status = SourceStatus()
        self.tried = asyncio.Event()  # it is up, or the first try has failed
        self._trigger = trigger
        self._clock = clock
        self._log = log
        self._delays = Delays(jitter)
        self.up = asyncio.Event()
        self._down = asyncio.Event()
        self.generation = 0  # the number of the connection that is up, or was the last one
        self._after: float | None = None  # what a Backoff asked for
        # The contract: one method of the trigger at a time.
        self.one_at_a_time = asyncio.Lock()

    async def run(self) -> None:
        while True:
            try:
                async with self.one_at_a_time:
                    await self._trigger.connect()
            except Exception as error:
                self.note("cannot connect", error)
                self.tried.set()
                own = self._delays.next()
                await self._clock.sleep(error.after if isinstance(error, Backoff) else own)
                continue
            self.generation += 1
            self.status.connected = True
            self._down.clear()
            self.up.set()
            self.tried.set()
            self.mended()  # an idle source may have nothing to read for long
            await self._down.wait()
            await self._clock.sleep(self._delays.next() if self._after is None else self._after)

    async def until_up(self) -> int:
        """The number of the connection that is up now."""
        await self.up.wait()
        return self.generation

    def lost(self, generation: int, what: str, error: Exception) -> None:
        """That connection is of no use any more. Heard once, from whoever finds out first."""
        if generation != self.generation or not self.up.is_set():
            return
        self.note(what, error)
        self.status.connected = False
        self._after = error.after if isinstance(error, Backoff) else None
        self.up.clear()
        self._down.set()

    def works(self) -> None:
        """Something was read. Not to be said after connecting: one that connects and then fails at once would spin."""
        self._delays.reset()
        self.mended()

    def failed(self, what: str, error: Exception) -> None:
        """It is up, and of no use for now. Who said so makes it work again, and then says that it is `mended`."""
        self.status.connected = False
        self.note(what, error)

    def mended(self) -> None:
        if self.status.last_error is not None:
            self.status.connected = self.up.is_set()
            self.status.last_error = None
            self._log.info("is back")

    def note(self, what: str, error: Exception) -> None:
        self.status.last_error = f"{what}: {error or type(error).__name__}"
        if isinstance(error, EventfnError):
            self._log.warning("%s", self.status.last_error)
        else:
            self._log.exception("%s: the connector raised what its contract does not allow", what, exc_info=error)
