"""A stream in memory, and the two kinds of trigger that read streams.

`MemoryStream` plays the server: tests hold it, put records in, split its shards, take it down, look at what was
committed. Two connectors like any other find it by its name: `MemoryStreamTrigger` lists the shards and leaves the
rest to the host, as Kinesis does; `MemoryGroupTrigger` is told by the server which shards are its own, and the server
remembers how far they are done, as Kafka does.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import zlib
from collections.abc import Sequence
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import msgspec

from eventfn.errors import ConnectorError
from eventfn.event import Batch, Record
from eventfn.testing.waiting import Changes
from eventfn.trigger import BatchInfo, Shard, ShardReader, Start, Traits, TriggerContext

# Weak: a stream lives as long as the test that made it, so nothing leaks from one test into the next.
_streams: WeakValueDictionary[str, MemoryStream] = WeakValueDictionary()

REVOKE_SECONDS = 10.0  # that a member of a group has to finish what it had of a shard


class _Part:
    """One shard as the server has it. A position is the number of the record to go on with: "7"."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.records: list[Record] = []
        self.closed = False


class MemoryStream:
    """What the triggers here read: a server in memory that outlives them.

    stream = MemoryStream("orders", shards=2)
    stream.put({"order": 7}, key="Ada")
    assert stream.committed == {"shard-0": "1"}
    """

    def __init__(self, name: str = "memory", shards: int = 1) -> None:
        self.name = name
        self.down = False  # while true, nothing can be connected to
        self.connection = 0  # grows when all connections break: what was opened before is of no use any more
        self.opened: list[tuple[str, str | Start]] = []  # every (shard, at) that was asked for, in order
        self.commits: list[tuple[str, str]] = []  # every (shard, position) that was taken, in order
        self.late_commits: list[tuple[str, str]] = []  # those of a member that had lost the shard: they change nothing
        self.committed: dict[str, str] = {}  # shard -> position
        self.owners: dict[str, object] = {}  # shard -> the member of the group that has it
        self.changes = Changes()
        self._members: list[object] = []
        self._parts: dict[str, _Part] = {}
        self._numbers = itertools.count()
        self._next_of_no_key = itertools.count()
        for _ in range(shards):
            self._add()
        _streams[name] = self

    # --- what tests do -----------------------------------------------------------------------------------------------

    def put(
        self, value: Any, *, key: str | None = None, shard: str | None = None, arrived_ms: int | None = None
    ) -> str:
        """The id of the new record. One key is always in one shard; without a key the shards take turns."""
        part = self._parts[shard] if shard is not None else self._part_for(key)
        assert not part.closed, f"{shard} is closed"
        offset = len(part.records)
        shown = {"shard": part.shard.id, "offset": offset, "key": key, "value": value}
        part.records.append(
            Record(
                id=f"{part.shard.id}:{offset}",
                payload=msgspec.json.encode(shown),
                group=key,
                arrived_ms=time.time_ns() // 1_000_000 if arrived_ms is None else arrived_ms,
                token=offset,
            )
        )
        self.changes.tell()
        return part.records[-1].id

    def split(self, shard: str, into: int = 2) -> list[str]:
        """Closes a shard; the ids of its children, which take what is put in from now on."""
        self._parts[shard].closed = True
        children = [self._add((shard,)) for _ in range(into)]
        self.changes.tell()
        return children

    def merge(self, *shards: str) -> str:
        """Closes the shards; the id of their one child."""
        for shard in shards:
            self._parts[shard].closed = True
        child = self._add(shards)
        self.changes.tell()
        return child

    def take_down(self) -> None:
        """Connections break, new ones are refused; a group has no members any more."""
        self.down = True
        self._break()

    def bring_up(self) -> None:
        self.down = False
        self.changes.tell()

    def break_connections(self) -> None:
        """Connections break, and new ones are taken at once."""
        self._break()

    def expel(self) -> None:
        """Members of the group lose their shards without having been asked, as after a time without a sign of life."""
        self.owners.clear()
        self.changes.tell()

    def values(self, shard: str) -> list[Any]:
        return [msgspec.json.decode(record.payload)["value"] for record in self._parts[shard].records]

    # --- the server's side, for the triggers ---------------------------------------------------------------------

    def shards(self) -> list[Shard]:
        return [part.shard for part in self._parts.values()]

    def is_closed(self, shard: str) -> bool:
        return self._parts[shard].closed

    def first(self, shard: str, at: Start) -> int:
        """The offset of the first record that a reader gets who starts there."""
        records = self._parts[shard].records
        match at.position:
            case "TRIM_HORIZON":
                return 0
            case "LATEST":
                return len(records)
            case "AT_TIMESTAMP":
                wanted = at.timestamp_ms or 0
                return next((i for i, record in enumerate(records) if record.arrived_ms >= wanted), len(records))

    def take(self, shard: str, offset: int, limit: int) -> tuple[Record, ...]:
        return tuple(self._parts[shard].records[offset : offset + limit])

    def behind(self, shard: str, offset: int) -> int:
        return len(self._parts[shard].records) - offset

    def join(self, member: object) -> None:
        if member not in self._members:
            self._members.append(member)
            self.changes.tell()

    def leave(self, member: object) -> None:
        if member in self._members:
            self._members.remove(member)
        for shard in self.owned_by(member):
            del self.owners[shard]
        self.changes.tell()

    def share_of(self, member: object) -> set[str]:
        """The shards that this member is to have, once those who have them now have let them go."""
        place, count = self._members.index(member), len(self._members)
        return {shard for number, shard in enumerate(self._parts) if number % count == place}

    def owned_by(self, member: object) -> set[str]:
        return {shard for shard, owner in self.owners.items() if owner is member}

    def release(self, member: object, shards: set[str]) -> None:
        for shard in shards & self.owned_by(member):
            del self.owners[shard]
        self.changes.tell()

    def commit(self, member: object, shard: str, position: str) -> bool:
        """Whether it was taken: only the shard's owner says how far it is done."""
        if self.owners.get(shard) is not member:
            self.late_commits.append((shard, position))
            return False
        self.commits.append((shard, position))
        self.committed[shard] = position
        self.changes.tell()
        return True

    def _add(self, parents: tuple[str, ...] = ()) -> str:
        shard = Shard(f"shard-{next(self._numbers)}", parents)
        self._parts[shard.id] = _Part(shard)
        return shard.id

    def _part_for(self, key: str | None) -> _Part:
        open_parts = [part for part in self._parts.values() if not part.closed]
        number = next(self._next_of_no_key) if key is None else zlib.crc32(key.encode())
        return open_parts[number % len(open_parts)]

    def _break(self) -> None:
        self.connection += 1
        self._members.clear()
        self.owners.clear()
        self.changes.tell()


