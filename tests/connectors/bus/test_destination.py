"""The conformance suite for "bus:NAME"."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest_asyncio

from eventfn.destination import OutgoingRecord, Rejected, Written
from eventfn.functions.model import Queue
from eventfn.testing import DestinationSuite, destination_context, memory_queues
from eventfn.trigger import Queues
from eventfn_bus import BusDestination


class TestBusDestination(DestinationSuite):
    destination = BusDestination
    scheme = "bus"
    target = "orders"
    nonsense = ("", "two words", "x" * 77, "a/b")
    queues: Queues

    @pytest_asyncio.fixture(autouse=True)
    async def _queue(self, host: None) -> AsyncIterator[None]:
        async with memory_queues(self.clock, Queue(name="bus.small", maximum_messages=1)) as queues:
            self.queues = queues
            yield

    def make_context(self) -> Any:
        return destination_context(self.folder, clock=self.clock, queues=self.queues)

    async def received(self) -> list[Any]:
        await self.clock.advance(3600)  # what was received before is visible again
        messages = await self.queues.receive("bus.orders", 1000)
        return [msgspec.json.decode(message.body) for message in messages]

    async def test_what_can_be_no_event_is_rejected_and_stops_nothing_else(self) -> None:
        destination = await self.opened()
        answers = await destination.write([OutgoingRecord("a", b"5"), self.record(1), OutgoingRecord("b", b"{")])
        assert [type(answer) for answer in answers] == [Rejected, Written, Rejected]
        assert await self.numbers() == [1]

    async def test_a_full_bus_takes_it_later(self) -> None:
        self.target = "small"
        destination = await self.opened()
        await self.write(destination, self.record(1))
        (answer,) = await destination.write([self.record(2)])
        assert "holds its maximum" in getattr(answer, "reason", "")
