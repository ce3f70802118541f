"""Keeps the claims of what is under way, however long it takes: a claim lapses only when its node is gone."""

from __future__ import annotations

import asyncio
import logging

from eventfn.clock import Clock
from eventfn.engine.contract import Claim, Engine, Extend
from eventfn.errors import EngineError

LEASE_MS = 60_000  # how long a claim holds without a beat: what a dead node's messages wait for on another node
BEAT = 20.0  # seconds: two may be missed before a claim lapses

log = logging.getLogger("eventfn.heartbeat")


class Heartbeat:
    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self.claims: set[Claim] = set()  # add what is claimed, discard what is settled

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(BEAT)
            await asyncio.gather(*map(self._extend, list(self.claims)))

    async def _extend(self, claim: Claim) -> None:
        # One commit each: a claim that has lapsed must not stop the others from being extended. All at once: the engine
        # puts them to disk together, where one after the other thousands would take longer than they hold.
        now = self._clock.now_ms()
        try:
            await self._engine.commit([Extend(claim, now + LEASE_MS)], now)
        except EngineError as error:
            log.debug("the claim of %s %d was not extended: %s", claim.queue, claim.sequence, error)
