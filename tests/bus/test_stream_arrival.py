"""A shard whose on-failure destination is down: its mark stays where it is until that one has taken the batch."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from eventfn.bus.destinations import LONGEST_TRY_MS, Deliverer
from eventfn.bus.outbox import Outbox
from eventfn.bus.stream import StreamIntake
from eventfn.destination import WRITTEN, OutgoingRecord, RetryAfter
from eventfn.engine.memory import MemoryEngine
from eventfn.observe.metrics import Metrics
from eventfn.testing import FakeClock
from eventfn.testing.memory_streams import MemoryStream
from eventfn.units import Duration
from tests.bus.streaming import Function, make_host, new_stream, running, until, values
from tests.bus.test_outbox import There

TARGET = "there:x"
DOWN = RetryAfter("connection refused", 1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class Node:
    """An engine, a destination that is down, and streams whose failures go there."""

    def __init__(self, clock: FakeClock, folder: Path) -> None:
        self.clock = clock
        self.engine = MemoryEngine()
        self.there = Bodies()
        self.there.answer = DOWN
        self.outbox: Outbox
        self._folder = folder

    @contextlib.asynccontextmanager
    async def delivering(self) -> AsyncGenerator[None]:
        deliverer = Deliverer(self.engine, self.clock, Metrics(), self._open)
        self.outbox = deliverer.outbox
        task = asyncio.create_task(deliverer.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    def host(self, stream: MemoryStream, function: Function, **intake: Any) -> StreamIntake:
        asked: dict[str, Any] = {"maximum_retry_attempts": 0, "on_failure": TARGET, "group": True, **intake}
        return make_host(stream, function.invoke, self.engine, self.clock, self._folder, outbox=self.outbox, **asked)

    def _open(self, uri: str) -> Any:
        return self.there

    async def until(self, condition: Any) -> None:
        await until(self.clock, condition)

    def up(self) -> None:
        self.there.answer = WRITTEN


class Bodies(There):
    """Keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[Any] = []
        self.once = False  # down again after each record

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Any]:
        if self.answer is WRITTEN:
            self.bodies += [msgspec.json.decode(record.payload) for record in records]
        answers = await super().write(records)
        if self.once:
            self.answer = DOWN
        return answers

    @property
    def values(self) -> list[list[Any]]:
        return [values(body["payload"]) for body in self.bodies]


