"""Somebody's WebSocket as a source. What was sent while nobody was connected is gone: the protocol knows no more."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from eventfn.errors import ConnectorError
from eventfn.event import Batch, Record
from eventfn.trigger import Settlement, Traits, TriggerContext
from eventfn_websocket import shape
from eventfn_websocket.connection import Connection, connect
from eventfn_websocket.settings import HostSettings, WebsocketSettings, WebsocketShared

FAREWELL = 1.0  # seconds that a connection which is replaced has to say goodbye


class WebsocketTrigger:
    Settings: ClassVar[type[msgspec.Struct]] = WebsocketSettings
    Shared: ClassVar[type[msgspec.Struct] | None] = WebsocketShared
    traits: ClassVar[Traits] = Traits(invocation="event", ack="none", replayable=False, shared=False)
    data_key: ClassVar[str] = "body"

    def __init__(self, settings: WebsocketSettings, shared: WebsocketShared, context: TriggerContext) -> None:
        self._settings = settings
        self._host = shared.hosts.get(settings.split.hostname or "", HostSettings())
        self._clock = context.clock
        self._connection: Connection | None = None

    async def connect(self) -> None:
        await self.close(FAREWELL)
        self._connection = await connect(self._settings, self._host, self._clock, uuid.uuid4().hex)

    async def read(self, limit: int) -> Batch:
        connection = self._connection
        if connection is None:
            raise ConnectorError(f"{self._settings.shown}: not connected")
        while not connection.messages:
            if connection.over is not None:
                raise ConnectorError(f"{self._settings.shown}: {connection.over}")
            connection.arrived.clear()
            await connection.arrived.wait()
        # Nothing is awaited from here on: a cancelled read has taken nothing.
        return Batch(tuple(self._record(message) for message in connection.take(limit)))

    def _record(self, message: shape.Message) -> Record:
        return Record(id=message.id, payload=shape.event(message), arrived_ms=message.arrived_ms)

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        """There is nobody to be told: a message is ours from the moment it arrived."""

    async def close(self, deadline: float) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close(deadline / 2)
