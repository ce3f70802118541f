"""A topic of an MQTT broker as a destination: "mqtt:TOPIC", and on a named broker "mqtt:@NAME/TOPIC"."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

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
from eventfn_mqtt.connection import Connection
from eventfn_mqtt.packets import NONE, TOO_LARGE, Properties, Publish, reason_text
from eventfn_mqtt.settings import Brokers
from eventfn_mqtt.topics import name_problem

_REFUSED = 0x80  # reason codes from here on say that the broker has not taken it
_NEVER = {0x87, 0x90, TOO_LARGE, 0x99}  # not authorized, topic name, size, payload format


class MqttDestination:
    Settings: ClassVar[type[Brokers]] = Brokers
    idempotent: ClassVar[bool] = False  # the record's id goes with it: a subscriber may look at it

    @classmethod
    def check(cls, target: str, settings: Brokers) -> str | None:
        broker, topic = named_target(target)
        if settings.named(broker) is None:
            return f"no broker is called '{broker}': add [destinations.mqtt.brokers.{broker}]"
        return name_problem(topic)

    def __init__(self, target: str, settings: Brokers, context: DestinationContext) -> None:
        name, self._topic = named_target(target)
        broker = settings.named(name)
        assert broker is not None, "check() has seen it"
        self._broker = broker
        self._folder = context.folder
        self._connection: Connection | None = None

    async def connect(self) -> None:
        await self.close(0)
        # Nothing is received, so there is no session to be kept, and the broker chooses the name.
        self._connection = await Connection.open(
            self._broker, self._folder, "", clean=True, properties=NONE, on_message=_ignore, on_lost=_nothing
        )

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        if self._connection is None or self._connection.lost is not None:
            await self.connect()
        assert self._connection is not None
        connection = self._connection
        return await asyncio.gather(*(self._publish(connection, record) for record in records))

    async def _publish(self, connection: Connection, record: OutgoingRecord) -> Delivery:
        properties: Properties = {
            "payload_format_indicator": 1,  # text
            "content_type": "application/json",
            "user_property": [("id", record.id), *record.attributes.items()],
        }
        try:
            reason = await connection.publish(self._topic, record.payload, properties)
        except ConnectorError as error:
            return RetryAfter(str(error))
        if reason < _REFUSED:
            return WRITTEN
        said = f"the broker does not take what goes to {self._topic}: {reason_text(reason)}"
        return Rejected(said) if reason in _NEVER else RetryAfter(said)

    async def close(self, deadline: float) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _ignore(message: Publish) -> None:
    """We have subscribed to nothing."""


def _nothing() -> None:
    """The next write finds that the connection is gone."""
