"""The outbox: every record reaches its destination or the dead letters, and a bad destination holds up nobody else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, ClassVar

import msgspec
import pytest

from eventfn.bus.destinations import Deliverer
from eventfn.bus.queues import NamedQueues, Redriven
from eventfn.destination import ORIGIN, WRITTEN, Delivery, OutgoingRecord, Rejected, RetryAfter
from eventfn.engine.contract import Send
from eventfn.engine.memory import MemoryEngine
from eventfn.errors import Backoff, ConnectorError
from eventfn.observe.metrics import Metrics
from eventfn.testing import FakeClock

Write = Callable[[Sequence[OutgoingRecord]], list[Delivery]]


class Scripted:
    Settings: ClassVar[type[msgspec.Struct]] = msgspec.Struct
    idempotent: ClassVar[bool] = True

    def __init__(self, write: Write) -> None:
        self._write = write
        self.connects = 0
        self.closed = 0
        self.ids: list[str] = []

    @classmethod
    def check(cls, target: str, settings: Any) -> str | None:
        return None

    async def connect(self) -> None:
        self.connects += 1

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        self.ids += [record.id for record in records]
        return self._write(records)

    async def close(self, deadline: float) -> None:
        self.closed += 1


def written(records: Sequence[OutgoingRecord]) -> list[Delivery]:
    return [WRITTEN] * len(records)


class Outbox:
    def __init__(self, destinations: dict[str, Scripted]) -> None:
        self.clock = FakeClock()
        self.engine = MemoryEngine()
        self.metrics = Metrics()
        self.deliverer = Deliverer(self.engine, self.clock, self.metrics, self._open)
        self._destinations = destinations

    def _open(self, uri: str) -> Scripted:
        if uri not in self._destinations:
            raise ConnectorError("not installed")
        return self._destinations[uri]

    async def put(self, uri: str, *ids: str) -> None:
        await self.engine.commit([Send(f"out/{uri}", one, b"{}") for one in ids], self.clock.now_ms())

    async def left(self, queue: str) -> list[str]:
        return [message.id for message in await self.engine.peek(queue, 1000)]


@contextlib.asynccontextmanager
async def outbox(**writes: Write) -> AsyncIterator[tuple[Outbox, dict[str, Scripted]]]:
    destinations = {f"{scheme}:x": Scripted(write) for scheme, write in writes.items()}
    made = Outbox(destinations)
    await made.engine.open(made.clock.now_ms())
    task = asyncio.create_task(made.deliverer.run())
    try:
        yield made, destinations
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await made.engine.close()


async def test_records_are_written_in_order_and_gone() -> None:
    async with outbox(a=written) as (out, made):
        await out.put("a:x", "1", "2", "3")
        await out.clock.advance(1)

        assert made["a:x"].ids == ["1", "2", "3"]
        assert await out.left("out/a:x") == []
        assert out.deliverer.outbox.errors == {}


async def test_a_connection_is_kept_for_a_while() -> None:
    async with outbox(a=written) as (out, made):
        for name in ("1", "2", "3"):
            await out.put("a:x", name)
            await out.clock.advance(9)
        assert (made["a:x"].connects, made["a:x"].closed) == (1, 0)

        await out.clock.advance(1)
        assert made["a:x"].closed == 1
        await out.put("a:x", "4")
        await out.clock.advance(1)
        assert (made["a:x"].connects, made["a:x"].ids) == (2, ["1", "2", "3", "4"])


async def test_what_is_declared_anew_is_connected_anew() -> None:
    async with outbox(a=written) as (out, made):
        await out.put("a:x", "1")
        await out.clock.advance(1)
        out.deliverer.declared_anew()
        await out.put("a:x", "2")
        await out.clock.advance(1)
        assert (made["a:x"].connects, made["a:x"].closed) == (2, 1)


async def test_a_drain_does_not_wait_for_a_connection_that_is_only_kept() -> None:
    async with outbox(a=written) as (out, made):
        await out.put("a:x", "1")
        await out.clock.advance(1)
        draining = asyncio.create_task(out.deliverer.drain(60))
        await out.clock.advance(0)
        await out.clock.advance(0)  # turns of the loop, and no time
        assert draining.done()
        assert made["a:x"].closed == 1


async def test_what_is_not_taken_now_comes_again_with_the_same_id() -> None:
    answers: list[list[Delivery]] = [[RetryAfter("busy")], [RetryAfter("busy", 7)], [WRITTEN]]
    async with outbox(a=lambda _: answers.pop(0)) as (out, made):
        await out.put("a:x", "1")
        tries = []
        for seconds in (0.5, 1, 6, 1):
            await out.clock.advance(seconds)
            tries.append(len(made["a:x"].ids))

        assert tries == [1, 2, 2, 3]
        assert set(made["a:x"].ids) == {"1"}
        assert await out.left("out/a:x") == []
        assert out.metrics.delivery_failures == 2


async def test_what_is_refused_for_good_is_in_the_dead_letters_with_the_reason() -> None:
    async with outbox(a=lambda records: [Rejected("410 Gone"), WRITTEN]) as (out, _):
        await out.put("a:x", "1", "2")
        await out.clock.advance(1)

        (letter,) = await out.engine.peek("q/dead-letters", 10)
        assert (letter.id, letter.attributes["eventfn.reason"]) == ("1", "410 Gone")
        assert await out.left("out/a:x") == []


async def test_a_record_that_was_refused_goes_out_again_when_it_is_redriven_and_runs_no_function() -> None:
    answers: list[list[Delivery]] = [[Rejected("410 Gone")], [WRITTEN]]
    seen: list[OutgoingRecord] = []

    def write(records: Sequence[OutgoingRecord]) -> list[Delivery]:
        seen.extend(records)
        return answers.pop(0)

    async def no_submit(function: str, payload: bytes, dedupe_key: str) -> str:
        raise AssertionError("the function has run already")

    async with outbox(a=write) as (out, _):
        record = Send("out/a:x", "1", b"{}", {ORIGIN: "fn:f"})
        await out.engine.commit([record], out.clock.now_ms())
        await out.clock.advance(1)
        redriven = await NamedQueues(out.engine, {}, out.clock).redrive("dead-letters", no_submit)
        await out.clock.advance(1)

        assert redriven == Redriven(1, {})
        assert [(each.id, each.attributes) for each in seen] == [("1", {ORIGIN: "fn:f"})] * 2
        assert await out.left("out/a:x") == await out.left("q/dead-letters") == []


async def test_a_destination_that_is_down_for_a_day_gives_up() -> None:
    def down(records: Sequence[OutgoingRecord]) -> list[Delivery]:
        raise ConnectorError("connection refused")

    async with outbox(a=down) as (out, _):
        await out.put("a:x", "1")
        await out.clock.advance(3600)
        assert await out.left("out/a:x") == ["1"]
        assert out.deliverer.outbox.errors == {"a:x": "connection refused"}

        await out.clock.advance(86_400)

        assert await out.left("out/a:x") == []
        assert await out.left("q/dead-letters") == ["1"]


@pytest.mark.parametrize("trouble", [ConnectorError("down"), Backoff(60, "later"), ValueError("a bug of the plugin")])
async def test_one_bad_destination_holds_up_nobody_else(trouble: Exception) -> None:
    def bad(records: Sequence[OutgoingRecord]) -> list[Delivery]:
        raise trouble

    async with outbox(bad=bad, good=written) as (out, made):
        await out.put("bad:x", "1")
        await out.put("gone:x", "1")
        await out.put("good:x", "2")
        await out.clock.advance(1)

        assert made["good:x"].ids == ["2"]
        assert await out.left("out/bad:x") == ["1"]
        assert await out.left("out/gone:x") == ["1"]


async def test_a_drain_waits_for_the_write_under_way() -> None:
    async with outbox(a=written) as (out, made):
        release = asyncio.Event()
        write = made["a:x"].write

        async def slow(records: Sequence[OutgoingRecord]) -> list[Delivery]:
            await release.wait()
            return await write(records)

        made["a:x"].write = slow  # type: ignore[method-assign]  # this one object is slow
        await out.put("a:x", "1")
        await out.clock.advance(1)
        draining = asyncio.create_task(out.deliverer.drain(10))
        await out.clock.advance(1)
        assert not draining.done()
        release.set()
        await draining

        assert await out.left("out/a:x") == []


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([], id="too few"),
        pytest.param([WRITTEN, WRITTEN], id="too many"),
        pytest.param([None], id="not an answer"),
        pytest.param(None, id="no list"),
        pytest.param([RetryAfter("later", "5")], id="seconds as text"),  # type: ignore[arg-type]  # the plugin's mistake
    ],
)
async def test_answers_that_break_the_contract_lose_nothing_and_are_said(
    answers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with outbox(a=lambda _: answers) as (out, made):
        await out.put("a:x", "1")
        await out.clock.advance(5)

        assert len(made["a:x"].ids) > 1
        assert await out.left("out/a:x") == ["1"]
        assert "raised what a destination may not raise" in caplog.text
        assert "eventfn bug" not in caplog.text


@pytest.mark.parametrize("after", [float("inf"), float("nan"), -1.0, 1e300])
async def test_no_destination_can_put_a_record_off_beyond_its_last_day(
    after: float, caplog: pytest.LogCaptureFixture
) -> None:
    async with outbox(a=lambda _: [RetryAfter("later", after)]) as (out, _):
        await out.put("a:x", "1")
        await out.clock.advance(2 * 86_400 + 1)

        assert await out.left("out/a:x") == []
        assert await out.left("q/dead-letters") == ["1"]
        assert "eventfn bug" not in caplog.text


async def test_a_destination_that_cannot_be_closed_delivers_on(caplog: pytest.LogCaptureFixture) -> None:
    async with outbox(a=written) as (out, made):

        async def close(deadline: float) -> None:
            raise ValueError("a bug of the plugin")

        made["a:x"].close = close  # type: ignore[method-assign]  # this one object breaks
        await out.put("a:x", "1")
        await out.clock.advance(15)
        await out.put("a:x", "2")
        await out.clock.advance(15)

        assert made["a:x"].ids == ["1", "2"]
        assert "a:x could not be closed" in caplog.text


async def test_a_drain_waits_once_for_all_that_hang() -> None:
    async with outbox(a=written, b=written, c=written) as (out, made):
        never = asyncio.Event()

        async def hang(records: Sequence[OutgoingRecord]) -> list[Delivery]:
            await never.wait()
            return []

        for uri, destination in made.items():
            destination.write = hang  # type: ignore[method-assign]  # these objects hang
            await out.put(uri, "1")
        await out.clock.advance(1)
        draining = asyncio.create_task(out.deliverer.drain(5))
        await out.clock.advance(5)

        assert draining.done()
