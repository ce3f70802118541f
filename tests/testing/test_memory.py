"""The connectors in memory pass the public suites, and the suites catch connectors that break the contract."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from eventfn.destination import WRITTEN, OutgoingRecord, RetryAfter
from eventfn.errors import ConnectorError
from eventfn.event import Record
from eventfn.testing import (
    DestinationSuite,
    FakeClock,
    MemoryDestination,
    MemorySink,
    MemorySource,
    MemoryTrigger,
    TriggerSuite,
    destination_context,
    trigger_context,
)
from eventfn.trigger import DONE, Retry


class TestMemoryTrigger(TriggerSuite):
    trigger = MemoryTrigger
    name = "memory"
    has_sample = False

    @pytest.fixture(autouse=True)
    def _source(self) -> None:
        self.source = MemorySource("suite")

    def settings(self) -> MemoryTrigger.Settings:
        return MemoryTrigger.Settings(name="suite")

    async def elsewhere(self) -> MemoryTrigger.Settings:
        self.other = MemorySource("other")
        return MemoryTrigger.Settings(name="other")

    async def put(self, number: int) -> None:
        self.source.put({"number": number}, group="one")

    def number(self, record: Record) -> int:
        number: int = msgspec.json.decode(record.payload)["number"]
        return number

    async def refuse(self) -> None:
        self.source.take_down()

    async def accept(self) -> None:
        self.source.bring_up()


class TestMemoryDestination(DestinationSuite):
    destination = MemoryDestination
    scheme = "memory"
    target = "suite"
    nonsense = ("", "two words", "a/b")
    has_sample = False

    @pytest.fixture(autouse=True)
    def _sink(self) -> None:
        self.sink = MemorySink("suite")

    async def received(self) -> list[Any]:
        return [msgspec.json.decode(record.payload) for record in self.sink.records]

    async def refuse(self) -> None:
        self.sink.down = True

    async def accept(self) -> None:
        self.sink.down = False


async def test_a_source_tells_what_became_of_each_record(tmp_path: Any) -> None:
    source = MemorySource("orders")
    trigger = MemoryTrigger(MemoryTrigger.Settings(name="orders"), None, trigger_context(tmp_path))
    await trigger.connect()
    first, second = source.put({"order": 7}), source.put({"order": 8})
    await trigger.settle(await trigger.read(10), [Retry(after=0), DONE])
    await source.until_settled(2)
    assert source.settlements == [(first, Retry(after=0)), (second, DONE)]
    assert source.pending == 1


async def test_a_delayed_record_comes_when_its_time_has_come(tmp_path: Any) -> None:
    clock = FakeClock()
    source = MemorySource("orders")
    trigger = MemoryTrigger(MemoryTrigger.Settings(name="orders"), None, trigger_context(tmp_path, clock=clock))
    await trigger.connect()
    source.put({"order": 7})
    await trigger.settle(await trigger.read(1), [Retry(after=60)])
    assert source.take(trigger, 1, clock.monotonic()) == []
    await clock.advance(60)
    assert (await trigger.read(1)).records[0].receives == 2


async def test_a_source_that_nobody_holds_is_gone(tmp_path: Any) -> None:
    MemorySource("orders")
    trigger = MemoryTrigger(MemoryTrigger.Settings(name="orders"), None, trigger_context(tmp_path))
    with pytest.raises(ConnectorError, match="no MemorySource named 'orders'"):
        await trigger.connect()


async def test_a_sink_can_be_told_what_to_answer(tmp_path: Any) -> None:
    sink = MemorySink("orders")
    sink.answers.append(RetryAfter("busy", after=1))
    destination = MemoryDestination("orders", MemoryDestination.Settings(), destination_context(tmp_path))
    record = OutgoingRecord(id="1", payload=b"{}")
    assert await destination.write([record, record]) == [RetryAfter("busy", after=1), WRITTEN]
    assert len(sink.tries) == 2
    assert sink.records == [record]
