"""A named queue as a source: a function is invoked with batches of its messages, shaped as SQS's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec

from eventfn.destination import ORIGIN, REASON
from eventfn.event import Batch, Record
from eventfn.trigger import (
    DONE,
    Done,
    QueueMessage,
    ReceivedMessage,
    Reject,
    Retry,
    Settlement,
    Traits,
    TriggerContext,
)
from eventfn.units import Between, Duration
from eventfn_queue import shape

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,80}")
BUILT_IN_DEAD_LETTERS = "dead-letters"  # the host's queue for what has no dead letters of its own


class QueueTrigger:
    class Settings(msgspec.Struct, frozen=True, kw_only=True):
        queue: str  # its name, as in [queues.NAME]
        visibility_timeout: Annotated[Duration, Between(1, 43_200)] | None = None  # None: the queue's own

        def __post_init__(self) -> None:
            if not _NAME.fullmatch(self.queue):
                raise ValueError("queue: expected a name of 1 to 80 letters, digits, '-', '_' and '.'")

    Shared: ClassVar[type[msgspec.Struct] | None] = None
    traits: ClassVar[Traits] = Traits(invocation="request_response", ordered=True)
    data_key: ClassVar[str] = "body"

    def __init__(self, settings: Settings, shared: None, context: TriggerContext) -> None:
        self._queue = settings.queue
        self._queues = context.queues
        self._facts = context.queues.facts(settings.queue)
        self._visibility = (
            self._facts.visibility_timeout
            if settings.visibility_timeout is None
            else float(settings.visibility_timeout)
        )
        self._shape = shape.Shape(self._queue, fifo=self._facts.fifo, region=context.region, account=context.account)
        self._log = context.log

    @property
    def lease(self) -> float:
        return self._visibility

    async def connect(self) -> None:
        """The queue is part of the host: there is nothing to connect to."""

    async def read(self, limit: int) -> Batch:
        while True:
            messages = await self._queues.receive(self._queue, limit, self._visibility)
            if messages:
                return Batch(tuple(self._record(message) for message in messages))
            await self._queues.wait(self._queue)

    def _record(self, message: ReceivedMessage) -> Record:
        return Record(
            id=message.id,
            payload=self._shape.record(message),
            group=message.group,
            arrived_ms=message.sent_ms,
            receives=message.receives,
            token=message,
        )

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        if settlements.count(DONE) == len(settlements):
            everything: list[ReceivedMessage] = [record.token for record in batch.records]
            self._tell_late(await self._queues.delete(everything), everything)
            return
        done: list[ReceivedMessage] = []
        retried: dict[float | None, list[ReceivedMessage]] = {}
        rejected: list[tuple[ReceivedMessage, str]] = []
        for record, settlement in zip(batch.records, settlements, strict=True):
            message: ReceivedMessage = record.token
            match settlement:
                case Retry(after):
                    retried.setdefault(after, []).append(message)
                case Reject(reason):
                    rejected.append((message, reason))
                case Done():
                    done.append(message)
        for after, messages in retried.items():
            self._tell_late(await self._queues.release(messages, after), messages)
        self._tell_late(await self._queues.delete(done), done)
        # Last: dead letters that take no more must not bring back what is done. Each is durable there before it leaves.
        for message, reason in rejected:
            await self._dead_letter(message, reason)
            self._tell_late(await self._queues.delete([message]), [message])

    async def _dead_letter(self, message: ReceivedMessage, reason: str) -> None:
        target = self._facts.dead_letter_queue or BUILT_IN_DEAD_LETTERS
        attributes = {ORIGIN: f"queue:{self._queue}"} | message.attributes | {REASON: reason[:1024]}
        dead = QueueMessage(body=message.body, attributes=attributes, group=message.group, dedupe_key=message.id)
        await self._queues.send(target, [dead])

    def _tell_late(self, kept: Sequence[bool], messages: Sequence[ReceivedMessage]) -> None:
        if all(kept):
            return
        late = [message.id for message, ours in zip(messages, kept, strict=True) if not ours]
        self._log.warning(
            "%d messages of queue %s were handled after their visibility timeout and will come again: %s",
            len(late),
            self._queue,
            ", ".join(late[:10]),
        )

    async def extend(self, batch: Batch, seconds: float) -> None:
        await self._queues.extend([record.token for record in batch.records], seconds)

    async def pending(self) -> int:
        return await self._queues.depth(self._queue)

    async def close(self, deadline: float) -> None:
        """What was not settled is visible again when its timeout ends."""
