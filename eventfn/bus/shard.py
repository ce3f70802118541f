"""One shard of a stream: read, handed to the function lane by lane, and remembered how far it is done.

    reader.read ─▶ filter ─▶ Progress ─▶ a lane's batch ─▶ invoke ─▶ done | again | given up ─▶ the mark moves ─▶ kept
                                                                          └─▶ outbox ─▶ taken ─┘

What belongs here: who waits for whom. What is decided about records: rules/streaming.py. Who reads which shard:
sharing.py and stream.py. Where the mark is kept: marks.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import msgspec

from eventfn.bus.link import Link
from eventfn.bus.marks import Marks, Overtaken
from eventfn.bus.on_failure import OnFailure
from eventfn.bus.source import Delays, HeldUp, Jitter, checked, no_event
from eventfn.bus.waiting import wait_for, within
from eventfn.clock import Clock
from eventfn.errors import EngineError, EventfnError, Throttled
from eventfn.event import MAX_SYNC_REQUEST, Batch, Outcome, OutcomeKind, Record
from eventfn.rules.batching import judge_stream
from eventfn.rules.filters import Criteria
from eventfn.rules.streaming import EXHAUSTED, GiveUp, Invoke, Lane, Piece, Policy, Progress
from eventfn.rules.windows import WindowCall, window_fields
from eventfn.trigger import BatchInfo, Describes, Encodes, Shard, ShardReader, Start, Stream
from eventfn.units import recognisable

ENGINE_PAUSE = 1.0  # seconds before the engine is asked again after an error of its own (disk full)
OPEN_PATIENCE = 60.0  # seconds that a reader has to open: nothing else is asked of its source meanwhile
LAST_WORD = 5.0  # seconds that a reader has to close
SMALLEST_BUFFER = 200  # records that are read ahead at least: reading one by one is what costs
AHEAD = 64 * 1024 * 1024  # bytes that lanes are ahead of one that waits: what is held, and handled anew after a crash
PATIENCE = 5.0  # seconds that a destination has to take a batch that was given up before the log says who waits

Invocation = Callable[[str, bytes], Awaitable[Outcome]]  # (function, event)


class StreamPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What all shards of one stream have in common."""

    function: str
    trigger: Stream
    link: Link
    invoke: Invocation
    on_failure: OnFailure
    places: asyncio.Semaphore | None  # maximum_concurrency
    filters: Criteria | None  # None: all records are wanted
    policy: Policy
    lanes: int
    report_failures: bool
    clock: Clock
    log: logging.Logger
    jitter: Jitter


