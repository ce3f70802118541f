"""An event stream under the host of a node: the position survives what a server and a node can do to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest_asyncio

from eventfn.bus.outbox import Outbox
from eventfn.bus.stream import HostAssignments, StreamIntake
from eventfn.engine.memory import MemoryEngine
from eventfn.event import Outcome, OutcomeKind
from eventfn.functions import model
from eventfn.testing import FakeClock, trigger_context
from eventfn.units import Duration
from eventfn_sse import SseTrigger
from eventfn_sse.settings import SseSettings, SseShared
from tests.servers.proxy import Proxy
from tests.servers.sse import SseServer

PATIENCE = 60.0  # real seconds


class Hosting:
    """Nodes on one engine. `handled` is the data of the invocations that succeeded, in order."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.clock = FakeClock(time.time_ns() // 1_000_000)
        self.engine = MemoryEngine()
        self.handled: list[str] = []
        self.failures = 0.0
        self._folder = folder
        self._chance = chance
        self._running: list[asyncio.Task[None]] = []

    def start(self, url: str, owner: str = "node-1", **intake: Any) -> StreamIntake:
        assignments = HostAssignments()
        context = msgspec.structs.replace(trigger_context(self._folder, clock=self.clock), assignments=assignments)
        settings = SseSettings(url=url)
        node = StreamIntake(
            model.Function(name="hello", handler="app.handler", code="/project", timeout=Duration(3)),
            "arn:aws:lambda:us-east-1:000000000000:function:hello",
            model.TriggerBinding(
                type="sse", source="hello/sse/0", settings=settings, intake=model.Intake(batch_size=5, **intake)
            ),
            SseTrigger(settings, SseShared(), context),
            assignments,
            self._invoke,
            self.engine,
            Outbox(self.engine, self.clock),
            self.clock,
            owner=owner,
            log=logging.getLogger("eventfn.tests"),
            jitter=lambda: 1.0,
        )
        self._running.append(asyncio.create_task(node.run()))
        return node

    async def _invoke(self, function: str, payload: bytes) -> Outcome:
        await asyncio.sleep(0)
        if self._chance.random() < self.failures:
            return Outcome(OutcomeKind.FUNCTION_ERROR, b"{}", error_type="ValueError")
        self.handled += [record["data"] for record in msgspec.json.decode(payload)["Records"]]
        return Outcome(OutcomeKind.SUCCESS, b"null")

    async def crash(self) -> None:
        """Nothing is told, and nothing more is kept."""
        running, self._running = self._running, []
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < PATIENCE, f"did not happen: {what}"
            await self.clock.advance(0.25)
            await asyncio.sleep(0.002)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[SseServer]:
    async with SseServer() as running:
        yield running


@pytest_asyncio.fixture
async def hosting(tmp_path: Path) -> AsyncIterator[Hosting]:
    made = Hosting(tmp_path, random.Random(5))
    await made.engine.open(made.clock.now_ms())
    yield made
    await made.crash()
    with contextlib.suppress(AssertionError):
        await made.engine.close()


async def test_failures_and_a_network_that_is_cut_leave_nothing_out_and_keep_the_order(
    server: SseServer, hosting: Hosting
) -> None:
    async with Proxy("127.0.0.1", server.port) as proxy:
        hosting.failures = 0.2
        hosting.start(f"http://127.0.0.1:{proxy.port}/events")
        await hosting.until(lambda: server.requests, "it is connected")
        names = [f"{number:03}" for number in range(100)]
        for name in names:
            server.send(name)
            if int(name) % 20 == 19:
                await hosting.until(lambda name=name: name in hosting.handled, "what was sent is handled")  # type: ignore[misc]
                proxy.cut()
        await hosting.crash()
    assert hosting.handled == names, "each once: what was cut was done before"


async def test_a_node_that_crashes_goes_on_behind_what_was_done(server: SseServer, hosting: Hosting) -> None:
    hosting.start(server.url)
    await hosting.until(lambda: server.requests, "it is connected")
    names = [f"{number:03}" for number in range(60)]
    for name in names[:20]:
        server.send(name)
    await hosting.until(lambda: len(hosting.handled) >= 7, "some of it is handled")
    await hosting.crash()
    for name in names[20:]:
        server.send(name)  # while nobody is there
    done = len(hosting.handled)
    hosting.start(server.url, owner="node-1")
    await hosting.until(lambda: names[-1] in hosting.handled, "all of it is handled")
    assert list(dict.fromkeys(hosting.handled)) == names
    again = len(hosting.handled) - len(names)
    assert again <= done, "only what was not kept as done may come again"


async def test_of_two_nodes_one_reads(server: SseServer, hosting: Hosting) -> None:
    hosting.start(server.url, owner="node-1")
    await hosting.until(lambda: server.requests, "one is connected")
    hosting.start(server.url, owner="node-2")
    for number in range(50):
        server.send(str(number))
    await hosting.until(lambda: len(hosting.handled) >= 50, "all is handled")
    assert len(server.requests) == 1
    assert hosting.handled == [str(number) for number in range(50)]


async def test_a_server_that_says_stop_is_asked_once_an_hour_and_status_says_why(
    server: SseServer, hosting: Hosting
) -> None:
    server.answer = (204, {})
    node = hosting.start(server.url)
    await hosting.until(lambda: server.requests, "it was asked")
    await hosting.until(lambda: "nothing more will come" in (node.status.last_error or ""), "status says why")
    await hosting.clock.advance(3590)
    assert len(server.requests) == 1
    await hosting.until(lambda: len(server.requests) == 2, "it is asked again")
