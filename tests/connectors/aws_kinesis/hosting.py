"""A node's worth of host around a real stream: the real time is the servers', that of the host passes faster."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from eventfn.bus.stream import HostAssignments, StreamIntake
from eventfn.engine.contract import Engine
from eventfn.event import Outcome, OutcomeKind
from eventfn.functions.model import Function, Intake, TriggerBinding
from eventfn.testing import FakeClock, trigger_context
from eventfn.units import Duration
from eventfn_aws.settings import AwsSettings
from tests.bus.streaming import Arrived

ARN = "arn:aws:lambda:us-east-1:000000000000:function:hello"
PATIENCE = 60.0  # real seconds


class Handler:
    """The function behind a stream. It answers what `answer` says, and what that raises is a function error.

    `events`: all that it was invoked with. `handled`: the records of the invocations that succeeded.
    """

    def __init__(self, answer: Callable[[Any], Any] = lambda event: None) -> None:
        self.answer = answer
        self.events: list[Any] = []
        self.handled: list[Any] = []

    async def invoke(self, name: str, payload: bytes) -> Outcome:
        event = msgspec.json.decode(payload)
        self.events.append(event)
        await asyncio.sleep(0)
        try:
            answer = self.answer(event)
        except Exception as error:
            return Outcome(OutcomeKind.FUNCTION_ERROR, b"{}", error_type=type(error).__name__, error_message=str(error))
        self.handled += event["Records"]
        return Outcome(OutcomeKind.SUCCESS, msgspec.json.encode(answer))


class Hosting:
    """What the nodes of one test share: their engine, their clock, the trigger that each has one of."""

    def __init__(
        self, trigger: Any, settings: Any, shared: AwsSettings, engine: Engine, folder: Path, clock: int = 0
    ) -> None:
        self.clock = FakeClock(time.time_ns() // 1_000_000 + clock * 1000)
        self.engine = engine
        self._made = (trigger, settings, shared)
        self._folder = folder

    def node(self, handler: Handler, *, owner: str = "node-1", **intake: Any) -> StreamIntake:
        trigger_class, settings, shared = self._made
        assignments = HostAssignments()
        context = msgspec.structs.replace(trigger_context(self._folder, clock=self.clock), assignments=assignments)
        binding = TriggerBinding(type="stream", source="hello/stream/0", settings=settings, intake=Intake(**intake))
        return StreamIntake(
            Function(name="hello", handler="app.handler", code="/project", timeout=Duration(3)),
            ARN,
            binding,
            trigger_class(settings, shared, context),
            assignments,
            handler.invoke,
            self.engine,
            Arrived(self.engine, self.clock),
            self.clock,
            owner=owner,
            log=logging.getLogger("eventfn.tests"),
            jitter=lambda: 1.0,
        )

    @contextlib.asynccontextmanager
    async def running(self, *nodes: StreamIntake) -> AsyncIterator[None]:
        """Ended as a crash would end them, unless they were drained."""
        tasks = [asyncio.create_task(node.run()) for node in nodes]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def until(self, condition: Callable[[], object], what: str, step: float = 0.25) -> None:
        """Lets time pass until it holds: a fast quarter of a second, and then a real moment for the servers."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < PATIENCE, f"did not happen: {what}"
            await self.pass_time(step)

    async def pass_time(self, step: float = 0.25) -> None:
        await self.clock.advance(step)
        await asyncio.sleep(0.002)

    async def drained(self, node: StreamIntake) -> None:
        draining = asyncio.create_task(node.drain(5))
        await self.until(draining.done, "the node is drained")
        await draining

    async def failures(self, uri: str) -> list[Any]:
        """The on-failure records that wait in the outbox for this destination."""
        return [msgspec.json.decode(message.body) for message in await self.engine.peek(f"out/{uri}", 1000)]


def data(records: Sequence[Any]) -> list[bytes]:
    """What is in records of Kinesis."""
    return [base64.b64decode(record["kinesis"]["data"]) for record in records]