class ShardHost:
    """`run` it once, until the shard is at its end, was let go, or was lost."""

    def __init__(self, shard: Shard, plan: StreamPlan, marks: Marks, start: Start) -> None:
        self.shard = shard
        self.finished = False  # read to its end, and all of it done
        self._plan = plan
        self._marks = marks
        self._start = start
        self._clock = plan.clock
        self._log = plan.log
        self._progress = Progress(plan.policy, plan.lanes)
        self._reader: ShardReader | None = None
        self._position: Callable[[Record], str] | None = None  # of the last reader: it outlives its connection
        self._read_last: Record | None = None  # what was read last, done or not
        self._has_room = asyncio.Event()
        self._changed = [asyncio.Event() for _ in range(plan.lanes)]
        self._mark_moved = asyncio.Event()
        self._at_end = False
        self._letting_go = asyncio.Event()
        self._quiet = False  # no invocation runs, and all marks are kept
        self._deadline = float("inf")  # monotonic: when it is over with waiting for that
        self._look_again = asyncio.Event()  # at these two
        self._running = 0
        self._held_up: dict[Lane, HeldUp] = {}
        self._fenced = False
        self.ended = asyncio.Event()

    @property
    def ending(self) -> bool:
        """It was let go, was lost or is at its end: whatever it still does, it reads no more."""
        return self._letting_go.is_set()

    @property
    def batches_in_flight(self) -> int:
        return self._running

    @property
    def held_up(self) -> list[HeldUp]:
        trouble = self._plan.on_failure.trouble
        return [msgspec.structs.replace(held_up, reason=trouble) for held_up in self._held_up.values()]

    def oldest(self) -> Record | None:
        return self._progress.oldest()

    # --- its life ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                working = [
                    tasks.create_task(each)
                    for each in (
                        self._read(),
                        self._keep_marks(),
                        *(self._work(lane, changed) for lane, changed in zip(self._lanes, self._changed, strict=True)),
                    )
                ]
                await self._letting_go.wait()
                working[0].cancel()
                while not self._quiet and (left := self._deadline - self._clock.monotonic()) > 0:
                    self._look_again.clear()
                    await wait_for(self._look_again, self._clock, None if left == float("inf") else left)
                self._fenced = True  # what comes to an end later is dropped
                for task in working:
                    task.cancel()
                await asyncio.gather(*working, return_exceptions=True)
        finally:
            await self._close_reader()
            self.ended.set()

    async def let_go(self, deadline: float) -> None:
        """Reads no more, and starts no batch; what runs has `deadline` seconds to end, and what is done is kept."""
        self._let_go_until(self._clock.monotonic() + deadline)
        self._mark_moved.set()
        await self.ended.wait()

    def lose(self) -> None:
        """It is somebody else's: nothing is kept of it any more."""
        self._fenced = True
        self._let_go_until(self._clock.monotonic())

    def _let_go_until(self, deadline: float) -> None:
        self._deadline = min(self._deadline, deadline)  # whoever has less time says how long it takes
        self._letting_go.set()
        self._look_again.set()

    @property
    def _lanes(self) -> list[Lane]:
        return self._progress.lanes

    # --- read --------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        # The next batch of each lane beside the one in flight, by number and by bytes: one of them is full then.
        size = max(2 * self._plan.policy.batch_size * self._plan.lanes, SMALLEST_BUFFER)
        most_bytes = 2 * MAX_SYNC_REQUEST * self._plan.lanes
        while not self._at_end:
            generation = await self._plan.link.until_up()
            try:
                reader = await self._opened()
                while True:
                    self._has_room.clear()
                    room = size - self._progress.waiting
                    most_held = most_bytes + AHEAD
                    if room > 0 and self._progress.waiting_bytes < most_bytes and self._progress.held_bytes < most_held:
                        batch = await self._asked(reader, room)
                        if not batch.records:
                            break
                        self._take(checked(batch).records)
                    else:
                        await self._has_room.wait()
            except Overtaken:
                self.lose()
                return
            except EngineError as error:  # its mark could not be read
                self._log.warning("%s waits for the engine: %s", self.shard.id, error)
                await self._clock.sleep(ENGINE_PAUSE)
            except Exception as error:
                await self._close_reader()
                self._plan.link.lost(generation, f"cannot read {self.shard.id}", error)
            else:
                self._end()

    async def _asked(self, reader: ShardReader, limit: int) -> Batch:
        if not self._plan.policy.tumbling_window:
            return await reader.read(limit)
        lane = self._lanes[0]
        lane.quiet_since = self._clock.monotonic()
        self._changed[0].set()
        try:
            return await reader.read(limit)
        finally:
            lane.quiet_since = None

    async def _opened(self) -> ShardReader:
        if self._reader is None:
            at: str | Start
            window = self._lanes[0].window
            if self._read_last is not None and self._position is not None:
                at = self._position(self._read_last)
            else:
                at, window = await self._marks.opening(self._start)
            async with self._plan.link.one_at_a_time:
                self._reader = await within(self._plan.trigger.open_shard(self.shard, at), self._clock, OPEN_PATIENCE)
            if self._position is None:  # later it may have ended: the lane knows better
                self._lanes[0].window = window
                self._changed[0].set()
            self._position = self._reader.position
            self._marks.reader = self._reader
        return self._reader

    def _take(self, records: Sequence[Record]) -> None:
        plan = self._plan
        plan.link.works()
        status = plan.link.status
        status.records_read += len(records)
        wanted: list[bool] | None = None
        if plan.filters:
            wanted = [self._screen(plan.filters, record) for record in records]
            filtered = len(wanted) - sum(wanted)
            status.records_filtered += filtered
            status.records_done += filtered
        self._read_last = records[-1]
        self._progress.add(records, wanted, self._clock.monotonic())
        self._mark_moved.set()
        for changed in self._changed:
            changed.set()

    def _screen(self, filters: Criteria, record: Record) -> bool:
        """Whether the function is to see it. One about which nothing can be said goes on: the function may know."""
        try:
            return filters.matches(record.payload)
        except ValueError as error:
            self._log.error("record %s of %s is not filtered: %s", record.id, self.shard.id, error)
            return True

    def _end(self) -> None:
        self._at_end = True
        self._progress.end()
        self._mark_moved.set()
        for changed in self._changed:
            changed.set()

    async def _close_reader(self) -> None:
        reader, self._reader, self._marks.reader = self._reader, None, None
        if reader is not None:
            try:
                await within(reader.close(), self._clock, LAST_WORD)
            except Exception as error:
                self._log.warning("%s: its reader could not be closed: %s", self.shard.id, error)

    # --- one lane ----------------------------------------------------------------------------------------------------

    async def _work(self, lane: Lane, changed: asyncio.Event) -> None:
        """Batch after batch of one lane, in their order."""
        delays = Delays(self._plan.jitter)
        outcome: Outcome | None = None  # of the last invocation that failed
        while True:
            changed.clear()
            step = None
            if not self._letting_go.is_set():
                step = lane.next(self._clock.monotonic(), self._clock.now_ms())
            if step is None:
                await wait_for(changed, self._clock, None if self._letting_go.is_set() else self._until_due(lane))
                continue
            self._running += 1
            try:
                if isinstance(step, GiveUp):
                    await self._give_up(lane, step, outcome)
                else:
                    outcome = await self._invoke(lane, step, delays)
            finally:
                self._running -= 1
            self._has_room.set()
            self._mark_moved.set()

    def _until_due(self, lane: Lane) -> float | None:
        now = self._clock.monotonic()
        due, window_due = lane.due(), lane.window_due(now, self._clock.now_ms())
        waits = [] if due is None else [due - now]
        if window_due is not None:
            waits.append(window_due)
        return min(waits, default=None)

    async def _invoke(self, lane: Lane, step: Invoke, delays: Delays) -> Outcome | None:
        piece = step.piece
        try:
            payload = self._event(piece, step.window)
        except Exception as error:
            self._log.exception("the connector makes no event of %d records of %s", len(piece.records), self.shard.id)
            lane.unfit()
            why = no_event(self._plan.trigger, error)
            return Outcome(OutcomeKind.SYSTEM_ERROR, b"", error_message=why)
        if self._plan.places is None:
            outcome = await self._outcome(payload)
        else:
            async with self._plan.places:
                if self._letting_go.is_set():
                    lane.put_back(self._clock.monotonic(), 0)
                    return None
                outcome = await self._outcome(payload)
        if self._fenced:
            return None
        now = self._clock.monotonic()
        if outcome.kind in (OutcomeKind.THROTTLED, OutcomeKind.SYSTEM_ERROR):
            # The records were not at fault: they come no nearer to the dead letters.
            if outcome.kind is OutcomeKind.SYSTEM_ERROR:
                self._log.warning("%s: a batch could not be run: %s", self._plan.function, outcome.error_message)
            lane.put_back(now, max(delays.next(), outcome.retry_after or 0))
            return None
        verdict = judge_stream(piece.records, outcome, self._plan.report_failures, step.window)
        if verdict.problem is not None:
            self._log.warning(
                "%s: a batch of %s fails, because %s", self._plan.function, self.shard.id, verdict.problem
            )
        status = self._plan.link.status
        status.records_done += verdict.done
        if verdict.done or verdict.ok:
            delays.reset()
        if verdict.ok:
            status.last_result = "OK"
            lane.succeeded(verdict.state or b"{}")
        else:
            status.last_result = "PROBLEM: Function call failed"
            status.records_retried += len(piece.records) - verdict.done
            lane.failed(verdict.done, now, delays.next(), verdict.state)
        return outcome

    async def _outcome(self, payload: bytes) -> Outcome:
        try:
            return await self._plan.invoke(self._plan.function, payload)
        except Throttled as error:
            return Outcome(OutcomeKind.THROTTLED, b"", retry_after=error.retry_after)
        except EventfnError as error:
            return Outcome(OutcomeKind.SYSTEM_ERROR, b"", error_message=str(error))

    def _event(self, piece: Piece, window: WindowCall | None) -> bytes:
        trigger: Any = self._plan.trigger
        if piece.records and hasattr(trigger, "encode"):
            return cast(Encodes, trigger).encode(piece.records)
        plain = _plain(piece.records)
        if window is None:
            return plain
        return b"%b,%b}" % (
            plain[:-1],
            window_fields(window, self.shard.id, getattr(trigger, "event_source_arn", "")),
        )

    async def _give_up(self, lane: Lane, step: GiveUp, outcome: Outcome | None) -> None:
        """Once its destination has taken it, and not before, the lane goes on, and the mark may move over it. It is
        safe in the outbox meanwhile: its stream may forget it, and a crash makes no second one of it."""
        piece = step.piece
        info = self._describe(piece.records)
        condition = info.exhausted if step.condition == EXHAUSTED else step.condition
        try:
            event = self._event(piece, None)
        except Exception:  # perhaps it is why; it must not stay for that
            event = _plain(piece.records)
        while not self._fenced:
            try:
                kept = await self._plan.on_failure.keep(info, condition, piece.invokes, outcome, piece.records, event)
            except EngineError as error:
                self._log.warning("cannot keep a failed batch of %s yet: %s", self.shard.id, error)
                await self._clock.sleep(ENGINE_PAUSE)
                continue
            self._log.error(
                "%s: gave up %d of the records of %s, tried %d times: %s",
                self._plan.function,
                len(piece.records),
                self.shard.id,
                piece.invokes,
                condition,
            )
            if await self._until_arrived(lane, len(piece.records), kept):
                self._plan.link.status.records_rejected += len(piece.records)
                lane.gave_up()
            return

    async def _until_arrived(self, lane: Lane, records: int, record_id: str) -> bool:
        """Whether it has arrived before the shard is let go. Nothing that runs is waited for longer because of it: the
        mark has not moved over it, so whoever has the shard next gives it up once more, and waits for the same."""
        arriving = asyncio.ensure_future(self._plan.on_failure.arrived(record_id))
        letting_go = asyncio.ensure_future(self._letting_go.wait())
        uri = self._plan.on_failure.uri
        telling = asyncio.ensure_future(self._clock.sleep(PATIENCE))
        self._held_up[lane] = HeldUp(self.shard.id, records, uri, self._clock.now_ms(), None)
        self._running -= 1
        try:
            await asyncio.wait({arriving, letting_go, telling}, return_when=asyncio.FIRST_COMPLETED)
            if telling.done() and not (arriving.done() or letting_go.done()):
                self._log.warning(
                    "%s waits until %s has taken %d records that were given up: %s",
                    self.shard.id,
                    recognisable(uri),
                    records,
                    self._plan.on_failure.trouble or "it has not answered yet",
                )
                await asyncio.wait({arriving, letting_go}, return_when=asyncio.FIRST_COMPLETED)
            return arriving.done() and not self._fenced
        finally:
            del self._held_up[lane]
            self._running += 1
            for each in (arriving, letting_go, telling):
                each.cancel()
            await asyncio.gather(arriving, letting_go, telling, return_exceptions=True)

    def _describe(self, records: Sequence[Record]) -> BatchInfo:
        trigger: Any = self._plan.trigger
        if records and hasattr(trigger, "describe"):
            try:
                described = cast(Describes, trigger).describe(self.shard.id, records)
                msgspec.json.encode(msgspec.convert(described, BatchInfo))  # what it is kept as
                return described
            except Exception:
                self._log.exception("the connector cannot describe a batch of %d records", len(records))
        first, last = (records[0].id, records[-1].id) if records else ("", "")
        info = {
            "shardId": self.shard.id,
            "startSequenceNumber": first,
            "endSequenceNumber": last,
            "batchSize": len(records),
        }
        return BatchInfo("BatchInfo", info)

    # --- how far it is done ------------------------------------------------------------------------------------------

    async def _keep_marks(self) -> None:
        """One after the other, each for all that has ended meanwhile."""
        delays = Delays(self._plan.jitter)
        unkept: Record | None = None  # the mark, as far as it has moved
        kept_window = self._lanes[0].window
        while True:
            await self._mark_moved.wait()
            self._mark_moved.clear()
            if self._fenced:
                return
            if (moved := self._progress.mark()) is not None:
                unkept = moved
                self._has_room.set()
            window = self._lanes[0].window
            try:
                if self._position is not None and (unkept is not None or window != kept_window):
                    await self._marks.keep(None if unkept is None else self._position(unkept), window)
                    unkept, kept_window = None, window
                if self._at_end and self._progress.idle:
                    await self._marks.finish()
                    self.finished = True
                    self._letting_go.set()
            except Overtaken:
                self._log.warning("%s is somebody else's by now: what was done of it is done again", self.shard.id)
                self.lose()
                return
            except Exception as error:
                self._plan.link.note(f"cannot keep how far {self.shard.id} is done", error)
                self._mark_moved.set()
                await self._clock.sleep(delays.next())
                continue
            delays.reset()
            if self._letting_go.is_set() and not self._running and not self._mark_moved.is_set():
                self._quiet = True
                self._look_again.set()


def _plain(records: Sequence[Record]) -> bytes:
    return b'{"Records":[%b]}' % b",".join([record.payload for record in records])
