"""The outbox as those see it who put a record in: it is on its way, and then it has arrived.

    keep ─▶ record and fact, in one commit ─▶ (the deliverer) ─▶ the record goes, and its fact with it ─▶ arrived

What belongs here: records that somebody waits for, and the fact by which anybody on the engine knows that one is still
on its way: a waiter who was killed and asks again, a node that does not deliver it itself. How it gets there:
destinations.py.
"""

from __future__ import annotations

import asyncio
import logging

from eventfn.bus import names
from eventfn.bus.waiting import wait_for
from eventfn.clock import Clock
from eventfn.destination import OutgoingRecord
from eventfn.engine.contract import Conflict, Engine, Expect, Message, Operation, Put, Send
from eventfn.errors import EngineError
from eventfn.units import recognisable

LOOK = 5.0  # seconds between two looks at a record that another node may deliver: its deliverer wakes nobody here
KEPT_ONCE_MS = 24 * 3_600_000  # the same record, kept again around a crash, leaves once

log = logging.getLogger("eventfn.destinations")


class Outbox:
    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.errors: dict[str, str] = {}  # URI -> why its records wait; gone once one was written
        self._engine = engine
        self._clock = clock
        self._waiters: dict[str, set[asyncio.Event]] = {}  # by fact

    async def keep(self, uri: str, record: OutgoingRecord) -> None:
        """The record is on its way when this returns, durably, and once: what has the same id and is on its way to the
        same destination, or arrived there within a day, is not sent again. Raises EngineFull, EngineError."""
        queue, now = names.OUTBOX + uri, self._clock.now_ms()
        fact = _fact(queue, record.id)
        send = Send(
            queue,
            record.id,
            record.payload,
            record.attributes,
            dedupe_key=record.id,
            dedupe_until_ms=now + KEPT_ONCE_MS,
            only_new=True,
        )
        try:
            # The fact counts beside the window: what waits longer than a day for its last try waits still.
            await self._engine.commit([Expect(fact, None), Put(fact, b""), send], now)
        except Conflict:
            log.info("the record %s for %s was kept before", record.id, recognisable(uri))

    async def arrived(self, uri: str, record_id: str) -> None:
        """Returns once the destination has taken a record that was kept, or the dead letters have, after its last try.
        Safe to cancel."""
        fact = _fact(names.OUTBOX + uri, record_id)
        left = asyncio.Event()
        waiters = self._waiters.setdefault(fact, set())
        waiters.add(left)
        try:
            while not left.is_set() and await self._on_its_way(fact):
                await wait_for(left, self._clock, LOOK)
        finally:
            waiters.discard(left)
            if not waiters:
                self._waiters.pop(fact, None)

    async def _on_its_way(self, fact: str) -> bool:
        try:
            return await self._engine.get(fact) is not None
        except EngineError:
            return True  # it is asked again; who cannot know does not go on

    # --- for the deliverer -------------------------------------------------------------------------------------------

    def leaving(self, message: Message) -> list[Operation]:
        """What is committed together with the end of a message's way."""
        return [] if message.dedupe_key is None else [Put(_fact(message.queue, message.id), None)]

    def left(self, message: Message) -> None:
        """Its way has ended: that is committed."""
        for waiter in self._waiters.get(_fact(message.queue, message.id), ()):
            waiter.set()


def _fact(queue: str, record_id: str) -> str:
    return f"{names.AWAITED}{queue}/{record_id}"
