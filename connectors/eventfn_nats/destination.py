"""A subject as a destination: "nats:SUBJECT". A record is a message: its JSON, and its id and attributes as headers.

Idempotent within the duplicate window of the stream that takes the subject (`nats stream add --dupe-window`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
from nats.js.errors import Error as JetStreamError

from eventfn.destination import WRITTEN, Delivery, DestinationContext, OutgoingRecord, Rejected, RetryAfter
from eventfn.errors import ConnectorError
from eventfn_nats.publishing import headers_of, publish, size
from eventfn_nats.server import connected, outside
from eventfn_nats.settings import Sink, is_subject


class NatsDestination:
    Settings: ClassVar[type[msgspec.Struct]] = Sink
    idempotent: ClassVar[bool] = True

    @classmethod
    def check(cls, target: str, settings: Sink) -> str | None:
        return None if is_subject(target) else 'expected a subject such as "orders.failed", without wildcards'

    def __init__(self, target: str, settings: Sink, context: DestinationContext) -> None:
        self._subject = target
        self._settings = settings
        self._folder = context.folder
        self._client: Any = None

    async def connect(self) -> None:
        await self.close(0)
        self._client = await connected(self._settings, self._folder, _nobody_waits)

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        """One after the other, which keeps their order."""
        return [await self._write(record) for record in records]

    async def _write(self, record: OutgoingRecord) -> Delivery:
        client = self._client
        if client is None or not client.is_connected:
            raise ConnectorError(f"{self._settings.name}: not connected")
        needed = size(record.payload, headers_of(record.id, record.attributes))
        if needed > client.max_payload:
            return Rejected(f"{needed} bytes are more than the server takes (max_payload {client.max_payload})")
        with outside(self._settings):
            try:
                await publish(client, self._subject, record.id, record.payload, record.attributes)
            except JetStreamError as error:
                return RetryAfter(f"{self._subject}: {error}")
        return WRITTEN

    async def close(self, deadline: float) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()


async def _nobody_waits() -> None:
    """The next write finds the connection gone."""
