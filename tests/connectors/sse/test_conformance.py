"""An event stream is a stream as the contract has it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest_asyncio

from eventfn.clock import SystemClock
from eventfn.event import Record
from eventfn.testing import trigger_context
from eventfn.testing.streams import StreamSuite
from eventfn.trigger import Assignments, TriggerContext
from eventfn_sse import SseTrigger
from eventfn_sse.settings import SseSettings, SseShared
from tests.servers.sse import SseServer


class TestSseTrigger(StreamSuite):
    trigger = SseTrigger
    name = "sse"
    outside = True
    nonsense = (
        {},
        {"url": "wss://example.com"},
        {"url": "https://h", "idle_timeout": "0s"},
        {"url": "https://h", "to": 1},
    )
    variables = {"EVENTS_TOKEN": "an open secret"}  # noqa: RUF012

    @pytest_asyncio.fixture(autouse=True)
    async def _server(self, host: None) -> AsyncIterator[None]:
        async with SseServer() as self.server, SseServer() as self.other:
            yield

    def make_stream_context(self, host: Assignments) -> TriggerContext:
        # An event says nothing about its time: it is when it was received.
        return trigger_context(self.folder, clock=SystemClock(), positions=self.positions, assignments=host)

    def settings(self) -> SseSettings:
        return SseSettings(url=self.server.url)

    async def elsewhere(self) -> SseSettings:
        return SseSettings(url=self.other.url)

    def shared(self) -> SseShared:
        return SseShared()

    async def put(self, number: int, key: str | None = None) -> None:
        self.server.send(f'{{"number": {number}}}')

    def number(self, record: Record) -> int:
        number: int = msgspec.json.decode(msgspec.json.decode(record.payload)["data"])["number"]
        return number

    async def refuse(self) -> None:
        await self.server.refuse()

    async def accept(self) -> None:
        await self.server.accept()

    async def test_a_record_is_the_same_each_time_it_is_read(self) -> None:
        # All but arrived_ms, which the format has no field for.
        host, shard = await self.one_shard()
        await self.put(1, "one")
        _, first = await self.read(host)
        position = host.readers[shard].position(first.records[0])
        await host.close()
        again = await self.opened()
        _, second = await self.read(again)
        (one,), (other,) = first.records, second.records
        assert (one.id, one.payload, one.group) == (other.id, other.payload, other.group)
        assert again.readers[shard].position(other) == position
