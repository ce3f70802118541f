"""A named queue as a destination: "queue:NAME"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from eventfn.destination import ORIGIN, WRITTEN, Delivery, DestinationContext, OutgoingRecord, Rejected, RetryAfter
from eventfn.errors import EngineError, Refused, Throttled
from eventfn.trigger import QueueMessage

NAME = re.compile(r"[A-Za-z0-9_.-]{1,80}")


class QueueDestination:
    class Settings(msgspec.Struct, frozen=True):
        """Nothing: what a queue is like stands in [queues.NAME]."""

    idempotent: ClassVar[bool] = True  # by the record's id, within the queue's dedupe_window

    @classmethod
    def check(cls, target: str, settings: Settings) -> str | None:
        if NAME.fullmatch(target):
            return None
        return "the name of a queue has 1 to 80 letters, digits, '-', '_' or '.'"

    def __init__(self, target: str, settings: Settings, context: DestinationContext) -> None:
        self._queue = target
        self._queues = context.queues

    async def connect(self) -> None:
        """The queue is part of the host: there is nothing to connect to."""

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        fifo = self._queues.facts(self._queue).fifo
        messages = [
            QueueMessage(
                body=record.payload,
                attributes=dict(record.attributes),
                # In a FIFO queue what comes from one function is kept in order.
                group=record.attributes.get(ORIGIN, "eventfn") if fifo else None,
                dedupe_key=record.id,
            )
            for record in records
        ]
        try:
            await self._queues.send(self._queue, messages)
        except (Throttled, EngineError) as error:
            return [RetryAfter(_reason(error))] * len(records)
        except Refused as error:
            if len(records) == 1:
                return [Rejected(str(error))]
            # One of them cannot be in a queue: it must not take the others with it.
            return [delivery for record in records for delivery in await self.write([record])]
        return [WRITTEN] * len(records)

    async def close(self, deadline: float) -> None:
        """Nothing is held."""


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, Throttled) else str(error)
