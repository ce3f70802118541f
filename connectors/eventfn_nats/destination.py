"""A subject as a destination: "nats:SUBJECT", and on a named cluster "nats:@NAME/SUBJECT". A record is a message: its
JSON, and its id and attributes as headers.

Idempotent within the duplicate window of the stream that takes the subject (`nats stream add --dupe-window`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

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
from eventfn_nats.publishing import headers_of, publish, size
from eventfn_nats.server import Connection
from eventfn_nats.settings import Clusters, is_subject


class NatsDestination:
    Settings: ClassVar[type[msgspec.Struct]] = Clusters
    idempotent: ClassVar[bool] = True

    @classmethod
    def check(cls, target: str, settings: Clusters) -> str | None:
        cluster, subject = named_target(target)
        if settings.named(cluster) is None:
            return f"no cluster is called '{cluster}': add [destinations.nats.clusters.{cluster}]"
        return None if is_subject(subject) else 'expected a subject such as "orders.failed", without wildcards'

    def __init__(self, target: str, settings: Clusters, context: DestinationContext) -> None:
        name, self._subject = named_target(target)
        server = settings.named(name)
        assert server is not None, "check() has seen it"
        self._settings = server
        self._folder = context.folder
        self._connection: Connection | None = None

    async def connect(self) -> None:
        await self.close(0)
        self._connection = Connection(self._settings)
        await self._connection.open(self._folder)

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        """One after the other, which keeps their order."""
        return [await self._write(record) for record in records]

    async def _write(self, record: OutgoingRecord) -> Delivery:
        connection = self._connection
        if connection is None or connection.lost.done():
            raise ConnectorError(f"{self._settings.name}: not connected")
        # A stream remembers ids of all its subjects: one record may go to two of them.
        message_id = f"{self._subject} {record.id}"
        needed, most = size(record.payload, headers_of(message_id, record.attributes)), connection.client.max_payload
        if needed > most:
            return Rejected(f"{needed} bytes are more than the server takes (max_payload {most})")
        try:
            await publish(connection, self._subject, message_id, record.payload, record.attributes)
        except ConnectorError as error:
            return RetryAfter(f"{self._subject}: {error}")
        return WRITTEN

    async def close(self, deadline: float) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
