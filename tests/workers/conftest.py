"""A real pool with real processes, and the functions that the tests put into it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import textwrap
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import uvloop

from eventfn.clock import Clock, SystemClock
from eventfn.event import Invocation, Outcome, ResponseStream
from eventfn.functions.model import Function, Workers
from eventfn.sandbox.probe import Probe, Sandbox
from eventfn.testing.clock import FakeClock
from eventfn.units import Duration
from eventfn.workers import pressure
from eventfn.workers.contract import Prepared, Surroundings
from eventfn.workers.pool import WorkerPool
from eventfn.workers.process import Process
from eventfn.workers.runtimes import python
from tests import processes

ARN = "arn:aws:lambda:us-east-1:000000000000:function:"

# `from who import ME` in a function: what tells its environment from others. All handlers have the same process id.
WHO = "import uuid\nME = uuid.uuid4().hex\nprint('I am', ME)\n"


class Sink:
    """Keeps every line, and wakes whoever waits for one."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []
        self._changed = asyncio.Event()

    def write(self, function: str, stream: str, timestamp_ms: int, message: str) -> None:
        self.lines.append((function, stream, message))
        self._changed.set()

    def write_all(self, function: str, stream: str, messages: Sequence[tuple[int, str]]) -> None:
        for timestamp_ms, message in messages:
            self.write(function, stream, timestamp_ms, message)

    def messages(self, function: str | None = None) -> list[str]:
        return [message for name, _, message in self.lines if function in (None, name)]

    async def saw(self, text: str) -> str:
        """The first message with this text in it, once it is there."""
        async with asyncio.timeout(20):
            while True:
                for _, _, message in self.lines:
                    if text in message:
                        return message
                self._changed.clear()
                await self._changed.wait()


class Workbench:
    """The pool under test, and short words for what tests do with it."""

    def __init__(self, pool: WorkerPool, sink: Sink, folder: Path) -> None:
        self.pool = pool
        self.sink = sink
        self._folder = folder
        self.interpreter = python.find(Function(name="any", handler="a.b", code=str(folder)))
        self._versions = 0

    def deploy(self, name: str, code: str, *, handler: str = "main.handler", **settings: Any) -> Prepared:
        self._versions += 1
        opt_root: str | None = settings.pop("opt_root", None)
        found: python.Interpreter = settings.pop("interpreter", self.interpreter)
        root = self._folder / f"{name}-{self._versions}"
        root.mkdir()
        (root / "main.py").write_text(textwrap.dedent(code))
        (root / "who.py").write_text(WHO)
        function = Function(name=name, handler=handler, code=str(root), **settings)
        prepared = Prepared(
            function=function,
            arn=ARN + name,
            version=str(self._versions),
            task_root=str(root),
            opt_root=opt_root,
            interpreter=found.path,
            runtime=found.runtime,
        )
        self.pool.deploy(prepared)
        return prepared

    def begin(
        self,
        name: str,
        event: object = None,
        *,
        log_tail: bool = False,
        stream: ResponseStream | None = None,
        **facts: Any,
    ) -> asyncio.Future[Outcome]:
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        invocation = Invocation(str(uuid.uuid4()), name, msgspec.json.encode(event), ARN + name, **facts)
        self.pool.invoke(invocation, answer.set_result, log_tail=log_tail, stream=stream)
        return answer

    async def invoke(self, name: str, event: object = None, *, log_tail: bool = False, **facts: Any) -> Outcome:
        async with asyncio.timeout(60):
            return await self.begin(name, event, log_tail=log_tail, **facts)

    def process_of(self, me: str) -> int:
        """Who the handler with this ME is on the machine."""
        (stream,) = [stream for _, stream, message in self.sink.lines if message == f"I am {me}"]
        (environment,) = [each for each in self.pool._environments if each.journal.stream == stream]
        assert isinstance(environment.process, Process), "copies are no children of ours"
        first = environment.process.pid
        if processes.name_of(first) != "fn:init":
            return first  # a machine without namespaces
        return min(processes.children_of(first), key=processes.start_of)

    async def result(self, name: str, event: object = None) -> Any:
        """What the handler returned; its failure fails the test."""
        outcome = await self.invoke(name, event)
        assert outcome.ok, outcome
        return msgspec.json.decode(outcome.payload)


async def until(true: Callable[[], bool], patience: float = 30) -> None:
    """Polls a condition of other processes, with a deadline; once more when the machine stood still meanwhile."""
    deadline = time.monotonic() + patience
    while not true():
        late = time.monotonic() > deadline
        await asyncio.sleep(0.005)
        if late and not true():
            raise TimeoutError(f"not within {patience:g} s")


def children() -> set[int]:
    """Processes of ours, zombies included: environments, blank ones too, and zygotes."""
    return processes.children_of(os.getpid())


def descriptors() -> list[str]:
    """Open sockets, pipes and pidfds of ours; libuv keeps a /dev/null in reserve, which is its own."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return [link for link in found if link.startswith(("socket:", "pipe:", "anon_inode:[pidfd]"))]


def error_of(outcome: Outcome) -> dict[str, Any]:
    error: dict[str, Any] = msgspec.json.decode(outcome.payload)
    return error


@pytest.hookimpl(optionalhook=True)  # of pytest-asyncio 1.4; without it everything runs on asyncio's loop
def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test here on both loops: they differ in when they read, close and call back."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@contextlib.asynccontextmanager
async def workbench(
    folder: Path,
    clock: Clock,
    sandbox: Sandbox,
    available: Callable[[], float] = pressure.available,
    surroundings: Surroundings | None = None,
    **settings: Any,
) -> AsyncIterator[Workbench]:
    """Whatever happened in between, afterwards there is no process and no descriptor of the pool's left."""
    before, open_before = children(), len(descriptors())
    sink = Sink()
    pool = WorkerPool(Workers(**settings), clock, sink, available, surroundings)
    await pool.start(sandbox)
    try:
        yield Workbench(pool, sink, folder)
    finally:
        await pool.close()
    # What was being made when the pool closed is killed then, and gone a moment after; transports close their sockets
    # some turns of the loop after connection_lost.
    try:
        await until(lambda: children() <= before)
        await until(lambda: len(descriptors()) <= open_before)
    except TimeoutError:
        left = {pid: processes.described(pid) for pid in children() - before}
        pytest.fail(f"the pool left behind {left}, and of {open_before} descriptors {descriptors()}")


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """All that this machine has."""
    probe = Probe()
    yield probe.sandbox()
    probe.close()


@pytest_asyncio.fixture
async def bench(tmp_path: Path, sandbox: Sandbox) -> AsyncIterator[Workbench]:
    async with workbench(tmp_path, SystemClock(), sandbox, init_timeout=Duration(10)) as ready:
        yield ready


@pytest.fixture
def fake_clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture
async def timeless(tmp_path: Path, fake_clock: FakeClock, sandbox: Sandbox) -> AsyncIterator[Workbench]:
    """A bench on which only the test lets time pass."""
    async with workbench(tmp_path, fake_clock, sandbox, idle_timeout=Duration(300)) as ready:
        yield ready
