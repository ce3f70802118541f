"""The streams in memory pass the public suite, and the suite catches streams that break the contract."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import pytest

from eventfn.event import Record
from eventfn.testing import MemoryGroupTrigger, MemoryStream, MemoryStreamTrigger, StreamSuite


class _InMemory(StreamSuite):
    name = "memory"
    has_sample = False
    shards: ClassVar[int]

    @pytest.fixture(autouse=True)
    def _stream(self) -> None:
        self.stream = MemoryStream("suite", self.shards)

    def settings(self) -> MemoryStreamTrigger.Settings:
        return MemoryStreamTrigger.Settings(name="suite")

    async def elsewhere(self) -> MemoryStreamTrigger.Settings:
        self.other = MemoryStream("other", self.shards)
        return MemoryStreamTrigger.Settings(name="other")

    async def put(self, number: int, key: str | None = None) -> None:
        self.stream.put(number, key=key)

    def number(self, record: Record) -> int:
        number: int = msgspec.json.decode(record.payload)["value"]
        return number

    async def refuse(self) -> None:
        self.stream.take_down()

    async def accept(self) -> None:
        self.stream.bring_up()

    async def split(self) -> None:
        for shard in self.stream.shards():
            if not self.stream.is_closed(shard.id):
                self.stream.split(shard.id)


class TestMemoryStream(_InMemory):
    trigger = MemoryStreamTrigger
    shards = 3


class TestMemoryStreamOfOneShard(_InMemory):
    trigger = MemoryStreamTrigger
    shards = 1


class TestMemoryGroup(_InMemory):
    trigger = MemoryGroupTrigger
    shards = 4

    async def split(self) -> None:
        pytest.skip("a partition has no end")
