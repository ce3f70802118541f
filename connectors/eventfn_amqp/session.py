"""One connection that consumes a queue, and what came by it: a delivery can be settled there and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import deque
from typing import Any

from aiormq import spec
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage

from eventfn.clock import Clock
from eventfn.errors import ConnectorError
from eventfn_amqp.connection import OUTSIDE, TIMEOUT, telling
from eventfn_amqp.deliveries import Outstanding
from eventfn_amqp.settings import QueueSettings

DELIVERED_BEFORE = "x-delivery-count"  # the header by which a quorum queue says how often a message was handed out


class Session:
    def __init__(self, connection: AbstractConnection, settings: QueueSettings, clock: Clock) -> None:
        self.unread: deque[DeliveredMessage] = deque()  # at most the prefetch
        self.outstanding = Outstanding()
        self.lost: str | None = None  # why nothing comes any more
        self.changed = asyncio.Event()  # in `unread` or `lost`
        self._connection = connection
        self._settings = settings
        self._clock = clock
        self._consuming: AbstractChannel
        self._publishing: AbstractChannel  # dead letters; it has confirms, which a consumer has no use for
        self._later: list[tuple[float, int]] = []  # heap of (when to give it back, delivery tag)
        self._look_again = asyncio.Event()
        self._giving_back: asyncio.Task[None] | None = None

    async def open(self) -> None:
        settings = self._settings
        self._consuming = await self._connection.channel(publisher_confirms=False, timeout=TIMEOUT)
        closing: asyncio.Future[Any] = self._consuming.closing  # pyright: ignore
        closing.add_done_callback(self._closed)
        self._consuming.on_consumer_cancel_callbacks.add(self._cancelled)
        await self._there(settings.queue, dict(settings.arguments))
        if settings.dead_letter_queue is not None:
            await self._there(settings.dead_letter_queue, {})
            self._publishing = await self._connection.channel(timeout=TIMEOUT)
        await self._consuming.basic_qos(prefetch_count=settings.prefetch, timeout=TIMEOUT)
        await self._consuming.basic_consume(settings.queue, self._delivered, timeout=TIMEOUT)
        self._giving_back = asyncio.create_task(self._give_back_when_due())

    async def _there(self, queue: str, arguments: dict[str, Any]) -> None:
        """Creates a queue, or makes sure that there is one: otherwise a message would be lost on its way to it."""
        if self._settings.declare:
            arguments |= {"x-queue-type": self._settings.queue_type}
            await self._consuming.queue_declare(queue, durable=True, arguments=arguments, timeout=TIMEOUT)
        else:
            await self._consuming.queue_declare(queue, passive=True, timeout=TIMEOUT)

    async def _delivered(self, message: DeliveredMessage) -> None:
        self.outstanding.add(tag_of(message))
        self.unread.append(message)
        self.changed.set()

    def _cancelled(self, frame: spec.Basic.Cancel) -> None:
        self._lose("the broker ended the consumer: the queue was deleted, or its leader is gone")

    def _closed(self, closing: asyncio.Future[Any]) -> None:
        error = None if closing.cancelled() else closing.exception()
        self._lose(f"the connection was lost: {error}" if error else "the connection was lost")

    def _lose(self, why: str) -> None:
        self.lost = self.lost or why
        self.unread.clear()  # the broker hands it out again
        self.changed.set()

    async def ready(self) -> int:
        """How many messages wait in the queue and are with no consumer."""
        found = await self._consuming.queue_declare(self._settings.queue, passive=True, timeout=TIMEOUT)
        return found.message_count or 0

    async def acknowledge(self, tags: set[int]) -> None:
        for ack in self.outstanding.acknowledge(tags):
            await self._consuming.basic_ack(ack.tag, multiple=ack.multiple)

    async def give_back(self, tag: int, after: float) -> None:
        """The queue hands it out again. RabbitMQ knows no delay: until then it stays ours, and counts as prefetched."""
        if after <= 0:
            self.outstanding.discard(tag)
            await self._consuming.basic_nack(tag, requeue=True)
        else:
            heapq.heappush(self._later, (self._clock.monotonic() + after, tag))
            self._look_again.set()

    async def _give_back_when_due(self) -> None:
        while True:
            self._look_again.clear()
            now = self._clock.monotonic()
            if self._later and self._later[0][0] <= now:
                _, tag = heapq.heappop(self._later)
                try:
                    await self.give_back(tag, 0)
                except OUTSIDE:
                    return  # it is with the queue again anyway: the channel is closed, as `read` will find
            elif self._later:
                await self._sleep_or_look_again(self._later[0][0] - now)
            else:
                await self._look_again.wait()

    async def _sleep_or_look_again(self, seconds: float) -> None:
        waiting: set[asyncio.Future[Any]] = {
            asyncio.ensure_future(self._clock.sleep(seconds)),
            asyncio.ensure_future(self._look_again.wait()),
        }
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def bury(self, message: DeliveredMessage, queue: str, reason: str) -> None:
        """Returns once a copy of the message is in that queue, by the broker's word."""
        properties = message.header.properties
        headers = {name: value for name, value in (properties.headers or {}).items() if name != DELIVERED_BEFORE}
        copy = spec.Basic.Properties(
            content_type=properties.content_type,
            content_encoding=properties.content_encoding,
            headers=headers | {"x-eventfn-queue": self._settings.queue, "x-eventfn-reason": reason},
            delivery_mode=2,
            priority=properties.priority,
            correlation_id=properties.correlation_id,
            reply_to=properties.reply_to,
            message_id=properties.message_id,
            timestamp=properties.timestamp,
            message_type=properties.message_type,
            app_id=properties.app_id,
        )  # not its expiration and its user: a dead letter stays, and we are somebody else
        with telling(f"cannot publish to {queue}"):
            answer = await self._publishing.basic_publish(
                message.body, routing_key=queue, properties=copy, mandatory=True, timeout=TIMEOUT
            )
        if not isinstance(answer, spec.Basic.Ack):
            raise ConnectorError(f"queue {queue} did not take it")

    async def close(self, deadline: float = TIMEOUT) -> None:
        if self._giving_back is not None:
            self._giving_back.cancel()
            await asyncio.gather(self._giving_back, return_exceptions=True)
        with contextlib.suppress(*OUTSIDE):
            async with asyncio.timeout(deadline):
                await self._connection.close()


def tag_of(message: DeliveredMessage) -> int:
    tag = message.delivery_tag
    assert tag is not None, "a delivery has a tag"
    return tag
