"""A record that somebody waits for: kept once, on its way, arrived; whoever dies and whoever delivers it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, ClassVar

import msgspec
import pytest
import pytest_asyncio

from eventfn.bus.destinations import LONGEST_TRY_MS, Deliverer
from eventfn.bus.outbox import LOOK, Outbox
from eventfn.destination import WRITTEN, Delivery, OutgoingRecord, Rejected, RetryAfter
from eventfn.engine.memory import MemoryEngine
from eventfn.errors import EngineError
from eventfn.observe.metrics import Metrics
from eventfn.testing import FakeClock

RECORD = OutgoingRecord("one", b"{}", {})
URI = "there:x"


class There:
    """The other side: `answer` is what it says to each record."""

    Settings: ClassVar[type[msgspec.Struct]] = msgspec.Struct
    idempotent: ClassVar[bool] = False

    def __init__(self) -> None:
        self.answer: Delivery = WRITTEN
        self.ids: list[str] = []

    @classmethod
    def check(cls, target: str, settings: Any) -> str | None:
        return None

    async def connect(self) -> None:
        pass

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        if self.answer is WRITTEN:
            self.ids += [record.id for record in records]
        return [self.answer] * len(records)

    async def close(self, deadline: float) -> None:
        pass


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def there() -> There:
    return There()


@pytest_asyncio.fixture
async def engine(clock: FakeClock) -> AsyncIterator[MemoryEngine]:
    made = MemoryEngine()
    await made.open(clock.now_ms())
    yield made
    await made.close()


@contextlib.asynccontextmanager
async def delivering(engine: MemoryEngine, clock: FakeClock, there: There) -> AsyncGenerator[Outbox]:
    def opened(uri: str) -> Any:
        return there

    deliverer = Deliverer(engine, clock, Metrics(), opened)
    task = asyncio.create_task(deliverer.run())
    try:
        yield deliverer.outbox
    finally:
        task.cancel()
        await asyncio.wait({task})


@contextlib.asynccontextmanager
async def waiting(outbox: Outbox, record: OutgoingRecord = RECORD) -> AsyncGenerator[asyncio.Task[None]]:
    task = asyncio.create_task(outbox.arrived(URI, record.id))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def facts(engine: MemoryEngine) -> list[str]:
    return list(await engine.scan("awaited/"))


async def test_who_waits_is_woken_when_it_is_there(engine: MemoryEngine, clock: FakeClock, there: There) -> None:
    there.answer = RetryAfter("refused", 1)
    async with delivering(engine, clock, there) as outbox:
        await outbox.keep(URI, RECORD)
        async with waiting(outbox) as arrival:
            await clock.advance(100)
            assert not arrival.done()
            assert outbox.errors == {URI: "refused"}
            there.answer = WRITTEN
            await clock.advance(1)  # the next try, and no look of the one who waits
            assert arrival.done()
    assert there.ids == ["one"]
    assert await facts(engine) == []


async def test_what_has_arrived_is_not_waited_for(engine: MemoryEngine, clock: FakeClock, there: There) -> None:
    async with delivering(engine, clock, there) as outbox:
        await outbox.keep(URI, RECORD)
        await clock.advance(0)
        assert there.ids == ["one"]
        await outbox.arrived(URI, "one")


async def test_kept_again_while_it_waits_it_is_the_same_record(
    engine: MemoryEngine, clock: FakeClock, there: There
) -> None:
    there.answer = RetryAfter("refused", 60)
    async with delivering(engine, clock, there) as outbox:
        await outbox.keep(URI, RECORD)
        await clock.advance(10)
    there.answer = WRITTEN
    async with delivering(engine, clock, there) as outbox:  # the next life of the node
        await outbox.keep(URI, RECORD)
        async with waiting(outbox) as arrival:
            await clock.advance(10)
            assert not arrival.done(), "it waits for the one that is on its way"
            await clock.advance(60)
            assert arrival.done()
    assert there.ids == ["one"]


async def test_kept_again_after_it_has_arrived_it_does_not_leave_again(
    engine: MemoryEngine, clock: FakeClock, there: There
) -> None:
    async with delivering(engine, clock, there) as outbox:
        await outbox.keep(URI, RECORD)
        await clock.advance(1)
        await outbox.keep(URI, RECORD)
        await outbox.arrived(URI, "one")
        await clock.advance(1)
    assert there.ids == ["one"]
    assert await facts(engine) == [], "or it would be waited for, for ever"


async def test_another_destination_is_another_way(engine: MemoryEngine, clock: FakeClock, there: There) -> None:
    """An operator who has mended a wrong `on_failure` does not wait for the wrong one."""
    outbox = Outbox(engine, clock)  # nobody delivers what is kept for the first one
    await outbox.keep("wrong:x", RECORD)
    async with delivering(engine, clock, there) as outbox:
        await outbox.keep(URI, RECORD)
        async with waiting(outbox) as arrival:
            await clock.advance(1)
            assert arrival.done()


@pytest.mark.parametrize("answer", [Rejected("never"), RetryAfter("refused")], ids=["refused", "a day over"])
async def test_the_dead_letters_are_an_end_too(
    engine: MemoryEngine, clock: FakeClock, there: There, answer: Delivery
) -> None:
    there.answer = answer
    async with delivering(engine, clock, there) as outbox:
        await outbox.keep(URI, RECORD)
        async with waiting(outbox) as arrival:
            for _ in range(30):
                await clock.advance(LONGEST_TRY_MS / 1000 / 24)
            assert arrival.done()
    assert [message.id for message in await engine.peek("q/dead-letters", 10)] == ["one"]
    assert await facts(engine) == []


async def test_who_waits_longer_than_a_day_for_the_last_try_makes_no_second_record(
    engine: MemoryEngine, clock: FakeClock, there: There
) -> None:
    outbox = Outbox(engine, clock)
    await outbox.keep(URI, RECORD)
    await clock.advance(2 * LONGEST_TRY_MS / 1000)
    await outbox.keep(URI, RECORD)
    assert len(await engine.peek(f"out/{URI}", 10)) == 1


async def test_another_node_may_deliver_it(engine: MemoryEngine, clock: FakeClock, there: There) -> None:
    there.answer = RetryAfter("refused", 60)
    ours = Outbox(engine, clock)  # of a node that has given the lane of this destination to nobody
    async with delivering(engine, clock, there):
        await ours.keep(URI, RECORD)
        async with waiting(ours) as arrival:
            await clock.advance(10)
            there.answer = WRITTEN
            await clock.advance(60)
            await clock.advance(LOOK)
            assert arrival.done()


async def test_an_engine_that_fails_lets_nobody_go_on(
    engine: MemoryEngine, clock: FakeClock, there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with delivering(engine, clock, there) as outbox:
        await outbox.keep(URI, RECORD)
        await clock.advance(1)
        works = engine.get

        async def broken(key: str) -> bytes | None:
            raise EngineError("the disk is gone")

        monkeypatch.setattr(engine, "get", broken)
        async with waiting(outbox) as arrival:
            await clock.advance(3 * LOOK)
            assert not arrival.done()
            monkeypatch.setattr(engine, "get", works)
            await clock.advance(LOOK)
            assert arrival.done()


async def test_who_waits_no_more_leaves_nothing_behind(engine: MemoryEngine, clock: FakeClock, there: There) -> None:
    there.answer = RetryAfter("refused", 1)
    async with delivering(engine, clock, there) as outbox:
        await outbox.keep(URI, RECORD)
        async with waiting(outbox):
            await clock.advance(3)
        assert outbox._waiters == {}  # pyright: ignore[reportPrivateUsage] - a leak shows nowhere else
        there.answer = WRITTEN
        await clock.advance(1)
    assert there.ids == ["one"]
