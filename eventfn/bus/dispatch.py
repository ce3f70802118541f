"""Runs what was accepted: claims events from the engine, runs them, writes what the table in rules/lifecycle.py says.

    engine queue fn/<reference> ─claim─▶ lane ─admit─▶ pool ─outcome─▶ verdict ─▶ settled ─commit─▶ engine (+ outbox)

Fair between functions by construction: each has a lane of its own with its own bound of events that run, so one with
100,000 waiting events takes nothing from another's first. A lane exists only while its function has events.

What has ended while the last commit ran is kept by the next one, all of it together: nobody waits for it. Of a quick
function the same commit claims the next events, before those that run have ended (rules/claiming.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

import msgspec

from eventfn.bus import names
from eventfn.bus.admission import Admission
from eventfn.bus.bus import chained
from eventfn.bus.heartbeat import LEASE_MS, Heartbeat
from eventfn.bus.lanes import Lane, Lanes
from eventfn.bus.waiting import wait_for
from eventfn.clock import Clock
from eventfn.engine.contract import Claim, Complete, Engine, Message, Operation, Release, Send
from eventfn.errors import EngineError, Fenced, RecursiveInvocation
from eventfn.event import Invocation, Outcome
from eventfn.functions.managed import LATEST
from eventfn.functions.registry import Registry, Target
from eventfn.observe.metrics import Metrics
from eventfn.rules import lifecycle, records, recursion
from eventfn.rules.claiming import ClaimAhead
from eventfn.workers.contract import Pool

CLAIM_AT_ONCE = 64  # larger claims save nothing: the engine's cost is per commit, and group commit has it already
MOST_UNSETTLED = 1024  # events that have ended, and that the engine has not kept yet, until no more are claimed
# Seconds that an outcome waits, while others still run, for them to share its commit, which costs as much as running
# one. Nobody waits for it; a node that dies meanwhile leaves the event to be run once more.
SETTLE_AFTER = 0.002
ENGINE_PAUSE = 1.0  # seconds before a commit is tried again that the engine could not keep (disk full)

log = logging.getLogger("eventfn.dispatch")


class _Line:
    """The events of one function that are claimed and not settled."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.name = lane.name
        self.waiting: deque[Message] = deque()  # for a place
        self.running = 0
        self.unsettled = 0  # all of them
        self.full = False  # it waits for room, not for messages
        self.ahead = ClaimAhead()
        self.begins = False  # those that wait are being looked at


class _Settled(msgspec.Struct, frozen=True):
    """What is to be kept of one event: its row of the table."""

    line: _Line
    claim: Claim
    operations: list[Operation]


