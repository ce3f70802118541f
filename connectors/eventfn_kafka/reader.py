"""One partition that is being read, and whose offset is committed when the host says how far it is done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from eventfn.errors import ConnectorError
from eventfn.event import Batch, Record
from eventfn.trigger import Start
from eventfn_kafka.beginning import beginning, earliest
from eventfn_kafka.commits import Commits
from eventfn_kafka.connecting import REQUEST
from eventfn_kafka.library import errors, outside
from eventfn_kafka.shape import Shaping, offset_of, shard_id

# A consumer asks its brokers at least every second, and notes when it had an answer. So many of these in a row
# without one, and the partition cannot be read: its brokers are gone, or the way to them.
_PULSE = 2.0  # seconds
_MISSED = 3


class PartitionReader:
    def __init__(
        self,
        consumer: Any,
        commits: Commits,
        partition: Any,
        shaping: Shaping,
        log: logging.Logger,
        closed: Callable[[PartitionReader], None],
    ) -> None:
        self._consumer = consumer
        self._commits = commits
        self._partition = partition
        self._name = shard_id(partition.topic, partition.partition)
        self._shaping = shaping
        self._log = log
        self._closed = closed
        self._done = 0  # the offset that is committed, or where it all starts
        self._note = ""

    async def open(self, at: str | Start) -> None:
        with outside(f"opening {self._name}"):
            async with asyncio.timeout(REQUEST):
                begin = await beginning(self._consumer, self._partition, None if isinstance(at, str) else at)
                self._done, self._note = begin.offset, begin.note
                if not begin.committed:
                    await self._commits.commit(self._partition, begin.offset, begin.note)
                self._consumer.seek(self._partition, int(at) if isinstance(at, str) else begin.offset)

    # --- reading -----------------------------------------------------------------------------------------------------

    async def read(self, limit: int) -> Batch:
        heard, missed = None, 0
        while True:
            with outside(f"reading {self._name}"):
                try:
                    got = await self._consumer.getmany(self._partition, timeout_ms=_PULSE * 1000, max_records=limit)
                except errors.OffsetOutOfRangeError:
                    await self._skip_what_is_gone()
                    continue
            for consumed in got.values():
                # Nothing is awaited between taking and returning: a cancelled read has taken nothing.
                return Batch(self._shaping(consumed))
            if self._partition not in self._consumer.assignment():
                raise ConnectorError(f"{self._name} is not assigned to this node any more")
            last = self._consumer.last_poll_timestamp(self._partition)
            heard, missed = last, missed + 1 if last == heard else 0
            if missed == _MISSED:
                raise ConnectorError(f"no broker has answered for {self._name} for {_PULSE * _MISSED:g} s")

    async def _skip_what_is_gone(self) -> None:
        """The broker has deleted where we were, or has made the topic anew: what it has is read from its beginning."""
        async with asyncio.timeout(REQUEST):
            first = await earliest(self._consumer, self._partition)
            self._log.warning(
                "%s: offset %d is not there any more, deleted before it was read; going on with %d",
                self._name,
                await self._consumer.position(self._partition),
                first,
            )
            self._consumer.seek(self._partition, first)

    def position(self, record: Record) -> str:
        return str(offset_of(record) + 1)

    # --- what is done ------------------------------------------------------------------------------------------------

    async def commit(self, position: str) -> None:
        offset = int(position)
        await self._commits.commit(self._partition, offset, self._note)
        self._done = offset

    @staticmethod
    async def lag(consumer: Any, readers: Sequence[PartitionReader]) -> int:
        if not readers:
            return 0
        with outside("asking how far the group is behind"):
            async with asyncio.timeout(REQUEST):
                ends: dict[Any, int] = await consumer.end_offsets([reader._partition for reader in readers])
        return sum(max(0, ends[reader._partition] - reader._done) for reader in readers)

    async def close(self) -> None:
        self._closed(self)
