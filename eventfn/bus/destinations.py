"""Delivers the outbox: every record that left a settled event reaches its destination, or the dead letters.

    engine queue out/<destination URI> ─claim─▶ destination.write ─▶ gone | again later | queue:dead-letters

One task per destination that has records, so a destination that is slow or down holds up nobody else's. A record is
completed after the destination said that it is written: at least once, and once where the destination is idempotent,
since a record keeps its id over all tries.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from eventfn.bus import names
from eventfn.bus.heartbeat import LEASE_MS, Heartbeat
from eventfn.bus.lanes import Lane, Lanes
from eventfn.bus.outbox import Outbox
from eventfn.bus.waiting import wait_for, within
from eventfn.clock import Clock
from eventfn.destination import DESTINATION, REASON, Delivery, Destination, OutgoingRecord, RetryAfter, Written
from eventfn.engine.contract import Complete, Engine, Message, Operation, Release, Send
from eventfn.errors import Backoff, ConnectorError, EngineError, Fenced
from eventfn.observe.metrics import Metrics
from eventfn.rules.lifecycle import backoff_ms
from eventfn.rules.records import BUILT_IN_DEAD_LETTERS
from eventfn.units import recognisable

ENGINE_PAUSE = 1.0  # seconds before the engine is asked again after an error of its own (disk full)
CLOSE_DEADLINE = 5.0  # seconds
LINGER = 10.0  # seconds that a connection is kept for the next record: making one may cost more than the record
BATCH = 100  # records written at once: a page for a file, ten requests' worth for a queue
LONGEST_TRY_MS = 24 * 3_600_000  # a record that its destination did not take for a day goes to the dead letters

log = logging.getLogger("eventfn.destinations")


class Deliverer:
    """`open_destination(uri)` makes the destination behind a URI. It raises ConnectorError when there is no such thing
    any more, since the file was changed while records were on their way: they wait, as for one that is down."""

    def __init__(
        self, engine: Engine, clock: Clock, metrics: Metrics, open_destination: Callable[[str], Destination]
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._metrics = metrics
        self._open_destination = open_destination
        self._heartbeat = Heartbeat(engine, clock)
        self._lanes = Lanes(engine, clock, names.OUTBOX, self._deliver)
        self._declared = 0  # grows when URIs may mean something else
        self.outbox = Outbox(engine, clock)  # for those who put records in, and wait for them

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._heartbeat.run())
            tasks.create_task(self._lanes.run())

    async def drain(self, deadline: float) -> None:
        """Starts no new delivery and waits for those under way. The rest is on disk, for the next start."""
        await asyncio.gather(*(wait_for(lane.ended, self._clock, deadline) for lane in self._lanes.drain()))

    def declared_anew(self) -> None:
        """The settings of destinations may have changed: what is connected is connected anew before it is used."""
        self._declared += 1

    # --- one destination ---------------------------------------------------------------------------------------------

    async def _deliver(self, lane: Lane) -> None:
        """Until there was nothing for a while: all written, or the destination is not to be tried again yet."""
        destination: Destination | None = None
        declared = self._declared
        working = True
        try:
            while working and not self._lanes.draining:
                lane.poke.clear()
                now = self._clock.now_ms()
                messages = await self._engine.claim(lane.queue, BATCH, now + LEASE_MS, now)
                if not messages:
                    working = lane.poke.is_set() or (destination is not None and await self._more_soon(lane))
                    continue
                if destination is not None and declared != self._declared:
                    await self._close(lane.name, destination)
                    destination = None
                declared = self._declared
                claims = {message.claim for message in messages}
                self._heartbeat.claims |= claims
                answers: Sequence[Delivery]
                try:
                    if destination is None:
                        destination = self._open_destination(lane.name)
                        await destination.connect()
                    answers = _checked(await destination.write(list(map(_outgoing, messages))), len(messages))
                except Exception as error:
                    if not isinstance(error, ConnectorError):
                        # A destination that breaks its contract must not lose the record, nor stop the others.
                        log.exception("%s raised what a destination may not raise", recognisable(lane.name))
                    after = error.after if isinstance(error, Backoff) else None
                    answers = [RetryAfter(str(error) or type(error).__name__, after)] * len(messages)
                    working = False  # the lane opens again when the first of them is due, with a new connection
                finally:
                    self._heartbeat.claims -= claims
                await self._settle(lane.name, messages, answers)
        except EngineError as error:
            # Nothing is lost: a claim that cannot be settled lapses, and the record is delivered again.
            log.warning("the outbox of %s waits for the engine: %s", recognisable(lane.name), error)
            await self._clock.sleep(ENGINE_PAUSE)
        finally:
            if destination is not None:
                await self._close(lane.name, destination)

    async def _more_soon(self, lane: Lane) -> bool:
        try:
            await within(self._lanes.until_visible(lane), self._clock, LINGER)
        except TimeoutError:
            return False
        return True

    async def _close(self, uri: str, destination: Destination) -> None:
        try:
            await within(destination.close(CLOSE_DEADLINE), self._clock, CLOSE_DEADLINE)
        except Exception:
            log.exception("%s could not be closed", recognisable(uri))

    async def _settle(self, uri: str, messages: list[Message], answers: Sequence[Delivery]) -> None:
        now = self._clock.now_ms()
        commits: list[list[Operation]] = []
        self.outbox.errors.pop(uri, None)
        for message, answer in zip(messages, answers, strict=True):
            if isinstance(answer, Written):
                self._metrics.records_delivered += 1
                commits.append([Complete(message.claim), *self.outbox.leaving(message)])
                continue
            self._metrics.delivery_failures += 1
            self.outbox.errors[uri] = answer.reason
            if isinstance(answer, RetryAfter) and now - message.sent_ms < LONGEST_TRY_MS:
                after = backoff_ms(message.attempts - 1) if answer.after is None else _milliseconds(answer.after)
                commits.append([Release(message.claim, now + after, error=answer.reason)])
            else:
                dead_letter = _dead_letter(uri, message, answer.reason)
                commits.append([Complete(message.claim), dead_letter, *self.outbox.leaving(message)])
        # A commit each, at once: the engine groups them, and one lapsed claim does not take the others with it.
        results = await asyncio.gather(
            *(self._engine.commit(operations, now) for operations in commits), return_exceptions=True
        )
        for message, operations, result in zip(messages, commits, results, strict=True):
            if not isinstance(result, BaseException) and isinstance(operations[0], Complete):
                self.outbox.left(message)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, Fenced):
                raise result


def _checked(answers: Any, count: int) -> list[Delivery]:
    """What a destination says, if it is what its contract allows. Raises ValueError: then it said nothing."""
    checked = msgspec.convert(msgspec.to_builtins(answers), list[Delivery])  # the fields too, which no Struct checks
    if len(checked) != count:
        raise ValueError(f"write() gave {len(checked)} answers for {count} records")
    return checked


def _milliseconds(after: float) -> int:
    # Whatever number it is, not one included: max(0, nan) is 0.
    return round(min(max(0, after) * 1000, LONGEST_TRY_MS))


def _outgoing(message: Message) -> OutgoingRecord:
    # A redriven record has notes of its first way out, which must not decide about its next way back.
    attributes = {key: value for key, value in message.attributes.items() if key not in (DESTINATION, REASON)}
    return OutgoingRecord(message.id, message.body, attributes, message.attempts)


def _dead_letter(uri: str, message: Message, reason: str) -> Send:
    attributes = message.attributes | {DESTINATION: uri, REASON: reason[:1024]}
    return Send(names.NAMED + BUILT_IN_DEAD_LETTERS.partition(":")[2], message.id, message.body, attributes)