@pytest_asyncio.fixture
async def node(clock: FakeClock, tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(clock, tmp_path)
    await made.engine.open(clock.now_ms())
    async with made.delivering():
        yield made
    await made.engine.close()


def fail_on(*bad: Any) -> Any:
    def handler(event: Any) -> None:
        for value in values(event):
            if value in bad:
                raise ValueError(f"{value} is bad")

    return handler


async def test_the_mark_does_not_move_before_the_destination_has_taken_the_batch(node: Node) -> None:
    stream, function = new_stream(2), Function(fail_on("poison"))
    stream.put("poison", shard="shard-0")
    stream.put("behind", shard="shard-0")
    stream.put("other", shard="shard-1")
    host = node.host(stream, function, batch_size=1)
    async with running(host):
        await node.until(lambda: bool(host.status.held_up))
        await node.clock.advance(3600)
        assert function.handled == ["other"], "no other shard waits"
        assert stream.committed == {"shard-1": "1"}
        assert host.status.records_rejected == 0
        (held_up,) = host.status.held_up
        assert (held_up.shard, held_up.records, held_up.destination) == ("shard-0", 1, TARGET)
        assert held_up.reason == "connection refused"
        assert host.status.batches_in_flight == 0, "it waits, and runs nothing"
        node.up()
        await node.until(lambda: stream.committed.get("shard-0") == "2")
        assert not host.status.held_up
    assert function.handled == ["other", "behind"]
    assert node.there.values == [["poison"]]
    assert len(function.events) == 3, "and nothing was tried again meanwhile"


async def test_other_lanes_go_on_and_the_mark_stays(node: Node) -> None:
    stream, function = new_stream(), Function(fail_on("poison"))
    stream.put("poison", key="a")
    for number in range(20):
        stream.put(number, key=f"key-{number}")
    host = node.host(stream, function, parallelization_factor=4, batch_size=1)
    async with running(host):
        await node.until(lambda: len(function.handled) >= 12 and bool(host.status.held_up))
        await node.clock.advance(60)
        before = len(function.handled)
        assert 12 <= before < 20, "those of the same lane wait"
        assert stream.committed == {}
        node.up()
        await node.until(lambda: stream.committed.get("shard-0") == "21")
    assert sorted(function.handled) == list(range(20))


async def test_what_lanes_are_ahead_is_bounded(node: Node) -> None:
    stream, function = new_stream(), Function(fail_on("poison"))
    stream.put("poison", key="a")
    host = node.host(stream, function, parallelization_factor=2, batch_size=1)
    large = "x" * 1_000_000
    keys = [key for key in "bcdefghij" if zlib.crc32(key.encode()) % 2 != zlib.crc32(b"a") % 2]
    async with running(host):
        await node.until(lambda: bool(host.status.held_up))
        for number in range(200):
            stream.put(large, key=keys[number % len(keys)])
            await node.clock.advance(1)  # what is read at once is a matter of the source
        assert host.status.records_read > 64
        assert host.status.records_read < 120, "it is not read on for as long as the destination is down"
        assert stream.committed == {}
        node.up()
        await node.until(lambda: stream.committed.get("shard-0") == "201")
    assert len(function.handled) == 200


async def test_killed_while_it_waits_the_batch_is_the_same_record(node: Node) -> None:
    stream, function = new_stream(), Function(fail_on(1))
    for number in range(4):
        stream.put(number)
    for _ in range(3):  # each is a life that ends without a word
        host = node.host(stream, function, batch_size=2)
        async with running(host):
            await node.until(lambda host=host: bool(host.status.held_up))
            await node.clock.advance(100)
            assert stream.committed == {}
        assert len(await node.engine.peek(f"out/{TARGET}", 10)) == 1
    host = node.host(stream, function, batch_size=2)
    async with running(host):
        await node.until(lambda: bool(host.status.held_up))
        node.up()
        await node.until(lambda: stream.committed.get("shard-0") == "4")
    assert node.there.values == [[0, 1]]
    assert function.handled == [2, 3]


async def test_a_batch_that_has_become_too_old_meanwhile_is_the_same_record(node: Node) -> None:
    stream, function = new_stream(), Function(fail_on(0))
    stream.put(0, arrived_ms=node.clock.now_ms())
    host = node.host(stream, function, maximum_record_age=Duration(3600))
    async with running(host):
        await node.until(lambda: bool(host.status.held_up))
        await node.clock.advance(7200)
    host = node.host(stream, function, maximum_record_age=Duration(3600))
    async with running(host):
        await node.until(lambda: bool(host.status.held_up))
        assert len(function.events) == 1, "it is too old to be tried once more"
        node.up()
        await node.until(lambda: stream.committed.get("shard-0") == "1")
    (body,) = node.there.bodies
    assert body["requestContext"]["condition"] == "RetryAttemptsExhausted", "what was kept first"


async def test_after_a_day_the_dead_letters_have_it_and_the_shard_goes_on(node: Node) -> None:
    stream, function = new_stream(), Function(fail_on(0))
    stream.put(0)
    stream.put(1)
    node.there.answer = RetryAfter("connection refused", 3600)
    async with running(node.host(stream, function, batch_size=1)):
        for _ in range(24):
            await node.clock.advance(LONGEST_TRY_MS / 1000 / 24)
            if stream.committed:
                break
            assert not await node.engine.peek("q/dead-letters", 1)
        await node.until(lambda: stream.committed.get("shard-0") == "2")
    assert len(await node.engine.peek("q/dead-letters", 10)) == 1


@pytest.mark.parametrize("group", [True, False], ids=["assigned", "listed"])
async def test_a_drain_does_not_wait_for_the_destination(node: Node, group: bool) -> None:
    stream, function = new_stream(), Function(fail_on(0))
    stream.put(0)
    host = node.host(stream, function, group=group)
    async with running(host):
        await node.until(lambda: bool(host.status.held_up))
        before = node.clock.monotonic()
        draining = asyncio.create_task(host.drain(30))
        for _ in range(50):
            await node.clock.advance(0)
        assert draining.done()
        assert node.clock.monotonic() == before, "not a moment"
    assert stream.committed == {}
    node.up()
    again = Function()
    async with running(node.host(stream, again, group=group)):
        await node.until(lambda: again.handled == [0])  # by the next one, who may do it better


async def test_what_runs_is_still_waited_for_beside_a_lane_that_waits(node: Node) -> None:
    stream = new_stream()
    stream.put("poison", key="a")
    for number in range(8):
        stream.put(number, key=f"key-{number}")
    gate = asyncio.Event()

    class Slow(Function):
        async def invoke(self, name: str, payload: bytes) -> Any:
            if values(msgspec.json.decode(payload)) != ["poison"]:
                await gate.wait()
            return await super().invoke(name, payload)

    function = Slow(fail_on("poison"))
    host = node.host(stream, function, parallelization_factor=2, batch_size=1)
    async with running(host):
        await node.until(lambda: bool(host.status.held_up) and host.status.batches_in_flight == 1)
        draining = asyncio.create_task(host.drain(30))
        await node.clock.advance(10)
        assert not draining.done()
        gate.set()
        for _ in range(50):
            await node.clock.advance(0)
        assert draining.done()
    assert len(function.handled) == 1
    assert stream.committed == {}


async def test_a_revoked_shard_goes_at_once_and_its_next_owner_waits_for_the_same_record(node: Node) -> None:
    stream, first, second = new_stream(), Function(fail_on(0)), Function(fail_on(0))
    stream.put(0)
    ours = node.host(stream, first)
    async with running(ours):
        await node.until(lambda: bool(ours.status.held_up))
        await ours.drain(30)
    theirs = node.host(stream, second, owner="node-2")
    async with running(theirs):
        await node.until(lambda: bool(theirs.status.held_up))
        node.up()
        await node.until(lambda: stream.committed.get("shard-0") == "1")
    assert node.there.values == [[0]]
    assert not stream.late_commits


async def test_a_shard_that_is_lost_while_it_waits_is_not_committed(node: Node) -> None:
    stream, function = new_stream(), Function(fail_on(0))
    stream.put(0)
    host = node.host(stream, function)
    async with running(host):
        await node.until(lambda: bool(host.status.held_up))
        host.lost(["shard-0"])
        node.up()
        await node.until(lambda: node.there.values == [[0]])
        await node.clock.advance(10)
    assert stream.commits == []


async def test_every_half_waits_for_its_own(node: Node) -> None:
    stream, function = new_stream(), Function(fail_on(2, 5))
    for number in range(8):
        stream.put(number)
    host = node.host(stream, function, batch_size=8, bisect_batch_on_function_error=True)
    node.there.once = True
    async with running(host):
        for value, committed in ((2, "2"), (5, "5")):
            await node.until(lambda: bool(host.status.held_up))
            await node.clock.advance(100)
            assert stream.committed == {"shard-0": committed}, "up to what waits"
            node.up()
            await node.until(lambda value=value: [value] in node.there.values)
        await node.until(lambda: stream.committed.get("shard-0") == "8")
    assert node.there.values == [[2], [5]]
    assert function.handled == [0, 1, 3, 4, 6, 7]


async def test_a_tumbling_window_waits_with_its_batch_and_ends_once(node: Node) -> None:
    stream = new_stream()
    now = node.clock.now_ms() // 60_000 * 60_000

    def handler(event: Any) -> Any:
        if "poison" in values(event):
            raise ValueError("poison")
        return {"state": {"seen": [*event["state"].get("seen", []), *values(event)]}}

    function = Function(handler)
    stream.put("one", arrived_ms=now)
    stream.put("poison", arrived_ms=now + 1)
    stream.put("two", arrived_ms=now + 2)
    host = node.host(stream, function, batch_size=1, tumbling_window=Duration(60))
    async with running(host):
        await node.until(lambda: bool(host.status.held_up))
        await node.clock.advance(300)
        assert [values(event) for event in function.events] == [["one"], ["poison"]]
        assert not any(event["isFinalInvokeForWindow"] for event in function.events)
        node.up()
        await node.until(lambda: function.events[-1]["isFinalInvokeForWindow"])
    assert [values(event) for event in function.events] == [["one"], ["poison"], ["two"]]
    assert function.events[-1]["state"] == {"seen": ["one"]}