class Dispatcher:
    def __init__(
        self,
        functions: Registry,
        pool: Pool,
        engine: Engine,
        admission: Admission,
        metrics: Metrics,
        clock: Clock,
        *,
        in_flight_per_function: int,
    ) -> None:
        self._functions = functions
        self._pool = pool
        self._engine = engine
        self._admission = admission
        self._metrics = metrics
        self._clock = clock
        self._in_flight_per_function = in_flight_per_function
        self._heartbeat = Heartbeat(engine, clock)
        self._lanes = Lanes(engine, clock, names.EVENTS, self._work)
        self._lines: set[_Line] = set()
        self._settled: list[_Settled] = []
        self._something_settled = asyncio.Event()
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: asyncio.TaskGroup

    async def run(self) -> None:
        """Until cancelled. What is in flight then is left to its lease; `drain` first to hand it back."""
        async with asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self._heartbeat.run())
            self._tasks.create_task(self._lanes.run())
            self._tasks.create_task(self._keep())

    def look_again(self) -> None:
        """A function was declared, or changed: events that wait for it may run now."""
        self._lanes.look_again()

    async def drain(self, deadline: float) -> None:
        """Claims nothing more, hands back what does not run yet, waits for the rest, at most `deadline` seconds."""
        self._lanes.drain()
        for line in self._lines:
            self._begin(line)
        await wait_for(self._idle, self._clock, deadline)

    async def settled(self) -> None:
        """Returns once nothing is in flight: after the pool was closed, every event has been handed back."""
        await self._idle.wait()

    # --- one function ------------------------------------------------------------------------------------------------

    async def _work(self, lane: Lane) -> None:
        line = _Line(lane)
        self._lines.add(line)
        try:
            await self._work_off(line)
        finally:
            self._lines.discard(line)

    async def _work_off(self, line: _Line) -> None:
        lane = line.lane
        while not self._lanes.draining:
            lane.poke.clear()
            self._begin(line)
            limit = min(self._room(line), CLAIM_AT_ONCE)
            line.full = limit <= 0
            if line.full:
                self._when_room(line)
                await lane.poke.wait()
                continue
            messages = await self._claim(lane.queue, limit)
            line.unsettled += len(messages)
            line.waiting += messages
            self._begin(line)
            # Fewer than asked for are all there are: no second look, unless something came while this one was taken.
            if len(messages) < limit and not lane.poke.is_set():
                if not line.unsettled:
                    return
                await self._lanes.until_visible(lane)

    def _room(self, line: _Line) -> int:
        """How many more events are of use."""
        places = self._places(line)
        if places <= 0 and not line.running:
            return 0
        ahead = line.ahead.events(line.running + max(places, 0))
        ended = line.unsettled - line.running - len(line.waiting)
        return min(places + ahead - len(line.waiting), MOST_UNSETTLED - ended)

    def _places(self, line: _Line) -> int:
        free = self._in_flight_per_function - line.running
        target = self._functions.get(line.name)
        # An unknown function, or one with no places at all, needs none: its events are settled without running.
        if target is None or target.function.reserved_concurrency == 0:
            return free
        return min(free, self._admission.room(target.function.name))

    async def _claim(self, queue: str, limit: int) -> list[Message]:
        said = False
        while True:
            now = self._clock.now_ms()
            try:
                messages = await self._engine.claim(queue, limit, now + LEASE_MS, now)
            except EngineError as error:
                if not said:
                    log.warning("cannot claim events of %s, trying again: %s", queue, error)
                said = True
                await self._clock.sleep(ENGINE_PAUSE)
                continue
            if messages:
                self._heartbeat.claims.update([message.claim for message in messages])
                self._idle.clear()
            return messages

    def _begin(self, line: _Line) -> None:
        """As many of those that wait as there are places. None of them any more once the node drains."""
        if line.begins:  # one of them has ended at once: the loop below goes on
            return
        line.begins = True
        try:
            while line.waiting and self._lanes.draining:
                self._hand_back(line, line.waiting.popleft())
            while line.waiting:
                if self._places(line) <= 0:
                    self._when_room(line)
                    break
                self._start(line, line.waiting.popleft())
        finally:
            line.begins = False

    def _when_room(self, line: _Line) -> None:
        if line.running < self._in_flight_per_function:  # it is others who have the places
            self._admission.when_room(line.lane.poke.set)

    def _start(self, line: _Line, message: Message) -> None:
        event = lifecycle.Accepted(message.id, message.body, message.sent_ms, message.attempts, message.claims)
        target = self._functions.get(line.name)
        now = self._clock.now_ms()
        verdict: lifecycle.Verdict | None = None
        trace_id: str | None = None
        if target is not None or line.name not in self._functions:
            verdict = lifecycle.before_running(event, target.function if target else None, now)
        if target is not None and verdict is None:
            try:
                trace_id = _trace(target, message)
            except RecursiveInvocation:
                verdict = lifecycle.recursive()
        if verdict is not None:
            self._settle(line, message, event, verdict, None, target)
            return
        share = self._admission.enter(target.function.name) if target else None
        if target is None or share is None:  # it is not ready, or somebody else took the place since the claim
            held_back = lifecycle.Verdict(
                lifecycle.On.HELD_BACK, lifecycle.State.QUEUED, counted=False, visible_ms=now + lifecycle.backoff_ms(0)
            )
            self._settle(line, message, event, held_back, None, target)
            return
        counters = self._metrics.function(target.function.name)
        counters.invocations += 1
        self._running += 1
        line.running += 1
        began = self._clock.monotonic()

        def done(outcome: Outcome) -> None:
            self._running -= 1
            line.running -= 1
            line.ahead.took(self._clock.monotonic() - began)
            self._admission.leave(share)
            counters.finished(outcome)
            after = self._clock.now_ms()
            # The declaration that counts is the one in force now: a retry policy mended meanwhile applies at once.
            current = self._functions.get(line.name) or target
            verdict = lifecycle.after_running(event, outcome, current.function, after)
            if self._lanes.draining and verdict.on is lifecycle.On.HELD_BACK:
                verdict = lifecycle.handed_back(after)
            ran = msgspec.structs.replace(current, version=target.version)
            self._settle(line, message, event, verdict, outcome, ran)
            self._begin(line)

        invocation = Invocation(event.request_id, target.key, event.payload, target.arn, trace_id=trace_id)
        self._pool.invoke(invocation, done)

    # --- one row of the table, one transaction ------------------------------------------------------------------------

    def _settle(
        self,
        line: _Line,
        message: Message,
        event: lifecycle.Accepted,
        verdict: lifecycle.Verdict,
        outcome: Outcome | None,
        target: Target | None,
    ) -> None:
        """`target`: what it leads to now, with the version that ran; None: there is no such function any more."""
        now = self._clock.now_ms()
        operations: list[Operation] = []
        if verdict.next is lifecycle.State.QUEUED:
            error = f"{outcome.error_type}: {outcome.error_message}" if outcome and not outcome.ok else None
            operations.append(Release(message.claim, verdict.visible_ms, verdict.counted, error))
        else:
            operations.append(Complete(message.claim))
            function, arn, version = None, line.name, LATEST
            if target is not None:
                function, arn, version = target.function, target.arn, target.version
            for uri, record in records.leaving(event, verdict, outcome, function, arn, version, now):
                operations.append(Send(names.OUTBOX + uri, record.id, record.payload, record.attributes))
            if not verdict.success:
                self._metrics.function(line.name.partition(":")[0]).events_dropped += 1
        self._keep_soon(line, message.claim, operations)

    def _hand_back(self, line: _Line, message: Message) -> None:
        """It has not begun."""
        verdict = lifecycle.handed_back(self._clock.now_ms())
        self._keep_soon(line, message.claim, [Release(message.claim, verdict.visible_ms, verdict.counted)])

    def _keep_soon(self, line: _Line, claim: Claim, operations: list[Operation]) -> None:
        self._settled.append(_Settled(line, claim, operations))
        self._something_settled.set()

    async def _keep(self) -> None:
        """Until cancelled: one commit after the other, each for all that has ended meanwhile."""
        while True:
            await self._something_settled.wait()
            if self._running:
                await self._clock.sleep(SETTLE_AFTER)
            self._something_settled.clear()
            settled, self._settled = self._settled, []
            for one in settled:
                if one.line.full:  # what it claims now is kept by the same commit
                    one.line.lane.poke.set()
            try:
                await self._engine.commit([each for one in settled for each in one.operations], self._clock.now_ms())
            except EngineError:
                # A late answer, or a disk that is full for one of them, must not hold back the others.
                for one in settled:
                    self._tasks.create_task(self._keep_alone(one))
            else:
                self._over(settled)

    async def _keep_alone(self, settled: _Settled) -> None:
        """Tries until the engine has kept it or refused it: an outcome is not forgotten because a disk is full."""
        claim, said = settled.claim, False
        while True:
            try:
                await self._engine.commit(settled.operations, self._clock.now_ms())
            except Fenced:
                log.info("a late answer to %s %d was refused: it was claimed again", claim.queue, claim.sequence)
            except EngineError as error:
                if not said:
                    log.warning("cannot keep the outcome of %s %d yet: %s", claim.queue, claim.sequence, error)
                said = True
                await self._clock.sleep(ENGINE_PAUSE)
                continue
            break
        self._over([settled])

    def _over(self, settled: Sequence[_Settled]) -> None:
        for each in settled:
            line = each.line
            line.unsettled -= 1
            if line.full or not line.unsettled:  # for the others there is nothing new to see
                line.lane.poke.set()
            self._heartbeat.claims.discard(each.claim)
        if not self._heartbeat.claims:
            self._idle.set()


def _trace(target: Target, message: Message) -> str:
    """Raises RecursiveInvocation."""
    came_with = message.attributes.get(recursion.TRACE_HEADER)
    if came_with is None:  # the same for every attempt
        return recursion.rooted(target.unrooted, message.id, message.sent_ms)
    return chained(target, came_with)
