"""The host of one stream: a trigger that only knows "all up to here", read shard by shard.

    connect ─▶ which shards are ours (sharing.py, or the source says it) ─▶ a ShardHost for each (shard.py)

What belongs here: the life of the whole, and what its shards have in common.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Any, cast

from eventfn.bus.intake import Invoke
from eventfn.bus.link import Link
from eventfn.bus.marks import Marks, SourceMarks
from eventfn.bus.on_failure import OnFailure
from eventfn.bus.outbox import Outbox
from eventfn.bus.shard import LAST_WORD, ShardHost, StreamPlan
from eventfn.bus.sharing import Sharing
from eventfn.bus.source import Jitter, SourceStatus
from eventfn.bus.waiting import within
from eventfn.clock import Clock
from eventfn.engine.contract import Engine
from eventfn.functions.model import Function, Intake, TriggerBinding
from eventfn.rules.batching import ENVELOPE
from eventfn.rules.filters import compile_criteria
from eventfn.rules.records import BUILT_IN_DEAD_LETTERS
from eventfn.rules.streaming import Policy
from eventfn.trigger import Lists, Pending, Shard, Start, Stream, Traits

# Bytes of the event around its records, where a connector makes it (Kafka's names the brokers) or a state is in it.
ROOM_FOR_AN_ENVELOPE = 4096
ROOM_FOR_A_STATE = 1_200_000


class StreamIntake:
    """The host of one trigger with ack="prefix". `run` it once; `drain` ends it."""

    def __init__(
        self,
        function: Function,
        function_arn: str,
        binding: TriggerBinding,
        trigger: Stream,
        assignments: HostAssignments,
        invoke: Invoke,
        engine: Engine,
        outbox: Outbox,
        clock: Clock,
        *,
        owner: str,
        log: logging.Logger,
        jitter: Jitter = random.random,
    ) -> None:
        settings = binding.intake
        self._source = binding.source
        self._trigger = trigger
        self._assignments = assignments
        self._engine = engine
        self._clock = clock
        self._log = log
        self._owner = owner
        self._start = _start(settings, trigger.traits)
        self._link = Link(trigger, clock, log, jitter)
        filters = settings.filter_criteria
        self._plan = StreamPlan(
            function=function.name,
            trigger=trigger,
            link=self._link,
            invoke=invoke,
            on_failure=OnFailure(
                outbox,
                clock,
                source=binding.source,
                function_arn=function_arn,
                uri=settings.on_failure or BUILT_IN_DEAD_LETTERS,
            ),
            places=None if settings.maximum_concurrency is None else asyncio.Semaphore(settings.maximum_concurrency),
            filters=compile_criteria(filters, getattr(trigger, "data_key", None), getattr(trigger, "filtering", None))
            if filters
            else None,
            policy=_policy(settings, trigger),
            lanes=settings.parallelization_factor,
            report_failures=settings.report_batch_item_failures,
            clock=clock,
            log=log,
            jitter=jitter,
        )
        self._hosts: dict[str, ShardHost] = {}  # of the shards that are ours, those that are let go included
        self._running: list[ShardHost] = []  # beside them those that were lost, and have not come to their end
        self._tasks: asyncio.TaskGroup
        self._sharing: Sharing | None = None
        self._draining = asyncio.Event()
        self._drain_seconds = 0.0
        self._ended = asyncio.Event()
        self._ended.set()

    @property
    def status(self) -> SourceStatus:
        status = self._link.status
        status.batches_in_flight = sum(host.batches_in_flight for host in self._hosts.values())
        arrived = [
            record.arrived_ms for host in self._hosts.values() if (record := host.oldest()) and record.arrived_ms
        ]
        status.held_up = [held_up for host in self._hosts.values() for held_up in host.held_up]
        status.iterator_age_ms = max(0, self._clock.now_ms() - min(arrived)) if arrived else 0
        return status

    async def tried(self) -> None:
        """Returns once the source is connected, or the first try has failed."""
        await self._link.tried.wait()

    async def pending(self) -> int | None:
        """How many records wait in the source; None when it cannot say."""
        if not hasattr(self._trigger, "pending") or not self._link.status.connected:
            return None
        try:
            async with self._link.one_at_a_time:
                return await cast(Pending, self._trigger).pending()
        except Exception as error:
            self._link.note("cannot say how much is waiting", error)
            return None

    # --- its life ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until drained, or cancelled: then what is not kept as done is read again."""
        self._ended.clear()
        self._assignments.host = self
        try:
            async with asyncio.TaskGroup() as self._tasks:
                linking = self._tasks.create_task(self._link.run())
                finding = self._tasks.create_task(self._find_shards())
                await self._draining.wait()
                finding.cancel()
                await asyncio.gather(finding, return_exceptions=True)
                await self._let_go()
                linking.cancel()
        finally:
            self._assignments.host = None
            await self._close()
            self._ended.set()

    async def drain(self, deadline: float) -> None:
        """Reads no more, lets functions finish what they have for at most `deadline` seconds, keeps what is done."""
        self._drain_seconds = deadline
        self._draining.set()
        await self._ended.wait()

    async def _let_go(self) -> None:
        if self._sharing is not None:
            try:  # each shard has its seconds and its reader's last word; then the engine has as long
                await within(
                    self._sharing.let_go(self._drain_seconds), self._clock, self._drain_seconds + 2 * LAST_WORD
                )
            except TimeoutError:
                self._log.warning("the engine does not answer: its shards stay with this node until its leases lapse")
        await asyncio.gather(*(host.let_go(self._drain_seconds) for host in list(self._running)))

    async def _close(self) -> None:
        try:
            await within(self._trigger.close(LAST_WORD), self._clock, LAST_WORD)
        except Exception as error:
            self._link.note("cannot close", error)
        self._link.status.connected = False

    # --- which shards ------------------------------------------------------------------------------------------------

    async def _find_shards(self) -> None:
        if not hasattr(self._trigger, "shards"):
            await asyncio.Event().wait()  # the source says it, through the assignments
        self._sharing = Sharing(
            cast(Lists, self._trigger),
            self._link,
            self._engine,
            self._clock,
            source=self._source,
            owner=self._owner,
            start=self._start,
            begin=self._begin,
            log=self._log,
        )
        await self._sharing.run()

    def _begin(self, shard: Shard, marks: Marks, start: Start) -> ShardHost:
        host = ShardHost(shard, self._plan, marks, start)
        before = [each for each in self._running if each.shard.id == shard.id]
        self._hosts[shard.id] = host
        self._running.append(host)
        self._tasks.create_task(self._run_shard(host, before))
        return host

    async def _run_shard(self, host: ShardHost, before: Sequence[ShardHost]) -> None:
        try:
            for each in before:  # one after the other: their commits would mix
                await each.ended.wait()
            await host.run()
        except Exception as error:
            # A fault of ours, said aloud. It stops no other source; this one connects anew, and goes on where it was.
            what = f"eventfn bug: the work on {host.shard.id} broke off"
            if self._link.up.is_set():
                self._link.lost(self._link.generation, what, error)
            else:
                self._link.note(what, error)
        finally:
            self._running.remove(host)
            if self._hosts.get(host.shard.id) is host:
                del self._hosts[host.shard.id]
            if self._sharing is not None and host.finished:
                self._sharing.ended()

    def assign(self, shards: Sequence[Shard]) -> None:
        if self._link.up.is_set():
            self._link.mended()
        for shard in shards:
            held = self._hosts.get(shard.id)
            if (held is None or held.ending) and not self._draining.is_set():
                self._begin(shard, SourceMarks(self._clock), self._start)

    def failed(self, error: Exception) -> None:
        self._link.failed("is not a member of its group", error)

    async def revoke(self, shards: Sequence[str], deadline: float) -> None:
        hosts = [self._hosts[shard] for shard in shards if shard in self._hosts]
        await asyncio.gather(*(host.let_go(deadline) for host in hosts))

    def lost(self, shards: Sequence[str]) -> None:
        for shard in shards:
            if shard in self._hosts:
                self._hosts.pop(shard).lose()


