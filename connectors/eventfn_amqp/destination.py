"""A queue or an exchange of RabbitMQ as a destination: "amqp:QUEUE", "amqp:EXCHANGE/ROUTING-KEY", and on a named broker
"amqp:@NAME/QUEUE"."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Sequence
from typing import ClassVar

from aiormq import spec
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import PublishError

from eventfn.destination import (
    WRITTEN,
    Delivery,
    DestinationContext,
    OutgoingRecord,
    Rejected,
    RetryAfter,
    named_target,
)
from eventfn.errors import ConnectorError
from eventfn_amqp.connection import OUTSIDE, TIMEOUT, Brokers, telling

_TARGET = re.compile(r"(?:(?P<exchange>[^\s/]{1,255})/)?(?P<key>\S{0,255})")


class AmqpDestination:
    Settings: ClassVar[type[Brokers]] = Brokers
    idempotent: ClassVar[bool] = False  # the record's id is the message's id, which a consumer may look at

    @classmethod
    def check(cls, target: str, settings: Brokers) -> str | None:
        broker, place = named_target(target)
        found = _TARGET.fullmatch(place)
        if found is None or not (found["exchange"] or found["key"]) or place.startswith("/"):
            return "expected amqp:QUEUE or amqp:EXCHANGE/ROUTING-KEY, without spaces"
        if settings.named(broker) is None:
            return f"no broker is called '{broker}': add [destinations.amqp.brokers.{broker}]"
        return None

    def __init__(self, target: str, settings: Brokers, context: DestinationContext) -> None:
        name, place = named_target(target)
        found, broker = _TARGET.fullmatch(place), settings.named(name)
        assert found is not None, "check() has seen it"
        assert broker is not None, "check() has seen it"
        self._exchange: str = found["exchange"] or ""  # "" is the default exchange, whose routing keys are queues
        self._key: str = found["key"]
        self._broker = broker
        self._context = context
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None

    async def connect(self) -> None:
        await self.close(TIMEOUT)
        self._connection = await self._broker.connect(self._context.folder)
        with telling("cannot open a channel"):
            self._channel = await self._connection.channel(timeout=TIMEOUT)

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        channel = await self._open_channel()
        return await asyncio.gather(*(self._publish(channel, record) for record in records))

    async def _open_channel(self) -> AbstractChannel:
        if self._channel is None or self._channel.is_closed:
            await self.connect()
        assert self._channel is not None
        return self._channel

    async def _publish(self, channel: AbstractChannel, record: OutgoingRecord) -> Delivery:
        properties = spec.Basic.Properties(
            content_type="application/json",
            delivery_mode=2,  # on the broker's disk
            message_id=record.id,
            headers=dict(record.attributes),
        )
        try:
            with telling("cannot publish"):
                answer = await channel.basic_publish(
                    record.payload,
                    exchange=self._exchange,
                    routing_key=self._key,
                    properties=properties,
                    mandatory=True,
                    timeout=TIMEOUT,
                )
        except ConnectorError as error:
            if isinstance(error.__cause__, PublishError):
                return Rejected(f"no queue takes what goes to {self._exchange or 'queue'} {self._key!r}: {error}")
            return RetryAfter(str(error))
        if isinstance(answer, spec.Basic.Ack):
            return WRITTEN
        return RetryAfter("the broker did not take it")

    async def close(self, deadline: float) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(*OUTSIDE):
                async with asyncio.timeout(deadline):
                    await connection.close()
