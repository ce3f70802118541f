"""A pulled source as its hosts see it: it is there, or it is being connected to again.

What belongs here: connecting, back-off, and what `status` says of a source. What is done with its records: intake.py
(functions are invoked with batches) and announce.py (each record becomes a durable event).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec

from eventfn.bus.waiting import within
from eventfn.clock import Clock
from eventfn.errors import Backoff, ConnectorError, EventfnError
from eventfn.event import Batch
from eventfn.trigger import DONE, Expects, Extends, Pending, Reject, Settlement, Trigger

FIRST_DELAY = 1.0  # seconds, doubled with every failure in a row ...
LONGEST_DELAY = 60.0  # ... up to this

# What a record is kept, grouped and told apart by.
_FIELDS = {"id": str, "payload": bytes, "group": str | None, "dedupe_key": str | None, "trace": str | None}
_USUAL = (str, bytes)

Jitter = Callable[[], float]  # 0 to 1


class HeldUp(msgspec.Struct, frozen=True):
    """A batch that was given up, and is not where it is to go yet: what is behind it waits."""

    shard: str
    records: int
    destination: str
    since_ms: int
    reason: str | None  # what the destination said last


class SourceStatus(msgspec.Struct, kw_only=True):
    """What `status` and the metrics say of a source; counts since the start."""

    connected: bool = False
    last_error: str | None = None  # of the source; None again after a read
    records_read: int = 0
    records_filtered: int = 0
    records_done: int = 0  # the filtered ones included
    records_retried: int = 0
    records_rejected: int = 0
    batches_in_flight: int = 0  # invocations that run, or wait for the function to have a place
    iterator_age_ms: int | None = None  # of a stream: how old the first record is that is not done; 0: all are
    held_up: Sequence[HeldUp] = ()  # of a stream
    last_result: str = "No records processed"  # of a stream: Lambda's LastProcessingResult


class Delays:
    """How long to wait after each failure in a row: doubling, with the upper half of each delay left to chance, so
    that those who failed together do not come back together."""

    def __init__(self, jitter: Jitter) -> None:
        self._jitter = jitter
        self._next = FIRST_DELAY

    def next(self) -> float:
        delay, self._next = self._next, min(self._next * 2, LONGEST_DELAY)
        return delay * (1 + self._jitter()) / 2

    def reset(self) -> None:
        self._next = FIRST_DELAY


class Source:
    """Its methods raise nothing of the source's: a stranger's connector that breaks takes down nobody else."""

    def __init__(self, trigger: Trigger, clock: Clock, log: logging.Logger, jitter: Jitter) -> None:
        self.status = SourceStatus()
        self.tried = asyncio.Event()  # it is connected, or the first try has failed
        self._trigger = trigger
        self._clock = clock
        self._log = log
        self._delays = Delays(jitter)
        # The contract: one method at a time, except that `read` runs beside the others.
        self._one_at_a_time = asyncio.Lock()
        self._settling = contextlib.nullcontext() if trigger.traits.settles_at_once else self._one_at_a_time

    @property
    def lease(self) -> float | None:
        """In seconds; of some sources known once they are connected. None: there is none."""
        return cast(Extends, self._trigger).lease if hasattr(self._trigger, "extend") else None

    def expect(self, records: int) -> None:
        if hasattr(self._trigger, "expect"):
            cast(Expects, self._trigger).expect(records)

    async def read(self, limit: int) -> Batch:
        """Waits for records as long as it takes, also for the source to be there at all. Safe to cancel."""
        while True:
            try:
                if not self.status.connected:
                    async with self._one_at_a_time:
                        await self._trigger.connect()
                    self.status.connected = True
                    self.tried.set()
                    self._mended()  # an idle source may have nothing to read for long
                batch = checked(await self._trigger.read(limit))
            except Exception as error:
                self.status.connected = False
                self._note("cannot read", error)
                self.tried.set()
                own = self._delays.next()
                await self._clock.sleep(error.after if isinstance(error, Backoff) else own)
                continue
            self._delays.reset()  # not after connecting: one that connects and then fails at once would spin
            self._mended()
            self.status.records_read += len(batch.records)
            return batch

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        """If the source cannot be told, the records come again by its own rules."""
        self._count(settlements)
        try:
            async with self._settling:
                await self._trigger.settle(batch, settlements)
        except Exception as error:
            self._note(f"cannot settle {len(settlements)} records, which will come again", error)

    async def extend(self, batch: Batch, seconds: float) -> None:
        try:
            async with self._settling:
                await cast(Extends, self._trigger).extend(batch, seconds)
        except Exception as error:
            self._note("cannot keep records that a function works on", error)

    async def pending(self) -> int | None:
        """How far behind the source is; None when it cannot say."""
        if not hasattr(self._trigger, "pending") or not self.status.connected:
            return None
        try:
            async with self._one_at_a_time:
                return await cast(Pending, self._trigger).pending()
        except Exception as error:
            self._note("cannot say how much is waiting", error)
            return None

    async def close(self, deadline: float) -> None:
        """Within `deadline` seconds, also of a source that hangs."""
        try:
            await within(self._close(deadline), self._clock, deadline)
        except Exception as error:
            self._note("cannot close", error)
        self.status.connected = False

    async def _close(self, deadline: float) -> None:
        async with self._one_at_a_time:
            await self._trigger.close(deadline)

    def _mended(self) -> None:
        if self.status.last_error is not None:
            self.status.last_error = None
            self._log.info("is back")

    def _count(self, settlements: Sequence[Settlement]) -> None:
        done = settlements.count(DONE)
        rejected = 0 if done == len(settlements) else sum(isinstance(each, Reject) for each in settlements)
        self.status.records_done += done
        self.status.records_rejected += rejected
        self.status.records_retried += len(settlements) - done - rejected

    def _note(self, what: str, error: Exception) -> None:
        self.status.last_error = f"{what}: {error or type(error).__name__}"
        if isinstance(error, EventfnError):
            self._log.warning("%s", self.status.last_error)
        else:
            self._log.exception("%s: the connector raised what its contract does not allow", what)


def no_event(trigger: object, error: Exception) -> str:
    """Why a record of which the connector makes no event can never be handled."""
    return (
        f"{type(trigger).__name__} makes no event of it, which the connector's author must mend: "
        f"{type(error).__name__}: {error}"
    )


def checked(batch: Any) -> Batch:
    """A careless record must not break its host later, nor stand in the engine where no function can be invoked with
    it. Raises what `read` would have, had the connector noticed."""
    if not isinstance(batch, Batch):
        raise TypeError(f"read() returned a {type(batch).__name__}, where its contract says Batch")
    if not batch.records:
        raise ConnectorError("read() returned no record, which its contract forbids")
    for record in cast(tuple[Any, ...], batch.records):
        group = record.group
        keyed = group is None or type(group) is str
        if keyed and (type(record.id), type(record.payload)) == _USUAL and record.dedupe_key is record.trace is None:
            continue  # as nearly all are: the rest of the loop costs more than what it is for
        wrong = [name for name, kind in _FIELDS.items() if not isinstance(getattr(record, name), kind)]
        if wrong:
            raise TypeError(f"read() returned a record whose {wrong[0]} is {getattr(record, wrong[0])!r:.100}")
    return batch