class HostAssignments:
    """Implements trigger.Assignments. A trigger gets it before there is its host; what it is told before the host runs,
    or after, is of no shard that is read."""

    def __init__(self) -> None:
        self.host: StreamIntake | None = None

    def assign(self, shards: Sequence[Shard]) -> None:
        if self.host is not None:
            self.host.assign(shards)

    async def revoke(self, shards: Sequence[str], deadline: float) -> None:
        if self.host is not None:
            await self.host.revoke(shards, deadline)

    def lost(self, shards: Sequence[str]) -> None:
        if self.host is not None:
            self.host.lost(shards)

    def failed(self, error: Exception) -> None:
        if self.host is not None:
            self.host.failed(error)


def _start(settings: Intake, traits: Traits) -> Start:
    at = settings.starting_position_timestamp
    return Start(settings.starting_position or traits.starting_positions[0], None if at is None else round(at * 1000))


def _policy(settings: Intake, trigger: Any) -> Policy:
    envelope = ROOM_FOR_AN_ENVELOPE if hasattr(trigger, "encode") else ENVELOPE
    if settings.tumbling_window:
        envelope += ROOM_FOR_A_STATE
    return Policy(
        batch_size=settings.batch_size or trigger.traits.default_batch_size,
        batching_window=float(settings.maximum_batching_window),
        bisect=settings.bisect_batch_on_function_error,
        maximum_retry_attempts=settings.maximum_retry_attempts,
        maximum_record_age=None if settings.maximum_record_age is None else float(settings.maximum_record_age),
        tumbling_window=float(settings.tumbling_window),
        envelope=envelope,
    )
