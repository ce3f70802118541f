"""A source and a sink in memory, with the trigger and the destination that speak to them.

`MemorySource` and `MemorySink` play the server: tests hold them, put events in, look at what became of them, take
them down. `MemoryTrigger` and `MemoryDestination` are connectors like any other and find theirs by its name.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import msgspec

from eventfn.clock import Clock
from eventfn.destination import WRITTEN, Delivery, DestinationContext, OutgoingRecord
from eventfn.errors import ConnectorError
from eventfn.event import Batch, Record
from eventfn.testing.waiting import Changes
from eventfn.trigger import Done, Reject, Retry, Settlement, Traits, TriggerContext

# Weak: a source or a sink lives as long as the test that made it, so nothing leaks from one test into the next.
_sources: WeakValueDictionary[str, MemorySource] = WeakValueDictionary()
_sinks: WeakValueDictionary[str, MemorySink] = WeakValueDictionary()


class _Entry:
    """One record in a source: whose it is while it is in flight, and when it may be handed out again."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.holder: object | None = None
        self.not_before = 0.0
        self.receives = 0


class MemorySource:
    """What a MemoryTrigger reads: a server in memory that outlives the trigger.

    source = MemorySource("orders")
    source.put({"order": 7})
    await source.until_settled(1)
    assert source.settlements == [("1", DONE)]
    """

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.down = False  # while true, connect and read raise ConnectorError
        self.settlements: list[tuple[str, Settlement]] = []  # (record id, what became of it), in order
        self._entries: list[_Entry] = []
        self._sequence = itertools.count(1)
        self._changes = Changes()
        _sources[name] = self

    @property
    def pending(self) -> int:
        """Records that are not finished, those in flight included."""
        return len(self._entries)

    def put(
        self,
        event: Any,
        *,
        id: str | None = None,  # noqa: A002 - Record's own word
        group: str | None = None,
        arrived_ms: int = 0,
        trace: str | None = None,
    ) -> str:
        """The id of the new record; `event` is any JSON value."""
        record_id = id or str(next(self._sequence))
        record = Record(
            id=record_id, payload=msgspec.json.encode(event), group=group, arrived_ms=arrived_ms, trace=trace
        )
        self._entries.append(_Entry(record))
        self._changes.tell()
        return record_id

    def take_down(self) -> None:
        """Connections break, new ones are refused; what was in flight is handed out again later."""
        self.down = True
        for entry in self._entries:
            entry.holder = None
        self._changes.tell()

    def bring_up(self) -> None:
        self.down = False

    async def until_settled(self, count: int) -> None:
        """Returns once `count` settlements were made."""
        while len(self.settlements) < count:
            await self._changes.next()

    # --- the server's side, for MemoryTrigger --------------------------------------------------------------------

    def take(self, holder: object, limit: int, now: float) -> list[Record]:
        """Up to `limit` records, theirs until settled. A group waits behind its first record that is not to be had."""
        taken: list[Record] = []
        blocked: set[str] = set()
        for entry in self._entries:
            if len(taken) == limit:
                break
            group = entry.record.group
            if group in blocked:
                continue
            if entry.holder is None and entry.not_before <= now:
                entry.holder = holder
                entry.receives += 1
                taken.append(msgspec.structs.replace(entry.record, receives=entry.receives))
            elif group is not None:
                blocked.add(group)
        return taken

    def settle(self, holder: object, record: Record, settlement: Settlement, now: float) -> None:
        """A late settlement, of a record that is no longer this holder's, changes nothing."""
        entry = next((entry for entry in self._entries if entry.record.id == record.id), None)
        if entry is None or entry.holder is not holder:
            return
        self.settlements.append((record.id, settlement))
        match settlement:
            case Done() | Reject():
                self._entries.remove(entry)
            case Retry(after):
                entry.holder, entry.not_before = None, now + (after or 0)
        self._changes.tell()

    def let_go(self, holder: object) -> None:
        """The holder's connection ended: what it had and did not settle is there again."""
        for entry in self._entries:
            if entry.holder is holder:
                entry.holder = None
        self._changes.tell()

    async def until_ready(self, clock: Clock) -> None:
        """Returns when a take may find something new: a change, or the end of a delay."""
        delayed = [entry.not_before for entry in self._entries if entry.holder is None]
        change = self._changes.next()
        waits: set[asyncio.Future[None]] = {change}
        if delayed:
            waits.add(asyncio.ensure_future(clock.sleep(min(delayed) - clock.monotonic())))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


