"""A source under the host that a node has, with a function in this process: bus.intake, bus.announce, bus.stream.

What belongs here: the host at work, and a look at all that goes between it and the source. What is expected of a source
under it: triggers.py and streams.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, cast

from eventfn.bus.announce import Announcer
from eventfn.bus.intake import Intake
from eventfn.bus.outbox import Outbox
from eventfn.bus.stream import HostAssignments, StreamIntake
from eventfn.engine.contract import Engine
from eventfn.errors import Throttled
from eventfn.event import Batch, Outcome, OutcomeKind, Record
from eventfn.functions.model import Function, TriggerBinding
from eventfn.functions.model import Intake as IntakeSettings
from eventfn.testing.clock import FakeClock
from eventfn.trigger import Done, Positions, Retry, Settlement, Shard, ShardReader, Start, Stream, Trigger

BATCH_SIZE = 10
CONCURRENCY = 2
ANNOUNCED_AT_ONCE = 100  # records that are read and not settled of a source whose records become durable events

Handle = Callable[[Sequence[Record]], Awaitable[bool]]  # whether the function succeeded with these
log = logging.getLogger("eventfn.testing.host")


class _Seen:
    """A source between the host and the real one: which records an event was made of."""

    def __init__(self, source: Any) -> None:
        self.connected = False
        self._source = source
        self._events: dict[bytes, tuple[Record, ...]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)  # also that a power is not there

    async def connect(self) -> None:
        await self._source.connect()
        self.connected = True

    def encode(self, records: Sequence[Record]) -> bytes:
        if hasattr(self._source, "encode"):
            event: bytes = self._source.encode(records)
        else:
            event = b'{"Records":[' + b",".join(record.payload for record in records) + b"]}"
        self._events[event] = tuple(records)
        return event

    def invoking(self, handle: Handle) -> Callable[[str, bytes], Awaitable[Outcome]]:
        async def invoke(function: str, event: bytes) -> Outcome:
            if await handle(self._events[event]):
                return Outcome(OutcomeKind.SUCCESS, b"null")
            return Outcome(OutcomeKind.FUNCTION_ERROR, b'{"errorMessage": "one in ten"}', error_type="ValueError")

        return invoke


class WatchedTrigger(_Seen):
    """What a trigger and its host cannot hide from it, it counts."""

    def __init__(self, trigger: Trigger) -> None:
        super().__init__(trigger)
        self.held = 0  # records that were read and not settled
        self.most_held = 0
        self.done: Counter[str] = Counter()  # record id -> how often it was settled as done
        self.settled_twice: list[Batch] = []
        self._open: list[Batch] = []

    async def read(self, limit: int) -> Batch:
        batch: Batch = await self._source.read(limit)
        self._open.append(batch)
        self.held += len(batch.records)
        self.most_held = max(self.most_held, self.held)
        return batch

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        places = [place for place, each in enumerate(self._open) if each is batch]
        if not places:
            self.settled_twice.append(batch)
            return
        self.held -= len(self._open.pop(places[0]).records)
        # At once, instead of by the source's own rules: a visibility timeout may be long, and is not in question here.
        await self._source.settle(
            batch, [Retry(after=0) if isinstance(settlement, Retry) else settlement for settlement in settlements]
        )
        for record, settlement in zip(batch.records, settlements, strict=True):
            self.done[record.id] += isinstance(settlement, Done)


class WatchedStream(_Seen):
    """Counts the shards that were opened, and the records that were read."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self.opened = 0
        self.read = 0

    async def open_shard(self, shard: Shard, at: str | Start) -> ShardReader:
        reader: ShardReader = await self._source.open_shard(shard, at)
        self.opened += 1
        return cast(ShardReader, _WatchedReader(reader, self))


class _WatchedReader:
    def __init__(self, reader: ShardReader, stream: WatchedStream) -> None:
        self._reader = reader
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def read(self, limit: int) -> Batch:
        batch = await self._reader.read(limit)
        self._stream.read += len(batch.records)
        return batch


