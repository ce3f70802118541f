"""The host of streams beside a connector or an engine that breaks, hangs or breaks its word: nothing is lost, nobody
else is taken down, and a drain ends in its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from eventfn.engine.memory import MemoryEngine
from eventfn.event import Outcome, OutcomeKind
from eventfn.testing import FakeClock
from eventfn.testing.memory_streams import MemoryGroupTrigger, MemoryStreamTrigger
from eventfn.trigger import Shard, ShardReader, Start
from tests.bus.hosting import Calls
from tests.bus.streaming import Function, make_host, new_stream, running, until

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