class MemoryTrigger:
    """A complete trigger: settles each record by itself, keeps the order of a group, hands out again what it must."""

    class Settings(msgspec.Struct, frozen=True, kw_only=True):
        name: str = "memory"  # the MemorySource to read

    Shared: ClassVar[type[msgspec.Struct] | None] = None
    traits: ClassVar[Traits] = Traits(invocation="request_response", ordered=True)

    def __init__(self, settings: Settings, shared: None, context: TriggerContext) -> None:
        self._settings = settings
        self._clock = context.clock
        self._source: MemorySource | None = None

    async def connect(self) -> None:
        source = _sources.get(self._settings.name)
        if source is None or source.down:
            raise ConnectorError(f"there is no MemorySource named {self._settings.name!r}, or it is down")
        self._source = source

    async def read(self, limit: int) -> Batch:
        while True:
            source = self._connected()
            # Nothing is awaited between taking and returning: a cancelled read has taken nothing.
            if records := source.take(self, limit, self._clock.monotonic()):
                return Batch(records=tuple(records))
            await source.until_ready(self._clock)

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        source = self._connected()
        for record, settlement in zip(batch.records, settlements, strict=True):
            source.settle(self, record, settlement, self._clock.monotonic())

    async def pending(self) -> int:
        return self._connected().pending

    async def close(self, deadline: float) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.let_go(self)

    def _connected(self) -> MemorySource:
        if self._source is None or self._source.down:
            raise ConnectorError(f"MemorySource {self._settings.name!r} is down")
        return self._source


class MemorySink:
    """What a MemoryDestination writes to. `records` holds each record once, however often it was written.

    sink = MemorySink("orders")
    sink.answers.append(RetryAfter("busy"))   # what the next record gets instead of Written
    """

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.down = False  # while true, connect and write raise ConnectorError
        self.answers: deque[Delivery] = deque()
        self.tries: list[OutgoingRecord] = []  # everything that was ever written, refused records too
        self._records: dict[str, OutgoingRecord] = {}
        self._written = asyncio.Event()
        _sinks[name] = self

    @property
    def records(self) -> list[OutgoingRecord]:
        return list(self._records.values())

    def write(self, record: OutgoingRecord) -> Delivery:
        self.tries.append(record)
        answer = self.answers.popleft() if self.answers else WRITTEN
        if answer == WRITTEN:
            self._records.setdefault(record.id, record)
            self._written.set()
        return answer

    async def until_written(self, count: int) -> None:
        """Returns once `count` different records are there."""
        while len(self._records) < count:
            self._written.clear()
            await self._written.wait()


class MemoryDestination:
    """`memory:NAME` writes to the MemorySink of that name."""

    class Settings(msgspec.Struct, frozen=True, kw_only=True):
        pass

    idempotent: ClassVar[bool] = True

    @classmethod
    def check(cls, target: str, settings: Settings) -> str | None:
        return None if target.isidentifier() else "expected the name of a MemorySink, as in memory:orders"

    def __init__(self, target: str, settings: Settings, context: DestinationContext) -> None:
        self._name = target

    async def connect(self) -> None:
        self._sink()

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        sink = self._sink()
        return [sink.write(record) for record in records]

    async def close(self, deadline: float) -> None:
        pass

    def _sink(self) -> MemorySink:
        sink = _sinks.get(self._name)
        if sink is None or sink.down:
            raise ConnectorError(f"there is no MemorySink named {self._name!r}, or it is down")
        return sink