class Unsteady:
    """A function that fails with one event in ten, the first time that it gets it, and with all that comes in a batch
    with it."""

    def __init__(self) -> None:
        self.handled: dict[str, Record] = {}  # in the order in which they were first handled
        self.failures = 0
        self._seen: set[str] = set()

    async def __call__(self, records: Sequence[Record]) -> bool:
        fails = False
        for record in records:
            if record.id not in self._seen:
                self._seen.add(record.id)
                fails |= len(self._seen) % 10 == 0
        if fails:
            self.failures += 1
            return False
        for record in records:
            self.handled.setdefault(record.id, record)
        return True


class Stuck:
    """A function that ends only once it is let go."""

    def __init__(self) -> None:
        self.handled: set[str] = set()
        self.let_go = asyncio.Event()

    async def __call__(self, records: Sequence[Record]) -> bool:
        await self.let_go.wait()
        self.handled.update(record.id for record in records)
        return True


@contextlib.asynccontextmanager
async def hosted(
    trigger: WatchedTrigger, settings: Any, name: str, positions: Positions, handle: Handle
) -> AsyncGenerator[None]:
    """The host of a trigger runs, on a clock of its own that goes fast; at the end it is drained."""
    clock = FakeClock()
    async with _running(_host(trigger, settings, name, positions, handle, clock), clock):
        yield


@contextlib.asynccontextmanager
async def hosted_stream(
    stream: WatchedStream,
    assignments: HostAssignments,
    settings: Any,
    name: str,
    start: Start,
    engine: Engine,
    handle: Handle,
) -> AsyncGenerator[None]:
    """The host of a stream runs, on a clock of its own that goes fast; at the end it is drained. What is done is kept
    in the engine, or by the source."""
    clock = FakeClock()
    intake = IntakeSettings(batch_size=BATCH_SIZE, starting_position=start.position)
    host = StreamIntake(
        _FUNCTION,
        f"arn:aws:lambda:us-east-1:000000000000:function:{_FUNCTION.name}",
        _binding(name, settings, intake),
        cast(Stream, stream),
        assignments,
        stream.invoking(handle),
        engine,
        Outbox(engine, clock),
        clock,
        owner="node",
        log=log,
    )
    async with _running(host, clock):
        yield


_FUNCTION = Function(name="hello", handler="hello.handler", code="")


def _binding(name: str, settings: Any, intake: IntakeSettings) -> TriggerBinding:
    return TriggerBinding(type=name, source=f"{_FUNCTION.name}/{name}/0", settings=settings, intake=intake)


def _host(
    trigger: WatchedTrigger, settings: Any, name: str, positions: Positions, handle: Handle, clock: FakeClock
) -> Intake | Announcer:
    source = cast(Trigger, trigger)
    if source.traits.invocation == "event":

        async def submit(record: Record) -> None:
            if not await handle([record]):
                raise Throttled("one in ten")
            if record.position is not None:
                await positions.put(record.position.key, record.position.value)

        return Announcer(_binding(name, settings, IntakeSettings()), source, submit, positions, clock, log=log)
    binding = _binding(name, settings, IntakeSettings(batch_size=BATCH_SIZE, maximum_concurrency=CONCURRENCY))
    return Intake(_FUNCTION, binding, source, trigger.invoking(handle), clock, log=log)


@contextlib.asynccontextmanager
async def _running(host: Intake | Announcer | StreamIntake, clock: FakeClock) -> AsyncGenerator[None]:
    running = asyncio.create_task(host.run())
    ticking = asyncio.create_task(tick(clock))
    try:
        yield
        await host.drain(5)
    finally:
        running.cancel()
        ticking.cancel()
        await asyncio.wait({running, ticking})
    if not running.cancelled():
        running.result()


async def tick(clock: FakeClock) -> None:
    """A clock that goes two hundred times as fast as the machine's, until cancelled."""
    while True:
        await asyncio.sleep(0.005)
        await clock.advance(1)
