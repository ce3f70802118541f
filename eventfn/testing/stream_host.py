"""The host of a stream, played for the conformance suite: one step at a time, and everything it saw is kept.

What belongs here: what the contract asks of a host: open, read, position, commit, revoke, parents before children.
What is expected of the stream in return: streams.py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

from eventfn.event import Batch, Record
from eventfn.testing.closing import close
from eventfn.testing.waiting import Changes
from eventfn.trigger import Commits, Lists, Shard, ShardReader, Start, Stream


class StreamHost:
    """Implements trigger.Assignments. `stream` is set once it is made: it needs the host first."""

    def __init__(self, start: Start, positions: dict[str, str]) -> None:
        self.stream: Stream
        self.positions = positions  # behind what is done, where the source does not remember it; outlives a host
        self.finished: set[str] = set()  # shards that were read to their end
        self.shards: dict[str, Shard] = {}  # ours now
        self.readers: dict[str, ShardReader] = {}
        self.history: list[
            tuple[str, str]
        ] = []  # ("assign" | "revoke" | "lost" | "end", shard), ("failed", why), in order
        self._start = start
        self._listed = False  # what shards() said still holds: children come when a shard ends
        self._behind: dict[str, str] = {}  # what was read of each shard, done or not
        self._reading: dict[str, asyncio.Task[Batch]] = {}
        self._ready: deque[tuple[str, Batch]] = deque()
        self._changes = Changes()

    # --- what the server says ----------------------------------------------------------------------------------------

    def assign(self, shards: Sequence[Shard]) -> None:
        for shard in shards:
            self.history.append(("assign", shard.id))
            assert shard.id not in self.shards, f"{shard.id} is ours already"
            self.shards[shard.id] = shard
        self._changes.tell()

    async def revoke(self, shards: Sequence[str], deadline: float) -> None:
        for shard in shards:
            self.history.append(("revoke", shard))
            await self._let_go(shard)

    def lost(self, shards: Sequence[str]) -> None:
        for shard in shards:
            self.history.append(("lost", shard))
            self._forget(shard)
            if (reading := self._reading.get(shard)) is not None:
                reading.cancel()
        self._changes.tell()

    def failed(self, error: Exception) -> None:
        self.history.append(("failed", str(error)))

    # --- what a test does --------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connects, and opens every shard that may be read; again after a ConnectorError."""
        await self._close_readers()
        self._listed = False
        await self.stream.connect()
        await self.open_shards()

    async def open_shards(self) -> None:
        """Opens what is ours and not open; waits until something is."""
        while True:
            change = self._changes.next()
            if not self._listed and isinstance(self.stream, Lists):
                self.shards = {shard.id: shard for shard in await self.stream.shards()}
                self._listed = True
            for shard in list(self.shards.values()):
                if shard.id in self.shards and self._may_open(shard):
                    at = self._behind.get(shard.id) or self.positions.get(shard.id) or self._start
                    reader = await self.stream.open_shard(shard, at)
                    if shard.id in self.shards:  # it may have been taken from us meanwhile
                        self.readers[shard.id] = reader
                    else:
                        await reader.close()
            if self.readers:
                return
            await change

    async def read(self, limit: int) -> tuple[str, Batch]:
        """The next batch of any shard: (shard, batch). Raises ConnectorError; then `connect` again."""
        while not self._ready:
            await self.open_shards()
            change = self._changes.next()
            for shard, reader in self.readers.items():
                self._reading[shard] = asyncio.ensure_future(reader.read(limit))
            try:
                waits: set[asyncio.Future[Any]] = {change, *self._reading.values()}
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await self._collect()
        shard, batch = self._ready.popleft()
        return shard, batch

    async def done(self, shard: str, *records: Record) -> None:
        """These are finished, and all before them are. Of a shard that is no longer ours it is dropped."""
        reader = self.readers.get(shard)
        if reader is None:
            return
        position = reader.position(records[-1])
        if hasattr(reader, "commit"):
            await cast(Commits, reader).commit(position)
        else:
            self.positions[shard] = position

    async def close(self, deadline: float = 5) -> None:
        await self._close_readers()
        await close(self.stream, deadline)

    # --- shards ------------------------------------------------------------------------------------------------------

    def _may_open(self, shard: Shard) -> bool:
        if shard.id in self.readers or shard.id in self.finished:
            return False
        return all(parent in self.finished or parent not in self.shards for parent in shard.parents)

    async def _collect(self) -> None:
        """The reads that came to an end, and an end to the others."""
        for reading in self._reading.values():
            reading.cancel()
        reads = dict(self._reading)
        results: list[Any] = await asyncio.gather(*reads.values(), return_exceptions=True)
        self._reading.clear()
        failures: list[BaseException] = []
        for (shard, _), result in zip(reads.items(), results, strict=True):
            if isinstance(result, asyncio.CancelledError) or shard not in self.readers:
                continue
            if isinstance(result, BaseException):
                failures.append(result)
            elif not result.records:
                self.history.append(("end", shard))
                self.finished.add(shard)
                self._listed = False
                await self.readers.pop(shard).close()
            else:
                self._behind[shard] = self.readers[shard].position(result.records[-1])
                self._ready.append((shard, result))
        if failures and not self._ready:
            raise failures[0]

    async def _let_go(self, shard: str) -> None:
        if (reading := self._reading.get(shard)) is not None:
            reading.cancel()
            await asyncio.wait({reading})
        reader = self.readers.get(shard)
        self._forget(shard)
        if reader is not None:
            await reader.close()
        self._changes.tell()

    def _forget(self, shard: str) -> None:
        self.shards.pop(shard, None)
        self.readers.pop(shard, None)
        self._behind.pop(shard, None)
        self._ready = deque(item for item in self._ready if item[0] != shard)

    async def _close_readers(self) -> None:
        for shard in list(self.readers):
            await self.readers.pop(shard).close()
