"""What a host gives a connector, in memory: for the conformance suites, and for a connector's own tests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from eventfn.bus.queues import NamedQueues
from eventfn.clock import Clock
from eventfn.destination import DestinationContext
from eventfn.engine.memory import MemoryEngine
from eventfn.errors import FunctionNotFound
from eventfn.functions.model import Queue
from eventfn.testing.clock import FakeClock
from eventfn.trigger import Assignments, Positions, QueueFacts, QueueMessage, Queues, ReceivedMessage, TriggerContext


class MemoryPositions:
    """The positions of one source. A test plays the host and keeps `Record.position` here when it settles."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    async def scan(self, prefix: str = "") -> dict[str, bytes]:
        return {key: value for key, value in sorted(self.values.items()) if key.startswith(prefix)}

    async def put(self, key: str, value: bytes | None) -> None:
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value


class NoQueues:
    """For connectors that use no queue: any use of one fails the test."""

    def facts(self, queue: str) -> QueueFacts:
        raise self._unused(queue)

    async def send(self, queue: str, messages: Sequence[QueueMessage]) -> list[str]:
        raise self._unused(queue)

    async def receive(self, queue: str, limit: int, visibility: float | None = None) -> list[ReceivedMessage]:
        raise self._unused(queue)

    async def wait(self, queue: str) -> None:
        raise self._unused(queue)

    async def delete(self, messages: Sequence[ReceivedMessage]) -> list[bool]:
        raise self._unused("")

    async def release(self, messages: Sequence[ReceivedMessage], after: float | None = None) -> list[bool]:
        raise self._unused("")

    async def extend(self, messages: Sequence[ReceivedMessage], seconds: float) -> list[bool]:
        raise self._unused("")

    async def depth(self, queue: str) -> int:
        raise self._unused(queue)

    def _unused(self, queue: str) -> AssertionError:
        return AssertionError(f"a queue was used ({queue!r}): give the context memory_queues()")


@contextlib.asynccontextmanager
async def memory_queues(clock: Clock, *declared: Queue) -> AsyncGenerator[Queues, None]:
    """Queues as a node has them, in memory and on `clock`; those that are not declared have the defaults."""
    engine = MemoryEngine()
    await engine.open(clock.now_ms())
    queues = NamedQueues(engine, {queue.name: queue for queue in declared}, clock)
    waking = asyncio.create_task(queues.run())
    try:
        yield queues
    finally:
        waking.cancel()
        await asyncio.gather(waking, return_exceptions=True)
        await engine.close()


class Submissions:
    """The functions of a project, as a destination sees them: what was submitted to them, each dedupe key once."""

    def __init__(self, functions: Sequence[str] = ("hello",)) -> None:
        self.functions = list(functions)
        self.refusal: Exception | None = None  # what submit raises while it is set: Throttled, EngineFull ...
        self.events: list[tuple[str, bytes]] = []  # (function, payload), in order
        self._requests: dict[tuple[str, str], str] = {}

    def names(self) -> Sequence[str]:
        return self.functions

    async def submit(self, function: str, payload: bytes, dedupe_key: str) -> str:
        if self.refusal is not None:
            raise self.refusal
        if function not in self.functions:
            raise FunctionNotFound(function)
        known = self._requests.get((function, dedupe_key))
        if known is not None:
            return known
        self.events.append((function, payload))
        request_id = f"request-{len(self.events)}"
        self._requests[function, dedupe_key] = request_id
        return request_id


def trigger_context(
    folder: Path,
    *,
    clock: Clock | None = None,
    queues: Queues | None = None,
    positions: Positions | None = None,
    function: str = "hello",
    assignments: Assignments | None = None,
) -> TriggerContext:
    """A context for a trigger of `function` in the project `folder`; its data folder is `folder/.eventfn`."""
    return TriggerContext(
        function=function,
        function_arn=f"arn:aws:lambda:us-east-1:000000000000:function:{function}",
        source=f"{function}/test/0",
        folder=str(folder),
        data=str(folder / ".eventfn"),
        region="us-east-1",
        account="000000000000",
        clock=clock or FakeClock(),
        log=logging.getLogger("eventfn.testing.trigger"),
        queues=queues or NoQueues(),
        positions=positions or MemoryPositions(),
        assignments=assignments,
    )


def destination_context(
    folder: Path,
    *,
    clock: Clock | None = None,
    queues: Queues | None = None,
    submissions: Submissions | None = None,
) -> DestinationContext:
    """A context for a destination in the project `folder`."""
    functions = submissions or Submissions()
    return DestinationContext(
        folder=str(folder),
        clock=clock or FakeClock(),
        log=logging.getLogger("eventfn.testing.destination"),
        queues=queues or NoQueues(),
        submit=functions.submit,
        functions=functions.names,
    )
