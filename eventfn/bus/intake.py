"""The hard loop of a pulled source whose records functions are invoked with, once for all connectors.

    read ─▶ filter ─▶ gather ─▶ invoke (at most maximum_concurrency at once) ─▶ judge ─┐
     ▲                                                                                │ when all records of one
     └───────────────────────────── settle, exactly once for each read ◀──────────────┘ read have come to an end

What belongs here: who waits for whom. What is decided about records stands in rules/filters.py and rules/batching.py.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol, cast

import msgspec

from eventfn.bus.source import Delays, Jitter, Source, SourceStatus, no_event
from eventfn.bus.waiting import wait_for
from eventfn.clock import Clock
from eventfn.errors import EventfnError, Throttled
from eventfn.event import Batch, Outcome, OutcomeKind, Record
from eventfn.functions.model import Function, TriggerBinding
from eventfn.rules.batching import MAX_RECORD, Ahead, Gathering, Scaling, effective_lease, judge
from eventfn.rules.filters import compile_criteria
from eventfn.rules.recursion import MOST, furthest
from eventfn.trigger import DONE, RETRY, Encodes, Reject, Retry, Settlement, Trigger

HAND_BACK = Retry(after=0)  # to another node, or to this one after its restart
# A source may hand out a record while an earlier one of its group is still on its way back to it.
AFTER_THE_OTHERS = Retry(after=1)
LAST_WORD = 5.0  # seconds that a source has to take what is handed back when a drain's time is over

Invoke = Callable[[str, bytes], Awaitable[Outcome]]  # (function, event)


class Chains(Protocol):
    """Who counts how often a function has run for what it has sent to its own source (rules/recursion.py)."""

    def stops(self, reference: str, trace_id: str) -> bool: ...

    def call(self, reference: str, payload: bytes, *, trace_id: str) -> Awaitable[Outcome]:
        """An Invoke that goes on with the count."""
        ...


class _Read:
    """One batch as it was read, until every record of it has its settlement."""

    def __init__(self, batch: Batch, at: float) -> None:
        self.batch = batch
        self.at = at  # when it was read, or its lease last extended
        self.settlements: list[Settlement | None] = [None] * len(batch.records)
        self.left = len(batch.records)  # without a settlement
        self.failed_groups: set[str] = set()  # something of them comes again once this is settled


class _Waiting(msgspec.Struct, frozen=True, eq=False):
    """One record on its way: which read it came with, and at which place."""

    record: Record
    read: _Read
    place: int


class _Flight:
    """One invocation that runs, or waits for a place to run."""

    def __init__(self, items: Sequence[_Waiting], began: float) -> None:
        self.items = items
        self.records = [item.record for item in items]
        self.groups = {record.group for record in self.records if record.group is not None}
        self.began = began
        self.task: asyncio.Task[None] | None = None


class Intake:
    """The host of one trigger with invocation="request_response". `run` it once; `drain` ends it."""

    def __init__(
        self,
        function: Function,
        binding: TriggerBinding,
        trigger: Trigger,
        invoke: Invoke,
        clock: Clock,
        *,
        log: logging.Logger,
        jitter: Jitter = random.random,
        chains: Chains | None = None,
    ) -> None:
        settings = binding.intake
        self._function = function.name
        self._trigger = trigger
        self._invoke = invoke
        self._chains = chains
        self._clock = clock
        self._log = log
        self._jitter = jitter
        self._source = Source(trigger, clock, log, jitter)
        self._criteria = compile_criteria(
            settings.filter_criteria, getattr(trigger, "data_key", None), getattr(trigger, "filtering", None)
        )
        self._report_failures = settings.report_batch_item_failures
        self._scaling = Scaling(settings.maximum_concurrency)
        window = float(settings.maximum_batching_window)
        self._size = settings.batch_size or trigger.traits.default_batch_size
        self._gathering: Gathering[_Waiting] = Gathering(self._size, window)
        self._ahead = Ahead(self._size)
        self._window = window
        self._timeout = float(function.timeout)
        self._system_errors = Delays(jitter)
        self._more_to_read = False  # the last read brought all that was asked for

        self._open: set[_Read] = set()  # read and not settled
        self._flights: set[_Flight] = set()
        self._held_up: set[_Flight] = set()  # those that the function has no room for
        self._settling: set[asyncio.Task[None]] = set()
        self._busy: set[str] = set()  # groups in flight
        self._tasks: asyncio.TaskGroup
        self._idle = asyncio.Event()  # nothing is open
        self._idle.set()
        self._has_read = asyncio.Event()
        self._may_read = asyncio.Event()
        self._changed = asyncio.Event()  # in what waits for a window
        self._place_freed = asyncio.Event()  # replaced each time it was set
        self._draining = asyncio.Event()
        self._drain_seconds = 0.0
        self._ended = asyncio.Event()
        self._ended.set()

    @property
    def _lease(self) -> float | None:
        """How long records are to be ours, once the source is connected. None: it gives no leases."""
        lease = self._source.lease
        return None if lease is None else effective_lease(lease, self._window, self._timeout)

    @property
    def status(self) -> SourceStatus:
        self._source.status.batches_in_flight = len(self._flights)
        return self._source.status

    async def tried(self) -> None:
        """Returns once the source is connected, or the first try has failed."""
        await self._source.tried.wait()

    async def pending(self) -> int | None:
        """How many records wait in the source; None when it cannot say."""
        return await self._source.pending()

    # --- its life ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until drained, or cancelled: then what is unsettled comes again by the source's own rules."""
        self._ended.clear()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                loops = {self._tasks.create_task(loop) for loop in (self._read(), self._watch_windows())}
                keeping = self._tasks.create_task(self._keep_leases())
                await self._draining.wait()
                await _cancel(loops)
                # What was read ahead has a place soon: it is run, since what is handed back counts as received.
                if not self._has_one_soon or self._gathering.waits_for_more(self._clock.monotonic()):
                    self._hand_back(self._gathering.take_all())
                for flight in list(self._held_up):
                    self._give_up(flight)
                await wait_for(self._idle, self._clock, self._drain_seconds)
                self._hand_back(self._gathering.take_all())
                for flight in list(self._flights):
                    self._give_up(flight)
                await wait_for(self._idle, self._clock, LAST_WORD)
                await _cancel({keeping, *self._settling})
        finally:
            await self._source.close(LAST_WORD)
            self._ended.set()

    async def drain(self, deadline: float) -> None:
        """Stops reading, lets functions finish what they have for at most `deadline` seconds, hands back the rest."""
        self._drain_seconds = deadline
        self._draining.set()
        await self._ended.wait()

    # --- read and filter ---------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            # A batch is read only while it can start at once, or soon: what is not read is not on a lease.
            self._may_read.clear()
            if room := self._room():
                places = self._scaling.limit - len(self._flights)
                self._source.expect(max(room, self._gathering.room() + self._size * max(places - 1, 0)))
                batch = await self._source.read(room)
                self._more_to_read = len(batch.records) == room
                read = self._take(batch)
                given, wanted = self._source.lease, self._lease
                if given is not None and wanted is not None and wanted > given:
                    await self._source.extend(read.batch, wanted)
            else:
                await self._may_read.wait()

    def _room(self) -> int:
        """How many records may be read now."""
        ahead = self._ahead.batches(self._lease)
        if self._throttled or not (ahead or self._has_place):
            return 0
        return self._gathering.room(max(ahead, 1))

    def _take(self, batch: Batch) -> _Read:
        now = self._clock.monotonic()
        self._has_read.set()
        read = _Read(batch, now)
        self._open.add(read)
        self._idle.clear()
        failed = set[str]().union(*[read.failed_groups for read in self._open])
        for place, record in enumerate(batch.records):
            waiting = _Waiting(record, read, place)
            if record.group is not None:
                self._ahead.in_groups = True
            settlement = self._screen(record, failed)
            if settlement is None:
                self._gathering.add(waiting, now)
            else:
                self._end(waiting, settlement)
        self._look_again()
        return read

    def _screen(self, record: Record, failed: Collection[str]) -> Settlement | None:
        """How a record ends without being handed to the function; None when it is to be. Something of the `failed`
        groups is on its way back."""
        try:
            if not self._criteria.matches(record.payload):
                self._source.status.records_filtered += 1
                return DONE
        except ValueError as error:
            self._log.error("record %s is rejected: %s", record.id, error)
            return Reject(str(error))
        if len(record.payload) > MAX_RECORD:
            reason = f"{len(record.payload)} bytes are more than a function can be invoked with ({MAX_RECORD})"
            self._log.error("record %s is rejected: %s", record.id, reason)
            return Reject(reason)
        if record.group is not None and record.group in failed:
            return AFTER_THE_OTHERS
        if record.trace is not None and self._chains and self._chains.stops(self._function, record.trace):
            # By itself, before it is in a batch: what came with it is not to stay behind for it.
            self._log.warning(
                "%s is not invoked with record %s, for which it has run %d times in one chain: "
                "it stays with its source, and goes to the source's dead letters if it has some",
                self._function,
                record.id,
                MOST,
            )
            return RETRY
        return None

    # --- batches -----------------------------------------------------------------------------------------------------

    @property
    def _has_place(self) -> bool:
        return len(self._flights) < self._scaling.limit and not self._throttled

    @property
    def _has_one_soon(self) -> bool:
        return self._ahead.batches(self._lease) > 0 and not self._throttled

    @property
    def _throttled(self) -> bool:
        """While one batch waits for the function to have room, another would only wait beside it."""
        return bool(self._held_up)

    def _start_batches(self) -> None:
        """Starts what is complete. At every change, so that the next read knows how much is still of use."""
        now = self._clock.monotonic()
        if self._waits_for_a_place(now):
            self._scaling.one_waits(now)
        else:
            self._scaling.none_waits(len(self._flights), now)
        while flight := self._next_flight(now):
            flight.task = self._tasks.create_task(self._fly(flight))

    def _next_flight(self, now: float) -> _Flight | None:
        """The next batch in its place, if there are both."""
        if not self._has_place or not (items := self._gathering.take(now, self._busy)):
            return None
        flight = _Flight(items, now)
        self._flights.add(flight)
        self._busy |= flight.groups
        return flight

    def _waits_for_a_place(self, now: float) -> bool:
        """There is a batch, or one in the source most likely, and no place."""
        if self._has_place or self._throttled:
            return False
        return self._more_to_read or not self._gathering.waits_for_more(now)

    async def _watch_windows(self) -> None:
        while True:
            self._changed.clear()
            self._start_batches()
            if self._has_place:  # perhaps since now
                self._may_read.set()
            now = self._clock.monotonic()
            due = self._gathering.due(self._busy) if self._has_place else None
            if self._scaling.may_grow and self._waits_for_a_place(now):
                due = now + 1
            await wait_for(self._changed, self._clock, None if due is None else due - now)

    async def _fly(self, flight: _Flight) -> None:
        """One batch, and then in its place the next one that waits: a task for each would cost a turn of the loop."""
        following: _Flight | None = flight
        while following is not None:
            self._land(following, await self._settlements(following))
            if (following := self._next_flight(self._clock.monotonic())) is not None:
                following.task = asyncio.current_task()
            self._look_again()

    async def _settlements(self, flight: _Flight) -> Sequence[Settlement]:
        """What becomes of each record, once the function has had them."""
        try:
            payload = self._encode(flight.records)
        except Exception:
            self._log.exception("the connector makes no event of %d records", len(flight.records))
            return self._unfit(flight.records)
        delays = Delays(self._jitter)
        while (outcome := await self._outcome(flight.records, payload)).kind is OutcomeKind.THROTTLED:
            if self._draining.is_set():
                return (HAND_BACK,) * len(flight.items)
            # It is kept here and not given back: its records were not at fault, so they must not come nearer to
            # the dead letters. A batch of ours that ends has freed a place, which is tried for at once.
            self._held_up.add(flight)
            await wait_for(self._place_freed, self._clock, max(delays.next(), outcome.retry_after or 0))
        self._held_up.discard(flight)
        self._ahead.took(self._clock.monotonic() - flight.began)
        verdict = judge(flight.records, outcome, self._report_failures)
        if verdict.problem is not None:
            self._log.warning(
                "%s: all %d records of a batch come again, because %s",
                self._function,
                len(flight.records),
                verdict.problem,
            )
        if outcome.kind is OutcomeKind.SYSTEM_ERROR:
            self._log.warning("%s: a batch could not be run: %s", self._function, outcome.error_message)
            return (Retry(after=self._system_errors.next()),) * len(flight.records)
        self._system_errors.reset()
        return verdict.settlements

    async def _outcome(self, records: Sequence[Record], payload: bytes) -> Outcome:
        traces = [record.trace for record in records if record.trace is not None]
        try:
            if traces and self._chains:
                return await self._chains.call(self._function, payload, trace_id=furthest(traces))
            return await self._invoke(self._function, payload)
        except Throttled as error:
            return Outcome(OutcomeKind.THROTTLED, b"", retry_after=error.retry_after)
        except EventfnError as error:
            return Outcome(OutcomeKind.SYSTEM_ERROR, b"", error_message=str(error))

    def _encode(self, records: Sequence[Record]) -> bytes:
        if hasattr(self._trigger, "encode"):
            return cast(Encodes, self._trigger).encode(records)
        return b'{"Records":[' + b",".join(record.payload for record in records) + b"]}"

    def _unfit(self, records: Sequence[Record]) -> list[Settlement]:
        """Of a batch of which the connector makes no event: those at fault are rejected, the others come again."""
        settlements: list[Settlement] = []
        for record in records:
            try:
                self._encode([record])
            except Exception as error:
                settlements.append(Reject(no_event(self._trigger, error)))
            else:
                settlements.append(HAND_BACK)
        if all(settlement is HAND_BACK for settlement in settlements):  # only together: perhaps not for ever
            return [Retry(after=self._system_errors.next())] * len(records)
        return settlements

    def _land(self, flight: _Flight, settlements: Sequence[Settlement]) -> None:
        self._flights.discard(flight)
        self._held_up.discard(flight)
        self._busy -= flight.groups
        for item, settlement in zip(flight.items, settlements, strict=True):
            self._end(item, settlement)
            group = item.record.group
            if group is not None and isinstance(settlement, Retry):
                for behind in self._gathering.take_group(group):  # they would overtake it
                    self._end(behind, settlement)
        self._place_freed.set()
        self._place_freed = asyncio.Event()

    def _give_up(self, flight: _Flight) -> None:
        assert flight.task is not None
        flight.task.cancel()
        self._land(flight, (HAND_BACK,) * len(flight.items))
        self._look_again()

    def _hand_back(self, items: Sequence[_Waiting]) -> None:
        for item in items:
            self._end(item, HAND_BACK)

    def _look_again(self) -> None:
        self._start_batches()
        # There may be a window to be watched, or the time until one place more is given.
        if self._gathering or (self._more_to_read and self._scaling.may_grow and not self._has_place):
            self._changed.set()
        self._may_read.set()

    # --- settle and keep ---------------------------------------------------------------------------------------------

    def _end(self, item: _Waiting, settlement: Settlement) -> None:
        read = item.read
        read.settlements[item.place] = settlement
        read.left -= 1
        group = item.record.group
        if group is not None and isinstance(settlement, Retry):
            read.failed_groups.add(group)
        if not read.left:
            task = self._tasks.create_task(self._settle(read))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

    async def _settle(self, read: _Read) -> None:
        try:
            await self._source.settle(read.batch, cast(list[Settlement], read.settlements))  # each has one by now
        finally:
            self._open.discard(read)
            if not self._open:
                self._idle.set()

    async def _keep_leases(self) -> None:
        """Extends what has used up a third of its lease. What a function is done with sooner is never extended, so it
        comes again exactly when the source says."""
        if self._source.lease is None:
            return
        await self._has_read.wait()  # from then on it is known
        while lease := self._lease:
            await self._clock.sleep(lease / 3)
            now = self._clock.monotonic()
            for read in [read for read in self._open if now - read.at >= lease / 3]:
                if read.left:
                    read.at = now
                    await self._source.extend(read.batch, lease)


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
