"""Sources whose records each become one durable event."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from eventfn.bus.announce import Announcer
from eventfn.errors import EngineFull, FunctionNotFound, PayloadTooLarge, ShuttingDown, Throttled
from eventfn.event import Batch, Position, Record
from eventfn.testing import FakeClock, MemoryPositions
from eventfn.trigger import DONE, Reject, Retry, Settlement
from tests.bus.hosting import CheckedTrigger, binding, log, settle_down, source_and_trigger


class Ledger(CheckedTrigger):
    """A source whose records carry the position "seen/<id>", as files do."""

    async def read(self, limit: int) -> Batch:
        batch = await super().read(limit)
        self.unsettled.pop()
        records = [
            msgspec.structs.replace(each, position=Position(f"seen/{each.id}", b"yes"), dedupe_key=each.id)
            for each in batch.records
        ]
        self.unsettled.append(Batch(tuple(records)))
        return self.unsettled[-1]


class Bus:
    """What keeps events: in memory, and refusing while `refusals` lasts."""

    def __init__(self, positions: MemoryPositions) -> None:
        self.events: list[bytes] = []
        self.refusals: list[Exception] = []
        self._positions = positions
        self._keys: set[str | None] = set()

    async def submit(self, record: Record) -> str:
        await asyncio.sleep(0)
        if self.refusals:
            raise self.refusals.pop(0)
        if record.dedupe_key not in self._keys:
            self._keys.add(record.dedupe_key)
            self.events.append(record.payload)
            assert record.position is not None
            await self._positions.put(record.position.key, record.position.value)
        return record.id


class Bench:
    def __init__(self, tmp_path: Path, **intake: Any) -> None:
        self.clock = FakeClock()
        self.source, self.trigger = source_and_trigger(self.clock, tmp_path)
        self.trigger.__class__ = Ledger
        self.positions = MemoryPositions()
        self.bus = Bus(self.positions)
        self.announcer = Announcer(
            binding(**intake),
            cast(Any, self.trigger),  # mypy takes no nested class for a protocol's class variable
            self.bus.submit,
            self.positions,
            self.clock,
            log=log,
            jitter=lambda: 1.0,
        )

    async def __aenter__(self) -> Bench:
        self._task = asyncio.create_task(self.announcer.run())
        await settle_down(self.clock)
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def put(self, *events: Any, group: str | None = None) -> list[str]:
        ids = [self.source.put(event, group=group) for event in events]
        await settle_down(self.clock)
        return ids

    async def advance(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        await settle_down(self.clock)

    @property
    def settled(self) -> list[tuple[str, Settlement]]:
        return self.source.settlements


async def test_each_record_is_one_event_with_its_position(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        await bench.put({"n": 1}, {"n": 2})
        assert bench.bus.events == [b'{"n":1}', b'{"n":2}']
        assert bench.settled == [("1", DONE), ("2", DONE)]
        assert await bench.positions.scan() == {"seen/1": b"yes", "seen/2": b"yes"}
        assert bench.announcer.status.records_done == 2


async def test_what_a_filter_holds_back_is_remembered_all_the_same(tmp_path: Path) -> None:
    async with Bench(tmp_path, filter_criteria=[{"n": [1]}]) as bench:
        await bench.put({"n": 1}, {"n": 2})
        assert bench.bus.events == [b'{"n":1}']
        assert bench.settled == [("1", DONE), ("2", DONE)]
        assert await bench.positions.scan() == {"seen/1": b"yes", "seen/2": b"yes"}
        assert bench.announcer.status.records_filtered == 1


@pytest.mark.parametrize(
    "refusal", [Throttled("QueuedEvents"), EngineFull("no space left"), FunctionNotFound("removed by a reload")]
)
async def test_what_cannot_be_kept_now_is_kept_later(tmp_path: Path, refusal: Exception) -> None:
    async with Bench(tmp_path) as bench:
        bench.bus.refusals = [refusal, refusal]
        await bench.put("one", group="g")
        await bench.put("two", group="g")
        assert (bench.bus.events, bench.settled) == ([], [])
        assert bench.source.pending == 2
        await bench.advance(1)
        assert bench.bus.events == []
        await bench.advance(2)
        assert bench.bus.events == [b'"one"', b'"two"']
        assert bench.settled == [("1", DONE), ("2", DONE)]


async def test_one_group_keeps_its_order_while_another_goes_on(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        bench.bus.refusals = [Throttled("QueuedEvents")]
        for name, group in (("a1", "a"), ("a2", "a"), ("b1", "b")):
            bench.source.put(name, group=group)
        await settle_down(bench.clock)
        assert bench.bus.events == [b'"b1"']
        await bench.advance(1)
        assert bench.bus.events == [b'"b1"', b'"a1"', b'"a2"']


async def test_what_can_never_be_kept_is_rejected(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Bench(tmp_path) as bench:
        bench.bus.refusals = [PayloadTooLarge(2_000_000, 1_048_576)]
        await bench.put("big")
        ((_, settlement),) = bench.settled
        assert isinstance(settlement, Reject)
        assert "1 can never be handed to the function: Request must be smaller than 1048576 bytes" in caplog.text


async def test_a_drain_hands_back_what_could_not_be_kept(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        bench.bus.refusals = [Throttled("QueuedEvents")] * 2  # it tries once more before it gives up
        await bench.put("one")
        await asyncio.wait_for(bench.announcer.drain(10), 60)
        assert (bench.bus.events, bench.settled) == ([], [("1", Retry(0))])
        assert bench.trigger.closed == 1
        assert bench.clock.monotonic() == 0, "no time had to pass"


async def test_a_drain_keeps_none_of_a_group_behind_the_one_that_it_hands_back(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        bench.bus.refusals = [Throttled("QueuedEvents")] * 2
        for name in ("a1", "a2"):
            bench.source.put(name, group="a")
        await settle_down(bench.clock)
        await asyncio.wait_for(bench.announcer.drain(10), 60)
        assert (bench.bus.events, bench.settled) == ([], [("1", Retry(0)), ("2", Retry(0))])


async def test_a_drain_ends_a_read_that_waits(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        await asyncio.wait_for(bench.announcer.drain(10), 60)
        assert bench.trigger.closed == 1
        bench.source.put("later")
        assert bench.source.pending == 1


async def test_a_bus_that_shuts_down_gets_nothing_more(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        bench.bus.refusals = [ShuttingDown("draining")]
        await bench.put("one")
        assert bench.settled == [("1", Retry(0)), ("1", DONE)], "handed back, and read again as it was not drained"


@pytest.mark.parametrize(
    "fields", [{"payload": '{"n": 1}'}, {"payload": None}, {"id": 7}, {"group": ["g"]}, {"dedupe_key": 7}]
)
async def test_a_record_that_breaks_the_contract_reaches_no_engine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fields: dict[str, Any]
) -> None:
    bench = Bench(tmp_path)
    read, breaks = bench.trigger.read, True

    async def careless(limit: int) -> Batch:
        batch = await read(limit)
        return Batch((msgspec.structs.replace(batch.records[0], **fields),)) if breaks else batch

    bench.trigger.read = careless  # type: ignore[method-assign]  # this one object breaks
    async with bench:
        await bench.put("one")
        assert bench.bus.events == []
        assert "what its contract does not allow" in caplog.text
        breaks = False
        await bench.put("two")
        await bench.advance(2)
        assert bench.bus.events == [b'"two"']


async def test_a_connector_that_cannot_be_closed_does_not_hang_the_drain(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def close(deadline: float) -> None:
        await asyncio.Event().wait()

    bench.trigger.close = close  # type: ignore[method-assign]  # this one object hangs
    async with bench:
        draining = asyncio.create_task(bench.announcer.drain(60))
        await bench.advance(10)
        assert draining.done()
        assert "cannot close" in str(bench.announcer.status.last_error)
