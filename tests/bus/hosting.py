"""What the tests of the intake share: functions whose outcomes a test decides, and a source that checks its host."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from eventfn.event import Batch, Outcome, OutcomeKind, Record
from eventfn.functions.model import Function, Intake, TriggerBinding
from eventfn.testing import FakeClock, MemorySource, MemoryTrigger, trigger_context
from eventfn.trigger import Settlement
from eventfn.units import Duration

SUCCESS = Outcome(OutcomeKind.SUCCESS, b"null")
FAILURE = Outcome(OutcomeKind.FUNCTION_ERROR, b"{}", error_type="ValueError")
THROTTLED = Outcome(OutcomeKind.THROTTLED, b"", retry_after=1)
SYSTEM_ERROR = Outcome(OutcomeKind.SYSTEM_ERROR, b"", error_message="no interpreter")

log = logging.getLogger("eventfn.tests")
names = itertools.count()


def reported(*ids: str) -> Outcome:
    failures = [{"itemIdentifier": each} for each in ids]
    return Outcome(OutcomeKind.SUCCESS, msgspec.json.encode({"batchItemFailures": failures}))


class Call:
    """One invocation that runs until the test ends it."""

    def __init__(self, function: str, payload: bytes) -> None:
        self.function = function
        self.payload = payload
        self._outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    @property
    def records(self) -> list[Any]:
        records: list[Any] = msgspec.json.decode(self.payload)["Records"]
        return records

    def end(self, outcome: Outcome | Exception) -> None:
        if isinstance(outcome, Exception):
            self._outcome.set_exception(outcome)
        else:
            self._outcome.set_result(outcome)

    async def outcome(self) -> Outcome:
        return await self._outcome


class Calls:
    """The functions behind an intake. `running` are the invocations that wait for the test."""

    def __init__(self) -> None:
        self.running: list[Call] = []
        self.most = 0  # at once
        self.started: list[Call] = []

    async def invoke(self, function: str, payload: bytes) -> Outcome:
        call = Call(function, payload)
        self.running.append(call)
        self.started.append(call)
        self.most = max(self.most, len(self.running))
        try:
            return await call.outcome()
        finally:
            self.running.remove(call)


class CarelessSource(MemorySource):
    """Keeps the order of a group, but hands out more of it while some is in flight: order is up to the host then."""

    def take(self, holder: object, limit: int, now: float) -> list[Record]:
        taken: list[Record] = []
        delayed: set[str] = set()
        for entry in self._entries:
            group = entry.record.group
            if len(taken) == limit or entry.holder is not None or group in delayed:
                continue
            if entry.not_before <= now:
                entry.holder = holder
                entry.receives += 1
                taken.append(msgspec.structs.replace(entry.record, receives=entry.receives))
            elif group is not None:
                delayed.add(group)
        return taken


class CheckedTrigger(MemoryTrigger):
    """A MemoryTrigger that fails the test when its host breaks the contract, and has a lease to extend."""

    lease = 30.0

    def __init__(self, settings: Any, shared: None, context: Any) -> None:
        super().__init__(settings, shared, context)
        self.unsettled: list[Batch] = []
        self.extended: list[tuple[int, float]] = []  # (records, seconds)
        self._reading = False
        self._busy = False
        self.closed = 0

    async def read(self, limit: int) -> Batch:
        assert limit >= 1
        assert not self._reading, "two reads at once"
        self._reading = True
        try:
            batch = await super().read(limit)
        finally:
            self._reading = False
        self.unsettled.append(batch)
        return batch

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        assert not self._busy, "two methods at once"
        assert any(batch is each for each in self.unsettled), "settled twice, or never read"
        assert len(settlements) == len(batch.records)
        self.unsettled = [each for each in self.unsettled if each is not batch]
        self._busy = True
        try:
            await asyncio.sleep(0)
            await super().settle(batch, settlements)
        finally:
            self._busy = False

    async def extend(self, batch: Batch, seconds: float) -> None:
        assert any(batch is each for each in self.unsettled), "extended what is settled"
        self.extended.append((len(batch.records), seconds))

    async def close(self, deadline: float) -> None:
        self.closed += 1
        await super().close(deadline)


def source_and_trigger(clock: FakeClock, tmp_path: Any) -> tuple[MemorySource, CheckedTrigger]:
    source = MemorySource(f"source-{next(names)}")
    settings = MemoryTrigger.Settings(name=source.name)
    return source, CheckedTrigger(settings, None, trigger_context(tmp_path, clock=clock))


def binding(**intake: Any) -> TriggerBinding:
    return TriggerBinding(type="memory", source="hello/memory/0", settings=None, intake=Intake(**intake))


def function(timeout: float = 3) -> Function:
    return Function(name="hello", handler="app.handler", code="/project", timeout=Duration(timeout))


async def settle_down(clock: FakeClock) -> None:
    """Everything that can happen without time passing has happened."""
    for _ in range(5):
        await clock.advance(0)
