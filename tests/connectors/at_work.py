"""A trigger under a node's own host, with a function in this process, while servers and networks break: what was put in
is compared with what was handled and settled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from eventfn.bus.intake import Intake
from eventfn.clock import SystemClock
from eventfn.event import Batch, Outcome, OutcomeKind, Record
from eventfn.functions.model import Function, TriggerBinding
from eventfn.functions.model import Intake as IntakeSettings
from eventfn.testing import eventually
from eventfn.trigger import Done, Encodes, Settlement, Trigger

Faults = Mapping[int, Callable[[], Awaitable[None]]]  # after so many records were handled, in the middle of a batch
log = logging.getLogger("tests.at_work")


class AtWork:
    """The trigger as its host sees it, and the function that the host invokes."""

    def __init__(self, trigger: Any, faults: Faults, name: Callable[[Record], str]) -> None:
        self.handled: list[str] = []  # names of records, in order, each as often as it was handled
        self.done: Counter[str] = Counter()  # those that the source was told of as done
        self.settled_twice: list[Batch] = []
        self._trigger = trigger
        self._faults = dict(faults)
        self._name = name
        self._open: list[Batch] = []
        self._events: dict[bytes, Sequence[Record]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trigger, name)  # also that a power is not there

    async def connect(self) -> None:
        await self._trigger.connect()

    async def read(self, limit: int) -> Batch:
        batch: Batch = await self._trigger.read(limit)
        self._open.append(batch)
        return batch

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        if not any(batch is each for each in self._open):
            self.settled_twice.append(batch)
        self._open = [each for each in self._open if each is not batch]
        await self._trigger.settle(batch, settlements)
        self.done.update(
            self._name(record)
            for record, settlement in zip(batch.records, settlements, strict=True)
            if isinstance(settlement, Done)
        )

    async def close(self, deadline: float) -> None:
        await self._trigger.close(deadline)

    def encode(self, records: Sequence[Record]) -> bytes:
        if hasattr(self._trigger, "encode"):
            event = cast(Encodes, self._trigger).encode(records)
        else:
            event = b'{"Records":[' + b",".join(record.payload for record in records) + b"]}"
        self._events[event] = records
        return event

    async def invoke(self, function: str, event: bytes) -> Outcome:
        for record in self._events[event]:
            self.handled.append(self._name(record))
            if (breaks := self._faults.pop(len(self.handled), None)) is not None:
                await breaks()
        await asyncio.sleep(0)
        return Outcome(OutcomeKind.SUCCESS, b"null")

    async def has_done(self, count: int) -> None:
        """Returns once so many different records were settled as done."""
        await eventually(lambda: len(self.done) >= count, within=60)


@contextlib.asynccontextmanager
async def at_work(
    trigger: Any, settings: Any, faults: Faults, name: Callable[[Record], str] = lambda record: record.id
) -> AsyncGenerator[AtWork]:
    """The host runs, and is drained at the end. `name` tells one event from another, however often it comes."""
    watched = AtWork(trigger, faults, name)
    binding = TriggerBinding(
        type="tested",
        source="hello/tested/0",
        settings=settings,
        intake=IntakeSettings(batch_size=10, maximum_concurrency=2),
    )
    function = Function(name="hello", handler="hello.handler", code="")
    host = Intake(function, binding, cast(Trigger, watched), watched.invoke, SystemClock(), log=log, jitter=lambda: 0.0)
    running = asyncio.create_task(host.run())
    try:
        yield watched
        await host.drain(5)
    finally:
        running.cancel()
        await asyncio.wait({running})