class MemoryReader:
    """A shard that is being read, over the connection in which it was opened."""

    def __init__(self, trigger: ConnectedTrigger, shard: str, offset: int) -> None:
        self._trigger = trigger
        self._connection = trigger.connected().connection
        self.shard = shard
        self.offset = offset  # of the next record

    async def read(self, limit: int) -> Batch:
        while True:
            stream = self.connected()
            # Nothing is awaited between taking and returning: a cancelled read has taken nothing.
            if records := stream.take(self.shard, self.offset, limit):
                self.offset += len(records)
                return Batch(records)
            if stream.is_closed(self.shard):
                return Batch(())
            await stream.changes.next()

    def position(self, record: Record) -> str:
        return str(record.token + 1)

    async def close(self) -> None:
        self._connection = -1

    def connected(self) -> MemoryStream:
        stream = self._trigger.connected()
        if stream.connection != self._connection:
            raise ConnectorError(f"the connection of {self.shard} is closed")
        return stream


class MemoryCommittingReader(MemoryReader):
    async def commit(self, position: str) -> None:
        if not self.connected().commit(self._trigger, self.shard, position):
            raise ConnectorError(f"{self.shard} is another member's: {position} is not committed")


class ConnectedTrigger:
    """What both triggers have in common: a connection that may break."""

    class Settings(msgspec.Struct, frozen=True, kw_only=True):
        name: str = "memory"  # the MemoryStream to read

    Shared: ClassVar[type[msgspec.Struct] | None] = None
    traits: ClassVar[Traits] = Traits(
        invocation="request_response", ack="prefix", ordered=True, max_batch_size=10_000, default_batch_size=100
    )
    data_key: ClassVar[str] = "value"
    reader_class: ClassVar[type[MemoryReader]] = MemoryReader

    def __init__(self, settings: Settings, shared: None, context: TriggerContext) -> None:
        self._name = settings.name
        self._stream: MemoryStream | None = None
        self._connection = 0

    async def connect(self) -> None:
        stream = _streams.get(self._name)
        if stream is None or stream.down:
            raise ConnectorError(f"there is no MemoryStream named {self._name!r}, or it is down")
        self._stream, self._connection = stream, stream.connection

    def connected(self) -> MemoryStream:
        if self._stream is None or self._stream.connection != self._connection:
            raise ConnectorError(f"MemoryStream {self._name!r} is down")
        return self._stream

    async def open_shard(self, shard: Shard, at: str | Start) -> ShardReader:
        stream = self.connected()
        stream.opened.append((shard.id, at))
        return self.reader_class(self, shard.id, self.offset(stream, shard.id, at))

    def offset(self, stream: MemoryStream, shard: str, at: str | Start) -> int:
        return int(at) if isinstance(at, str) else stream.first(shard, at)

    async def close(self, deadline: float) -> None:
        self._stream = None

    def describe(self, shard: str, records: Sequence[Record]) -> BatchInfo:
        first, last = records[0].token, records[-1].token
        return BatchInfo(
            "MemoryBatchInfo",
            {"shardId": shard, "startOffset": first, "endOffset": last, "batchSize": len(records)},
        )


