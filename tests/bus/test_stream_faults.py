"""The host of streams beside a connector or an engine that breaks, hangs or breaks its word: nothing is lost, nobody
else is taken down, and a drain ends in its time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_asyncio

from eventfn.engine.memory import MemoryEngine
from eventfn.errors import EngineError
from eventfn.event import Batch, Outcome, OutcomeKind, Record
from eventfn.testing import FakeClock
from eventfn.testing.memory_streams import MemoryGroupTrigger, MemoryStreamTrigger
from eventfn.trigger import BatchInfo, Shard, ShardReader, Start
from eventfn.units import Duration
from tests.bus.hosting import Calls
from tests.bus.streaming import Function, in_outbox, make_host, new_stream, running, until, values
from tests.bus.test_stream import DEAD_LETTERS, engine_has, fail_on

SUCCESS = Outcome(OutcomeKind.SUCCESS, b"null")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture
async def engine(clock: FakeClock) -> AsyncIterator[MemoryEngine]:
    made = MemoryEngine()
    await made.open(clock.now_ms())
    yield made


async def never(*_: Any, **__: Any) -> Any:
    await asyncio.Event().wait()


class Wrapped:
    """A reader that a test changes one method of."""

    def __init__(self, reader: Any, **changed: Any) -> None:
        self._reader = reader
        self._changed = changed

    def __getattr__(self, name: str) -> Any:
        return self._changed.get(name) or getattr(self._reader, name)


# --- a drain ends in its time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["read", "close", "commit"])
async def test_a_drain_ends_in_its_time_though_a_reader_hangs(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, method: str
) -> None:
    class Hanging(MemoryGroupTrigger):
        async def open_shard(self, shard: Shard, at: str | Start) -> ShardReader:
            return Wrapped(await super().open_shard(shard, at), **{method: never})

    stream, function = new_stream(), Function()
    stream.put(0)
    host = make_host(stream, function.invoke, engine, clock, tmp_path, group=True, trigger_class=Hanging)
    async with running(host):
        await until(clock, lambda: bool(stream.opened))
        draining = asyncio.create_task(host.drain(3))
        await until(clock, draining.done, step=0.5, most=40)


@pytest.mark.parametrize("method", ["connect", "shards", "open_shard", "close"])
async def test_a_drain_ends_in_its_time_though_the_connector_hangs(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, method: str
) -> None:
    hanging = type("Hanging", (MemoryStreamTrigger,), {method: never})
    stream, function = new_stream(), Function()
    stream.put(0)
    host = make_host(stream, function.invoke, engine, clock, tmp_path, trigger_class=hanging)
    async with running(host):
        for _ in range(20):
            await clock.advance(1)
        draining = asyncio.create_task(host.drain(3))
        await until(clock, draining.done, step=0.5, most=40)


@pytest.mark.parametrize("method", ["commit", "get", "scan", "acquire", "give_up"])
async def test_a_drain_ends_in_its_time_though_the_engine_hangs(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    stream, calls = new_stream(), Calls()
    stream.put(0)
    async with running(make_host(stream, calls.invoke, engine, clock, tmp_path)) as host:
        await until(clock, lambda: len(calls.running) == 1)
        monkeypatch.setattr(engine, method, never)
        calls.running[0].end(SUCCESS)
        await clock.advance(15)
        draining = asyncio.create_task(host.drain(3))
        await until(clock, draining.done, step=0.5, most=40)


async def test_a_drain_does_not_wait_for_the_longer_deadline_of_a_revoke(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, calls = new_stream(), Calls()
    stream.put(0)
    async with running(make_host(stream, calls.invoke, engine, clock, tmp_path, group=True)) as host:
        await until(clock, lambda: len(calls.running) == 1)
        revoking = asyncio.create_task(host.revoke(["shard-0"], 300))
        await clock.advance(1)
        draining = asyncio.create_task(host.drain(3))
        await until(clock, draining.done, step=0.5, most=40)
        await revoking


async def test_a_shard_that_is_lost_while_it_is_let_go_is_waited_for_no_longer(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, calls = new_stream(), Calls()
    stream.put(0)
    async with running(make_host(stream, calls.invoke, engine, clock, tmp_path, group=True)) as host:
        await until(clock, lambda: len(calls.running) == 1)
        revoking = asyncio.create_task(host.revoke(["shard-0"], 300))
        await clock.advance(1)
        host.lost(["shard-0"])
        await until(clock, revoking.done, step=0.1, most=20)
        assert calls.running == []


async def test_a_drain_ends_after_a_fault_of_the_host_while_the_source_is_down(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, calls = new_stream(), Calls()
    stream.put(0)
    async with running(make_host(stream, calls.invoke, engine, clock, tmp_path)) as host:
        await until(clock, lambda: len(calls.running) == 1)
        stream.take_down()
        await until(clock, lambda: not host.status.connected)
        calls.running[0].end(AssertionError("a bug"))
        await clock.advance(1)
        draining = asyncio.create_task(host.drain(3))
        await until(clock, draining.done, step=0.5, most=40)


async def test_no_batch_starts_while_a_drain_waits_for_another(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, calls = new_stream(2), Calls()
    stream.put(0)
    stream.put(1)
    async with running(make_host(stream, calls.invoke, engine, clock, tmp_path, maximum_concurrency=1)) as host:
        await until(clock, lambda: len(calls.running) == 1)
        await clock.advance(1)
        draining = asyncio.create_task(host.drain(30))
        await clock.advance(1)
        calls.running[0].end(SUCCESS)
        await until(clock, draining.done, step=0.1, most=100)
        assert len(calls.started) == 1


# --- connectors that break their word ---------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", [None, [1], "shard-0"])
async def test_a_list_of_shards_that_is_none_takes_nobody_down(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, garbage: Any
) -> None:
    class Careless(MemoryStreamTrigger):
        answers: ClassVar[list[Any]] = [garbage]

        async def shards(self) -> Sequence[Shard]:
            return self.answers.pop() if self.answers else await super().shards()

    stream, function = new_stream(), Function()
    stream.put(0)
    async with running(make_host(stream, function.invoke, engine, clock, tmp_path, trigger_class=Careless)) as host:
        await until(clock, lambda: function.handled == [0])
        assert host.status.connected


@pytest.mark.parametrize("garbage", [None, [], (1, 2)])
async def test_a_read_that_is_no_batch_is_an_error_of_the_source(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, garbage: Any
) -> None:
    answers = [garbage]

    class Careless(MemoryStreamTrigger):
        async def open_shard(self, shard: Shard, at: str | Start) -> ShardReader:
            reader = await super().open_shard(shard, at)

            async def read(limit: int) -> Any:
                return answers.pop() if answers else await reader.read(limit)

            return Wrapped(reader, read=read)

    stream, function = new_stream(), Function()
    stream.put(0)
    async with running(make_host(stream, function.invoke, engine, clock, tmp_path, trigger_class=Careless)):
        await until(clock, lambda: function.handled == [0])


async def test_while_no_position_can_be_said_the_mark_stands_still(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    broken = True

    class Careless(MemoryGroupTrigger):
        async def open_shard(self, shard: Shard, at: str | Start) -> ShardReader:
            reader = await super().open_shard(shard, at)

            def position(record: Record) -> str:
                if broken:
                    raise KeyError("sequence")
                return reader.position(record)

            return Wrapped(reader, position=position)

    stream, function = new_stream(), Function()
    stream.put(0)
    host = make_host(stream, function.invoke, engine, clock, tmp_path, group=True, trigger_class=Careless)
    async with running(host):
        await until(clock, lambda: function.handled == [0])
        await clock.advance(30)
        assert stream.committed == {}
        assert "how far" in (host.status.last_error or "")
        broken = False
        await until(clock, lambda: stream.committed == {"shard-0": "1"})
    assert function.handled == [0]


async def test_a_commit_that_hangs_is_tried_again(clock: FakeClock, engine: MemoryEngine, tmp_path: Path) -> None:
    hanging = [never]

    class Slow(MemoryGroupTrigger):
        async def open_shard(self, shard: Shard, at: str | Start) -> ShardReader:
            reader: Any = await super().open_shard(shard, at)

            async def commit(position: str) -> None:
                await (hanging.pop() if hanging else reader.commit)(position)

            return Wrapped(reader, commit=commit)

    stream, function = new_stream(), Function()
    stream.put(0)
    host = make_host(stream, function.invoke, engine, clock, tmp_path, group=True, trigger_class=Slow)
    async with running(host):
        await until(clock, lambda: stream.committed == {"shard-0": "1"}, most=100)
    assert function.handled == [0]


async def test_what_no_event_can_be_made_of_is_given_up_alone(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    class Careless(MemoryStreamTrigger):
        def encode(self, records: Sequence[Record]) -> bytes:
            if any(b'"poison"' in record.payload for record in records):
                raise KeyError("value")
            return b'{"Records":[%b]}' % b",".join(record.payload for record in records)

    stream, function = new_stream(), Function()
    for value in ("a", "b", "poison", "c", "d"):
        stream.put(value)
    host = make_host(
        stream,
        function.invoke,
        engine,
        clock,
        tmp_path,
        trigger_class=Careless,
        batch_size=5,
    )
    async with running(host):
        await until(clock, lambda: function.handled == ["a", "b", "c", "d"], most=200)
    (record,) = await in_outbox(engine, DEAD_LETTERS)
    assert values(record["payload"]) == ["poison"]
    assert record["requestContext"]["condition"] == "RecordNotEncodable"
    assert record["requestContext"]["approximateInvokeCount"] == 0
    assert "responseContext" not in record


@pytest.mark.parametrize("garbage", [None, {"shardId": "shard-0"}, BatchInfo("MemoryBatchInfo", {"at": object()})])
async def test_a_failed_batch_that_is_described_wrongly_is_kept_all_the_same(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, garbage: Any
) -> None:
    careless = type("Careless", (MemoryStreamTrigger,), {"describe": lambda *_: garbage})
    stream, function = new_stream(), Function(fail_on(0))
    stream.put(0)
    stream.put(1)
    host = make_host(
        stream,
        function.invoke,
        engine,
        clock,
        tmp_path,
        trigger_class=careless,
        batch_size=1,
        maximum_retry_attempts=0,
    )
    async with running(host):
        await until(clock, lambda: function.handled == [1], most=100)
    (record,) = await in_outbox(engine, DEAD_LETTERS)
    assert record["BatchInfo"] == {
        "shardId": "shard-0",
        "startSequenceNumber": "shard-0:0",
        "endSequenceNumber": "shard-0:0",
        "batchSize": 1,
    }


# --- shards come and go -----------------------------------------------------------------------------------------------


async def test_shards_stay_with_their_node_while_the_source_hangs(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    hanging = False

    class Slow(MemoryStreamTrigger):
        async def shards(self) -> Sequence[Shard]:
            return await never() if hanging else await super().shards()

    stream, one, two = new_stream(), Calls(), Function()
    stream.put(0)
    first = make_host(stream, one.invoke, engine, clock, tmp_path, owner="one", trigger_class=Slow)
    async with running(first):
        await until(clock, lambda: len(one.running) == 1)
        hanging = True
        async with running(make_host(stream, two.invoke, engine, clock, tmp_path, owner="two")):
            for _ in range(20):
                await clock.advance(10)
            assert two.events == []
            assert len(one.running) == 1


async def test_a_shard_that_is_given_again_while_it_is_let_go_is_read_again(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, calls = new_stream(), Calls()
    stream.put(0)
    async with running(make_host(stream, calls.invoke, engine, clock, tmp_path, group=True)) as host:
        await until(clock, lambda: len(calls.running) == 1)
        revoking = asyncio.create_task(host.revoke(["shard-0"], 5))
        await clock.advance(1)
        host.assign(stream.shards())
        await until(clock, revoking.done, step=0.5, most=40)
        await until(clock, lambda: len(calls.running) == 1, most=40)


async def test_lost_and_given_again_in_a_row_it_is_read_by_one(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, calls = new_stream(), Calls()
    stream.put(0)
    async with running(make_host(stream, calls.invoke, engine, clock, tmp_path, group=True)) as host:
        await until(clock, lambda: len(calls.running) == 1)
        for _ in range(5):
            host.lost(["shard-0"])
            host.assign(stream.shards())
        await until(clock, lambda: len(calls.started) >= 2)
        await clock.advance(5)
        assert len(calls.running) == 1
        calls.running[0].end(SUCCESS)
        await until(clock, lambda: stream.committed == {"shard-0": "1"})


async def test_a_node_that_was_killed_leaves_all_its_shards_to_the_one_that_starts(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, function = new_stream(4), Function()
    async with running(make_host(stream, function.invoke, engine, clock, tmp_path, owner="killed")):
        await until(clock, lambda: len(stream.opened) == 4)
    await engine.close()
    await engine.open(clock.now_ms())  # as the embedded engine's start: it knows that it is alone
    for number in range(4):
        stream.put(number)
    async with running(make_host(stream, function.invoke, engine, clock, tmp_path, owner="next")) as host:
        await until(clock, lambda: len(function.handled) == 4, step=0.1, most=10)
        assert host.status.connected
    assert [key for key in await engine.scan("stream/") if "killed" in key] == []


# --- tumbling windows -------------------------------------------------------------------------------------------------


async def test_a_window_that_was_open_before_a_restart_ends_though_nothing_comes(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = engine.get

    async def slow_get(key: str) -> bytes | None:
        await clock.sleep(0.1)  # as from a disk
        return await get(key)

    monkeypatch.setattr(engine, "get", slow_get)
    stream = new_stream()
    function = Function(lambda event: {"state": {"seen": values(event)}})
    stream.put("a", arrived_ms=clock.now_ms() // 60_000 * 60_000)
    host = make_host(stream, function.invoke, engine, clock, tmp_path, tumbling_window=Duration(60))
    async with running(host):
        await until(clock, lambda: function.handled == ["a"], step=0.1)
        await host.drain(1)
    await clock.advance(120)
    host = make_host(stream, function.invoke, engine, clock, tmp_path, tumbling_window=Duration(60))
    async with running(host):
        await until(clock, lambda: len(function.events) == 2, most=40)
    assert function.events[-1]["isFinalInvokeForWindow"] is True
    assert function.events[-1]["state"] == {"seen": ["a"]}


async def test_a_window_of_long_ago_is_not_ended_between_two_reads(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    class Slow(MemoryStreamTrigger):
        async def open_shard(self, shard: Shard, at: str | Start) -> ShardReader:
            reader = await super().open_shard(shard, at)

            async def read(limit: int) -> Batch:
                await clock.sleep(1)  # once a second, as Kinesis is asked
                return await reader.read(2)

            return Wrapped(reader, read=read)

    stream = new_stream()
    function = Function(lambda event: {"state": {"seen": [*event["state"].get("seen", []), *values(event)]}})
    began = (clock.now_ms() - 3_600_000) // 60_000 * 60_000
    for number in range(10):
        stream.put(number, arrived_ms=began + number)
    host = make_host(stream, function.invoke, engine, clock, tmp_path, trigger_class=Slow, tumbling_window=Duration(60))
    async with running(host):
        await until(clock, lambda: len(function.handled) == 10, step=0.5)
        await until(clock, lambda: bool(function.events[-1]["isFinalInvokeForWindow"]), step=0.5, most=20)
    finals = [event for event in function.events if event["isFinalInvokeForWindow"]]
    assert [event["state"] for event in finals] == [{"seen": list(range(10))}]


async def test_a_window_ends_though_nothing_of_what_comes_passes_the_filter(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream = new_stream()
    function = Function(lambda event: {"state": {}})
    host = make_host(
        stream,
        function.invoke,
        engine,
        clock,
        tmp_path,
        tumbling_window=Duration(60),
        filter_criteria=[{"offset": [{"numeric": ["<", 1]}]}],
    )
    async with running(host):
        stream.put(0, arrived_ms=clock.now_ms())
        await until(clock, lambda: function.handled == [0], step=0.1)
        for _ in range(70):
            await clock.advance(1)
            stream.put("dropped", arrived_ms=clock.now_ms())
        assert [event["isFinalInvokeForWindow"] for event in function.events] == [False, True]


# --- an engine that fails at every call -------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [False, True], ids=["listed", "assigned"])
@pytest.mark.parametrize("method", ["commit", "get", "scan", "acquire", "give_up"])
async def test_an_engine_that_fails_now_and_then_loses_no_record(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, group: bool
) -> None:
    calls = itertools.count()
    works = getattr(engine, method)

    async def sometimes(*arguments: Any) -> Any:
        if next(calls) % 3 == 0:
            raise EngineError("no space left")
        return await works(*arguments)

    monkeypatch.setattr(engine, method, sometimes)
    stream, function = new_stream(3), Function(fail_on(13))
    for number in range(40):
        stream.put(number)
    host = make_host(
        stream, function.invoke, engine, clock, tmp_path, group=group, batch_size=1, maximum_retry_attempts=0
    )
    async with running(host):
        await until(clock, lambda: set(function.handled) == set(range(40)) - {13})
        await until(clock, lambda: engine_has(engine, f"out/{DEAD_LETTERS}"))
        draining = asyncio.create_task(host.drain(30))
        await until(clock, draining.done, most=60)


async def test_a_commit_that_is_kept_and_reported_as_failed_loses_no_record(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = itertools.count()
    works = engine.commit

    async def unsure(*arguments: Any) -> Any:
        done = await works(*arguments)
        if next(numbers) % 4 == 3:
            raise EngineError("the connection is gone")
        return done

    monkeypatch.setattr(engine, "commit", unsure)
    stream, function = new_stream(2), Function(fail_on(5))
    for number in range(10):
        stream.put(number)
    host = make_host(stream, function.invoke, engine, clock, tmp_path, batch_size=1, maximum_retry_attempts=0)
    async with running(host):
        await until(clock, lambda: set(function.handled) == set(range(10)) - {5})
        await until(clock, lambda: host.status.batches_in_flight == 0)
    assert len(await in_outbox(engine, DEAD_LETTERS)) == 1, "given up twice, it leaves once"
