"""What the tests of the stream host share: a node's worth of it around a MemoryStream, with a function a test ends."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from eventfn.bus.outbox import Outbox
from eventfn.bus.stream import HostAssignments, StreamIntake
from eventfn.clock import Clock
from eventfn.engine.contract import Engine, Message
from eventfn.event import Outcome, OutcomeKind
from eventfn.functions.model import Intake, TriggerBinding
from eventfn.testing import FakeClock, trigger_context
from eventfn.testing.memory_streams import MemoryGroupTrigger, MemoryStream, MemoryStreamTrigger
from tests.bus.hosting import Calls, function

ARN = "arn:aws:lambda:us-east-1:000000000000:function:hello"
numbers = itertools.count()

Handler = Callable[[Any], Any]  # event -> answer; what it raises is a function error


def new_stream(shards: int = 1) -> MemoryStream:
    return MemoryStream(f"stream-{next(numbers)}", shards)


class Function:
    """A function behind a stream that answers at once. `events` are those that it was invoked with, in order."""

    def __init__(self, handler: Handler = lambda event: None) -> None:
        self.handler = handler
        self.events: list[Any] = []
        self.handled: list[Any] = []  # the values in invocations that succeeded

    async def invoke(self, name: str, payload: bytes) -> Outcome:
        event = msgspec.json.decode(payload)
        self.events.append(event)
        await asyncio.sleep(0)
        try:
            answer = self.handler(event)
        except Exception as error:
            return Outcome(OutcomeKind.FUNCTION_ERROR, b"{}", error_type=type(error).__name__, error_message=str(error))
        if isinstance(answer, Outcome):
            return answer
        self.handled += values(event)
        return Outcome(OutcomeKind.SUCCESS, msgspec.json.encode(answer))


def values(event: Any) -> list[Any]:
    return [record["value"] for record in event["Records"]]


class Arrived(Outbox):
    """What is in it counts as arrived, though nobody delivers it: for tests that look at what was put in."""

    async def arrived(self, uri: str, record_id: str) -> None:
        pass


def make_host(
    stream: MemoryStream,
    invoke: Any,
    engine: Engine,
    clock: Clock,
    folder: Path,
    *,
    group: bool = False,
    owner: str = "node-1",
    trigger_class: Any = None,
    outbox: Outbox | None = None,
    **intake: Any,
) -> StreamIntake:
    assignments = HostAssignments()
    context = msgspec.structs.replace(trigger_context(folder, clock=clock), assignments=assignments)
    trigger: Any = (trigger_class or (MemoryGroupTrigger if group else MemoryStreamTrigger))(
        MemoryStreamTrigger.Settings(name=stream.name), None, context
    )
    binding = TriggerBinding(type="memory", source=f"hello/{stream.name}", settings=None, intake=Intake(**intake))
    return StreamIntake(
        function(),
        ARN,
        binding,
        trigger,
        assignments,
        invoke,
        engine,
        outbox or Arrived(engine, clock),
        clock,
        owner=owner,
        log=logging.getLogger("eventfn.tests"),
        jitter=lambda: 1.0,
    )


@asynccontextmanager
async def running(host: StreamIntake) -> AsyncGenerator[StreamIntake]:
    task = asyncio.create_task(host.run())
    try:
        yield host
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(clock: FakeClock, condition: Callable[[], bool], step: float = 1.0, most: int = 2000) -> None:
    """Lets time pass until it holds."""
    for _ in range(most):
        for _ in range(5):
            await clock.advance(0)
            if condition():
                return
        await clock.advance(step)
    raise AssertionError("it never came to that")


async def in_outbox(engine: Engine, uri: str) -> list[Any]:
    messages: list[Message] = await engine.peek(f"out/{uri}", 1000)
    return [msgspec.json.decode(message.body) for message in messages]


__all__ = ["ARN", "Calls", "Function", "in_outbox", "make_host", "new_stream", "running", "until", "values"]
