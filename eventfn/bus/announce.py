"""The host of sources whose records each become one durable asynchronous invocation: files, schedules.

    read ─▶ filter ─▶ submit (event and position in one commit) ─▶ settle ─▶ read …

A record that cannot be kept now - the queue of the function is full, or the disk is - is tried again here, and nothing
more is read meanwhile: no order is lost, and a source that could not hand it out twice needs not.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence

from eventfn.bus.intake import HAND_BACK, LAST_WORD
from eventfn.bus.source import Delays, Jitter, Source, SourceStatus
from eventfn.bus.waiting import wait_for
from eventfn.clock import Clock
from eventfn.errors import EngineError, PayloadTooLarge, Refused, ShuttingDown
from eventfn.event import Batch, Record
from eventfn.functions.model import TriggerBinding
from eventfn.rules.filters import compile_criteria
from eventfn.trigger import DONE, Positions, Reject, Settlement, Trigger

READ_AT_ONCE = 100  # their commits are made side by side, so the engine groups them

Submit = Callable[[Record], Awaitable[object]]


class Announcer:
    """The host of one trigger with invocation="event". `run` it once; `drain` ends it.

    `submit(record)` commits `record.payload` as an event of the function, once per `record.dedupe_key`, together with
    `record.position`; it returns once that is on disk and raises as trigger.Caller.submit does. `positions` are the
    source's own: what a filter holds back is remembered there, although no event carries it.
    """

    def __init__(
        self,
        binding: TriggerBinding,
        trigger: Trigger,
        submit: Submit,
        positions: Positions,
        clock: Clock,
        *,
        log: logging.Logger,
        jitter: Jitter = random.random,
    ) -> None:
        self._submit = submit
        self._positions = positions
        self._clock = clock
        self._log = log
        self._jitter = jitter
        self._limit = min(READ_AT_ONCE, trigger.traits.max_batch_size)
        self._source = Source(trigger, clock, log, jitter)
        self._criteria = compile_criteria(
            binding.intake.filter_criteria, getattr(trigger, "data_key", None), getattr(trigger, "filtering", None)
        )
        self._draining = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._reading: asyncio.Future[Batch] | None = None

    @property
    def status(self) -> SourceStatus:
        return self._source.status

    async def tried(self) -> None:
        """Returns once the source is connected, or the first try has failed."""
        await self._source.tried.wait()

    async def pending(self) -> int | None:
        """How much waits in the source; None when it cannot say."""
        return await self._source.pending()

    async def run(self) -> None:
        """Until drained, or cancelled: then what is unsettled comes again, and its dedupe key or position stops it."""
        self._ended.clear()
        try:
            while not self._draining.is_set() and (batch := await self._next()) is not None:
                await self._source.settle(batch, await self._announce(batch))
        finally:
            await self._source.close(LAST_WORD)
            self._ended.set()

    async def drain(self, deadline: float) -> None:
        """Stops reading and hands back what could not be kept yet. What is on its way to the disk gets there first."""
        self._draining.set()
        await wait_for(self._ended, self._clock, deadline)

    async def _next(self) -> Batch | None:
        reading = asyncio.ensure_future(self._source.read(self._limit))
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({reading, draining}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            draining.cancel()
            if not reading.done():
                reading.cancel()
            await asyncio.gather(reading, draining, return_exceptions=True)
        return None if reading.cancelled() else reading.result()

    async def _announce(self, batch: Batch) -> list[Settlement]:
        """Groups go side by side, so that the engine keeps them in one commit; within a group one after the other."""
        settlements: list[Settlement] = [HAND_BACK] * len(batch.records)
        lanes: dict[str | int, list[int]] = {}
        for place, record in enumerate(batch.records):
            lanes.setdefault(place if record.group is None else record.group, []).append(place)

        async def work_off(places: Sequence[int]) -> None:
            for place in places:
                settlements[place] = await self._keep(batch.records[place])
                if settlements[place] is HAND_BACK:
                    return  # a later one of its group must not move the position past it

        async with asyncio.TaskGroup() as tasks:
            for places in lanes.values():
                tasks.create_task(work_off(places))
        return settlements

    async def _keep(self, record: Record) -> Settlement:
        delays = Delays(self._jitter)
        while True:
            try:
                if self._criteria.matches(record.payload):
                    await self._submit(record)
                else:
                    self.status.records_filtered += 1
                    if record.position is not None:
                        await self._positions.put(record.position.key, record.position.value)
                return DONE
            except (PayloadTooLarge, ValueError) as error:
                self._log.error("%s can never be handed to the function: %s", record.id, error)
                return Reject(str(error))
            except ShuttingDown:
                return HAND_BACK
            except (Refused, EngineError) as error:  # also a function that a reload removed: its source is drained next
                self._log.warning("%s waits: %s", record.id, error)
            if self._draining.is_set():
                return HAND_BACK
            await wait_for(self._draining, self._clock, delays.next())
