"""A bus as a destination: "bus:NAME". What is written waits in the bus's queue until it is with all targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from eventfn.destination import WRITTEN, Delivery, DestinationContext, OutgoingRecord, Rejected, RetryAfter
from eventfn.errors import EngineError, Refused, Throttled
from eventfn.trigger import QueueMessage
from eventfn_bus.events import bus_name_mistake, queue_of, read


class BusDestination:
    class Settings(msgspec.Struct, frozen=True):
        """[destinations.bus] has no keys: rules stand in [bus]."""

    idempotent: ClassVar[bool] = True  # by the record's id, within the queue's dedupe_window

    @classmethod
    def check(cls, target: str, settings: Settings) -> str | None:
        return bus_name_mistake(target)

    def __init__(self, target: str, settings: Settings, context: DestinationContext) -> None:
        self._queue = queue_of(target)
        self._queues = context.queues

    async def connect(self) -> None:
        """The queue is part of the host: there is nothing to connect to."""

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        answers: list[Delivery] = [WRITTEN] * len(records)
        messages: list[QueueMessage] = []
        for at, record in enumerate(records):
            try:
                read(record.payload)
            except ValueError as error:
                answers[at] = Rejected(f"it cannot become an event: {error}")
            else:
                messages.append(QueueMessage(record.payload, dict(record.attributes), dedupe_key=record.id))
        try:
            if messages:
                await self._queues.send(self._queue, messages)
        except (Throttled, EngineError, Refused) as error:
            again = RetryAfter(error.reason if isinstance(error, Throttled) else str(error))
            return [again if answer is WRITTEN else answer for answer in answers]
        return answers

    async def close(self, deadline: float) -> None:
        """Nothing is held."""
