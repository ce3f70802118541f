"""Who has work is found out whatever the engine does, and one lane that breaks takes nobody with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from eventfn.bus.lanes import Lane, Lanes
from eventfn.engine.contract import Complete, Send
from eventfn.engine.memory import MemoryEngine
from eventfn.errors import EngineFull
from eventfn.testing import FakeClock


class Moody(MemoryEngine):
    """Cannot be read while `full`, as a disk without room for the log's shared index."""

    full = False

    async def next_visible(self, prefix: str) -> dict[str, int]:
        if self.full:
            raise EngineFull("no space left in the data folder")
        return await super().next_visible(prefix)


class Works:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.engine = Moody()
        self.done: list[str] = []

    async def send(self, queue: str, delay_ms: int = 0) -> None:
        now = self.clock.now_ms()
        await self.engine.commit([Send(f"w/{queue}", queue, b"", visible_ms=now + delay_ms)], now)

    async def work(self, lane: Lane) -> None:
        now = self.clock.now_ms()
        for message in await self.engine.claim(lane.queue, 1, now + 1000, now):
            await self.engine.commit([Complete(message.claim)], now)
            self.done.append(message.id)


@contextlib.asynccontextmanager
async def lanes(works: Works, work: Callable[[Lane], Awaitable[None]]) -> AsyncGenerator[Lanes]:
    await works.engine.open(works.clock.now_ms())
    made = Lanes(works.engine, works.clock, "w/", work)
    task = asyncio.create_task(made.run())
    await works.clock.advance(0)
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_an_engine_that_cannot_be_asked_is_asked_again() -> None:
    works = Works()
    async with lanes(works, works.work):
        works.engine.full = True
        await works.send("a", delay_ms=1000)
        await works.clock.advance(10)
        assert works.done == []

        works.engine.full = False
        await works.clock.advance(2)

        assert works.done == ["a"]


async def test_what_is_sent_is_worked_on_without_asking_first() -> None:
    works = Works()
    async with lanes(works, works.work):
        works.engine.full = True  # it could not be asked

        await works.send("a")
        await works.clock.advance(0)

        assert works.done == ["a"]


async def test_a_lane_that_waits_outlives_an_engine_that_cannot_be_asked() -> None:
    works = Works()
    waited = asyncio.Event()

    async def work(lane: Lane) -> None:
        works.engine.full = True
        await made.until_visible(lane)
        waited.set()
        await works.work(lane)

    async with lanes(works, work) as made:
        await works.send("a")
        await works.clock.advance(10)
        assert not waited.is_set()

        works.engine.full = False
        await works.clock.advance(2)

        assert works.done == ["a"]


async def test_a_lane_that_breaks_is_said_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    works = Works()
    breaks = True

    async def work(lane: Lane) -> None:
        if breaks and lane.name == "a":
            raise KeyError("thought impossible")
        await works.work(lane)

    async with lanes(works, work):
        await works.send("a")
        await works.send("b")
        await works.clock.advance(0)

        assert works.done == ["b"]
        assert "thought impossible" in caplog.text
        breaks = False
        await works.clock.advance(2)
        assert works.done == ["b", "a"]