class MemoryStreamTrigger(ConnectedTrigger):
    """Lists its shards: the host shares them out and keeps the positions."""

    async def shards(self) -> Sequence[Shard]:
        return self.connected().shards()


class MemoryGroupTrigger(ConnectedTrigger):
    """Is told which shards are its own: all triggers of one stream are one group. Its readers commit."""

    reader_class = MemoryCommittingReader

    def __init__(self, settings: ConnectedTrigger.Settings, shared: None, context: TriggerContext) -> None:
        super().__init__(settings, shared, context)
        assert context.assignments is not None, "a stream that cannot list its shards reports to context.assignments"
        self._assignments = context.assignments
        self._held: set[str] = set()  # what the host was given, and has not given back
        self._membership: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        await self._end_membership()
        if self._held:
            self._assignments.lost(sorted(self._held))
            self._held.clear()
        await super().connect()
        self._membership = asyncio.create_task(self._belong(self.connected()))

    def offset(self, stream: MemoryStream, shard: str, at: str | Start) -> int:
        return super().offset(stream, shard, stream.committed.get(shard, at) if isinstance(at, Start) else at)

    async def pending(self) -> int:
        """What is not committed of the shards that are this member's."""
        stream = self.connected()
        return sum(stream.behind(shard, int(stream.committed.get(shard, "0"))) for shard in stream.owned_by(self))

    async def close(self, deadline: float) -> None:
        await self._end_membership()
        if self._stream is not None:
            self._stream.leave(self)
        await super().close(deadline)

    async def _belong(self, stream: MemoryStream) -> None:
        """The life of a member, as long as its connection lasts. One that has a shard leaves it to its reader to say
        that it is over; one that has none connects again by itself."""
        while True:
            change = stream.changes.next()
            if stream.connection != self._connection:
                if self._held:
                    return
                if not stream.down:
                    self._connection = stream.connection
            if stream.connection == self._connection:
                stream.join(self)
                await self._balance(stream)
            await change

    async def _balance(self, stream: MemoryStream) -> None:
        held, connection = self._held, stream.connection
        if gone := held - stream.owned_by(self):
            self._assignments.lost(sorted(gone))
            held -= gone
        if leaving := held - stream.share_of(self):
            await self._assignments.revoke(sorted(leaving), REVOKE_SECONDS)
            held -= leaving
            stream.release(self, leaving)
        if stream.connection != connection:
            return
        if free := {shard for shard in stream.share_of(self) - held if shard not in stream.owners}:
            stream.owners.update(dict.fromkeys(free, self))
            held |= free
            self._assignments.assign([shard for shard in stream.shards() if shard.id in free])

    async def _end_membership(self) -> None:
        if self._membership is not None:
            self._membership.cancel()
            await asyncio.gather(self._membership, return_exceptions=True)
            self._membership = None
