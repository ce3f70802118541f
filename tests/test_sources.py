"""The triggers of a node: a connector that breaks its contract keeps nobody else from being drained and closed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from eventfn.bus.outbox import Outbox
from eventfn.bus.queues import NamedQueues
from eventfn.engine.memory import MemoryEngine
from eventfn.errors import ConnectorError, Refused
from eventfn.event import Outcome, OutcomeKind
from eventfn.functions.model import Function, Project, TriggerBinding, Where
from eventfn.plugins import Plugins
from eventfn.sources import Bound, Sources
from eventfn.testing import FakeClock, MemorySource, MemoryTrigger
from eventfn.trigger import Mounted, Traits


class NoSettings(msgspec.Struct):
    pass


class Listening:
    """A connector whose callers wait; a test says how it drains and closes."""

    Settings: ClassVar[type[msgspec.Struct]] = NoSettings
    Shared: ClassVar[type[msgspec.Struct] | None] = None
    traits: ClassVar[Traits] = Traits(invocation="listen")
    ending: ClassVar[Callable[[], Any]]

    def __init__(self, shared: Any, context: Any) -> None: ...

    def check(self, mounted: Sequence[Any]) -> list[tuple[int, str, str]]:
        return []

    def mount(self, mounted: Sequence[Mounted]) -> None: ...

    async def open(self) -> str:
        return "127.0.0.1:1"

    async def drain(self, deadline: float) -> None:
        await type(self).ending()

    async def close(self) -> None:
        await type(self).ending()


class SlowBus:
    """Functions that run until the test ends them."""

    def __init__(self) -> None:
        self.running: list[asyncio.Future[Outcome]] = []
        self.functions: list[str] = []

    async def call(self, function: str, payload: bytes) -> Outcome:
        self.functions.append(function)
        self.running.append(asyncio.get_running_loop().create_future())
        return await self.running[-1]


class Silent:
    """A reporter."""

    def listening(self, what: str, address: str) -> None: ...


class Bench:
    def __init__(self, tmp_path: Path) -> None:
        self.clock = FakeClock()
        self.engine = MemoryEngine()
        self.bus = SlowBus()
        self.source = MemorySource("orders")
        self.sources = self.restarted()
        self._folder = str(tmp_path)

    def restarted(self, trigger: type[MemoryTrigger] = MemoryTrigger) -> Sources:
        """The triggers of a node that starts on the same engine."""
        plugins = Plugins({"memory": trigger, "listening": Listening})
        queues = NamedQueues(self.engine, {}, self.clock)
        bus: Any = self.bus
        reporter: Any = Silent()
        return Sources(plugins, bus, queues, self.engine, Outbox(self.engine, self.clock), self.clock, reporter)

    def project(self, *triggers: tuple[str, Any]) -> Project:
        bound = tuple(TriggerBinding(type=kind, source=f"f/{kind}", settings=settings) for kind, settings in triggers)
        function = Function(name="f", handler="f.h", code=self._folder, triggers=bound)
        return Project(folder=self._folder, file=None, data=self._folder, functions={"f": function})


BOTH = (("memory", MemoryTrigger.Settings(name="orders")), ("listening", NoSettings()))


@contextlib.asynccontextmanager
async def declared(tmp_path: Path) -> AsyncGenerator[tuple[Bench, asyncio.TaskGroup]]:
    bench = Bench(tmp_path)
    await bench.engine.open(bench.clock.now_ms())
    async with asyncio.TaskGroup() as tasks:
        project = bench.project(*BOTH)
        await bench.sources.declare(project, tasks)
        yield bench, tasks


class RaisesWhenMade(MemoryTrigger):
    def __init__(self, settings: Any, shared: Any, context: Any) -> None:
        raise ValueError("a bug of the plugin")


async def test_a_trigger_that_cannot_be_made_is_its_authors_to_mend(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path)
    await bench.engine.open(bench.clock.now_ms())
    sources = bench.restarted(RaisesWhenMade)
    async with asyncio.TaskGroup() as tasks:
        with pytest.raises(ConnectorError, match=r"f/memory: .*its author must mend: ValueError: a bug of the plugin"):
            await sources.declare(bench.project(BOTH[0]), tasks)
    assert "Traceback" in caplog.text


async def broken() -> None:
    raise ValueError("a bug of the plugin")


async def hanging() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("ending", [broken, hanging])
async def test_a_listener_that_cannot_end_keeps_no_other_from_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ending: Callable[[], Any]
) -> None:
    Listening.ending = ending
    async with declared(tmp_path) as (bench, _):
        draining = asyncio.create_task(bench.sources.drain(1))
        await bench.clock.advance(60)
        await draining
        closing = asyncio.create_task(bench.sources.close())
        await bench.clock.advance(60)
        await closing
        assert "listening" in caplog.text


async def test_a_reload_that_is_cancelled_ends_at_whatever_it_waits_for(tmp_path: Path) -> None:
    """A node that is told to stop cancels it, and waits for that."""

    async def well() -> None: ...

    Listening.ending = well
    async with declared(tmp_path) as (bench, tasks):
        for turns in itertools.count():
            reloading = asyncio.create_task(bench.sources.declare(bench.project(*BOTH), tasks))
            for _ in range(turns):
                await asyncio.sleep(0)
            if reloading.done():
                break
            reloading.cancel()
            await asyncio.wait({reloading})
            assert reloading.cancelled(), f"cancelled after {turns} turns of the loop, it went on"
        await bench.sources.drain(1)


async def test_a_drain_waits_for_a_source_that_a_reload_was_stopping(tmp_path: Path) -> None:
    async def well() -> None: ...

    Listening.ending = well
    async with declared(tmp_path) as (bench, tasks):
        bench.source.put("one")
        await bench.clock.advance(1)
        reloading = tasks.create_task(bench.sources.declare(bench.project(), tasks))
        await bench.clock.advance(1)
        reloading.cancel()
        await asyncio.wait({reloading})
        draining = asyncio.create_task(bench.sources.drain(30))
        await bench.clock.advance(1)
        assert not draining.done()

        bench.bus.running[0].set_result(Outcome(OutcomeKind.SUCCESS, b"null"))
        await asyncio.wait_for(draining, 60)
        assert bench.source.pending == 0


async def test_a_trigger_is_switched_off_and_on_and_stays_so_over_a_restart(tmp_path: Path) -> None:
    async def well() -> None: ...

    Listening.ending = well
    async with declared(tmp_path) as (bench, tasks):
        await bench.sources.set_enabled("f/memory", enabled=False)
        await bench.sources.set_enabled("f/listening", enabled=False)
        bench.source.put("one")
        await bench.clock.advance(60)
        assert bench.bus.running == []
        states = [status.state for status in await bench.sources.status(bench.project(*BOTH).functions["f"])]
        assert states == ["disabled", "disabled"]

        again = bench.restarted()
        await again.declare(bench.project(*BOTH), tasks)
        await bench.clock.advance(60)
        assert bench.bus.running == []
        await again.set_enabled("f/memory", enabled=True)
        await bench.clock.advance(1)
        assert len(bench.bus.running) == 1
        bench.bus.running[0].set_result(Outcome(OutcomeKind.SUCCESS, b"null"))
        await again.drain(5)
        assert await bench.engine.scan("switch/f/memory") == {}


async def test_switching_off_lets_what_is_in_hand_come_to_its_end(tmp_path: Path) -> None:
    async def well() -> None: ...

    Listening.ending = well
    async with declared(tmp_path) as (bench, tasks):
        bench.source.put("one")
        await bench.clock.advance(1)
        switching = tasks.create_task(bench.sources.set_enabled("f/memory", enabled=False))
        await bench.clock.advance(1)
        assert not switching.done()
        bench.bus.running[0].set_result(Outcome(OutcomeKind.SUCCESS, b"null"))
        await asyncio.wait_for(switching, 60)
        assert bench.source.pending == 0


async def test_what_is_no_trigger_cannot_be_switched(tmp_path: Path) -> None:
    async def well() -> None: ...

    Listening.ending = well
    async with declared(tmp_path) as (bench, _):
        with pytest.raises(Refused, match="no trigger 'f/other'"):
            await bench.sources.set_enabled("f/other", enabled=False)
        await bench.sources.drain(1)


def mapped(name: str, *, function: str = "f", where: str = "API") -> Bound:
    settings = MemoryTrigger.Settings(name=name)
    binding = TriggerBinding(type="memory", source=f"mapping/{name}", settings=settings, where=Where(where))
    return Bound(Function(name=function, handler="f.h", code="/"), f"arn:{function}", binding)


async def test_a_mapping_is_started_changed_and_ended_while_the_node_runs(tmp_path: Path) -> None:
    async def well() -> None: ...

    Listening.ending = well
    async with declared(tmp_path) as (bench, _):
        jobs = MemorySource("jobs")
        await asyncio.gather(bench.sources.map([mapped("jobs", function="f:live")]), bench.clock.advance(2))
        jobs.put("one")
        await bench.clock.advance(1)
        assert bench.bus.functions == ["f:live"]
        status = await bench.sources.status(bench.project(*BOTH).functions["f"])
        assert [(each.source, each.where) for each in status][2:] == [("mapping/jobs", "API")]
        assert bench.sources.state("mapping/jobs") == (None, "")

        # Another function: what is in hand comes to its end first.
        changing = asyncio.create_task(bench.sources.map([mapped("jobs", function="g")]))
        await bench.clock.advance(1)
        assert not changing.done()
        bench.bus.running[0].set_result(Outcome(OutcomeKind.SUCCESS, b"null"))
        await bench.clock.advance(2)
        await changing
        jobs.put("two")
        await bench.clock.advance(1)
        assert bench.bus.functions == ["f:live", "g"]
        bench.bus.running[1].set_result(Outcome(OutcomeKind.SUCCESS, b"null"))

        await asyncio.gather(bench.sources.map([]), bench.clock.advance(2))
        jobs.put("three")
        await bench.clock.advance(60)
        assert len(bench.bus.running) == 2
        await bench.sources.drain(1)
