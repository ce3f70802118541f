"""Sources that one node at a time reads: two nodes on one engine, and what becomes of the source when one goes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import pytest_asyncio

from eventfn.bus.alone import LEASE
from eventfn.bus.outbox import Outbox
from eventfn.bus.queues import NamedQueues
from eventfn.engine.memory import MemoryEngine
from eventfn.errors import EngineError
from eventfn.event import Outcome, OutcomeKind
from eventfn.functions.model import Function, Project, TriggerBinding
from eventfn.plugins import Plugins
from eventfn.sources import Sources
from eventfn.testing import FakeClock, MemorySource, MemoryTrigger
from eventfn.trigger import Traits
from tests.bus.streaming import until


class Handing(MemoryTrigger):
    traits: ClassVar[Traits] = msgspec.structs.replace(MemoryTrigger.traits, shared=False)


class Announcing(MemoryTrigger):
    traits: ClassVar[Traits] = Traits(invocation="event", shared=False)


class CountingBus:
    """Functions that a test says the end of. `handled` are the payloads that arrived."""

    def __init__(self) -> None:
        self.handled: list[bytes] = []
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def call(self, function: str, payload: bytes) -> Outcome:
        self.handled.append(payload)
        await self.may_end.wait()
        return Outcome(OutcomeKind.SUCCESS, b"null")

    async def submit(self, function: str, payload: bytes, **_: Any) -> str:
        self.handled.append(payload)
        return "id"


class Node:
    """The triggers of one node, on an engine that others use too."""

    def __init__(self, engine: MemoryEngine, clock: FakeClock, folder: Path, kind: str) -> None:
        self.bus = CountingBus()
        bus: Any = self.bus
        reporter: Any = None
        plugins = Plugins({"handing": Handing, "announcing": Announcing})
        self.sources = Sources(
            plugins, bus, NamedQueues(engine, {}, clock), engine, Outbox(engine, clock), clock, reporter
        )
        binding = TriggerBinding(type=kind, source="f/one/0", settings=MemoryTrigger.Settings(name="alone"))
        self.function = Function(name="f", handler="f.h", code=str(folder), triggers=(binding,))
        self.project = Project(folder=str(folder), file=None, data=str(folder), functions={"f": self.function})

    async def state(self) -> tuple[str, str]:
        (status,) = await self.sources.status(self.function)
        return status.state, status.reason

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[asyncio.Task[None]]:
        started = asyncio.Event()

        async def run() -> None:
            async with asyncio.TaskGroup() as tasks:
                await self.sources.declare(self.project, tasks)
                started.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(run())
        try:
            await started.wait()
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture
async def engine(clock: FakeClock) -> AsyncIterator[MemoryEngine]:
    made = MemoryEngine()
    await made.open(clock.now_ms())
    yield made


@pytest.fixture(params=["handing", "announcing"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_of_two_nodes_one_reads_and_the_other_says_so(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, kind: str
) -> None:
    source = MemorySource("alone")
    one, two = (Node(engine, clock, tmp_path, kind) for _ in range(2))
    async with one.running(), two.running():
        assert await one.state() == ("running", "")
        assert await two.state() == ("standby", "another node reads it")
        for number in range(20):
            source.put({"n": number})
            await clock.advance(LEASE / 2)
        await until(clock, lambda: source.pending == 0)
        assert one.bus.handled
        assert two.bus.handled == []
        assert await two.state() == ("standby", "another node reads it")


async def test_a_node_that_is_drained_leaves_the_source_to_the_other(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, kind: str
) -> None:
    source = MemorySource("alone")
    one, two = (Node(engine, clock, tmp_path, kind) for _ in range(2))
    async with one.running(), two.running():
        await one.sources.drain(5)
        source.put({"n": 1})
        await until(clock, lambda: len(two.bus.handled) == 1, most=12)
        assert await two.state() == ("running", "")


async def test_a_node_that_is_killed_keeps_the_source_until_its_lease_lapses(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = MemorySource("alone")
    one, two = (Node(engine, clock, tmp_path, kind) for _ in range(2))

    async def nothing(_: Any) -> None: ...

    async with one.running() as killed, two.running():
        with monkeypatch.context() as patched:  # one that is killed gives nothing up
            patched.setattr(engine, "give_up", nothing)
            killed.cancel()
            await asyncio.gather(killed, return_exceptions=True)
        source.put({"n": 1})
        await until(clock, lambda: len(two.bus.handled) == 1, most=45)


async def test_the_embedded_engine_makes_no_start_wait_for_one_that_was_killed(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = MemorySource("alone")
    one, two = (Node(engine, clock, tmp_path, kind) for _ in range(2))

    async def nothing(_: Any) -> None: ...

    with monkeypatch.context() as patched:
        patched.setattr(engine, "give_up", nothing)
        async with one.running():
            pass
    await engine.close()
    await engine.open(clock.now_ms())
    source.put({"n": 1})
    async with two.running():
        await until(clock, lambda: len(two.bus.handled) == 1, step=0, most=1)


async def test_who_has_lost_the_lease_reads_no_more_and_takes_it_again_when_it_is_free(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, kind: str
) -> None:
    source = MemorySource("alone")
    node = Node(engine, clock, tmp_path, kind)
    async with node.running():
        (name,) = engine._leases
        await engine.give_up(engine._leases[name])
        now = clock.now_ms()
        stolen = await engine.acquire(name, "another", now + 60_000, now)
        assert stolen is not None
        for _ in range(15):
            await clock.advance(1)
        assert await node.state() == ("standby", "another node reads it")
        source.put({"n": 1})
        await clock.advance(10)
        assert node.bus.handled == []
        await engine.give_up(stolen)
        await until(clock, lambda: len(node.bus.handled) == 1, most=12)
        assert await node.state() == ("running", "")


@pytest.mark.parametrize("hangs", [False, True], ids=["fails", "hangs"])
async def test_an_engine_that_is_away_for_a_moment_changes_nothing_and_for_long_stops_it(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    source = MemorySource("alone")
    node = Node(engine, clock, tmp_path, kind)

    async def away(*_: Any) -> Any:
        if hangs:
            await asyncio.Event().wait()
        raise EngineError("away")

    async with node.running():
        with monkeypatch.context() as patched:
            patched.setattr(engine, "acquire", away)
            await clock.advance(LEASE / 2)
            assert (await node.state())[0] == "running"
        await clock.advance(LEASE / 2)
        with monkeypatch.context() as patched:
            patched.setattr(engine, "acquire", away)
            patched.setattr(engine, "give_up", away)
            for _ in range(60):  # another may have it once the lease has lapsed
                await clock.advance(1)
            assert (await node.state())[0] != "running"
            draining = asyncio.create_task(node.sources.drain(1))
            await until(clock, draining.done, most=15)
        source.put({"n": 1})
        assert node.bus.handled == []


async def test_what_a_function_has_in_hand_comes_to_its_end_before_the_lease_is_given_up(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    source = MemorySource("alone")
    one, two = (Node(engine, clock, tmp_path, "handing") for _ in range(2))
    one.bus.may_end.clear()
    source.put({"n": 1})
    async with one.running(), two.running():
        await until(clock, lambda: len(one.bus.handled) == 1)
        draining = asyncio.create_task(one.sources.drain(300))
        for _ in range(20):  # longer than a lease
            await clock.advance(5)
        assert await two.state() == ("standby", "another node reads it")
        one.bus.may_end.set()
        await until(clock, draining.done)
        await until(clock, lambda: source.pending == 0)
        assert two.bus.handled == []
