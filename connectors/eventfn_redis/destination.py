"""A Redis stream as a destination: "redis:STREAM", on a named server "redis:@NAME/STREAM". A record is an entry: its
JSON in `body`, its id, its attributes.

Idempotent: a key of its own, which expires, remembers each record for `dedupe_window`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from eventfn.destination import WRITTEN, Delivery, DestinationContext, OutgoingRecord, RetryAfter, named_target
from eventfn.errors import ConnectorError
from eventfn_redis import scripts
from eventfn_redis.server import close_client, open_client, outside
from eventfn_redis.settings import Sinks


class RedisDestination:
    Settings: ClassVar[type[msgspec.Struct]] = Sinks
    idempotent: ClassVar[bool] = True

    @classmethod
    def check(cls, target: str, settings: Sinks) -> str | None:
        server, stream = named_target(target)
        if settings.named(server) is None:
            return f"no server is called '{server}': add [destinations.redis.servers.{server}]"
        if stream and stream.isprintable() and not any(character.isspace() for character in stream):
            return None
        return "expected the name of a stream, without spaces"

    def __init__(self, target: str, settings: Sinks, context: DestinationContext) -> None:
        name, self._stream = named_target(target)
        server = settings.named(name)
        assert server is not None, "check() has seen it"
        self._settings = server
        self._folder = context.folder
        self._client: Any = None

    async def connect(self) -> None:
        await self.close(0)
        self._client = open_client(self._settings, self._folder)
        with outside(self._settings):
            await self._client.ping()

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        if self._client is None:
            raise ConnectorError("redis: not connected")
        if not records:
            return []
        with outside(self._settings):
            script = self._client.register_script(scripts.ADD)
            async with self._client.pipeline(transaction=False) as pipe:
                for record in records:
                    await script(self._keys(record), self._arguments(record), client=pipe)
                answers: list[Any] = await pipe.execute(raise_on_error=False)
        return [RetryAfter(str(answer)) if isinstance(answer, Exception) else WRITTEN for answer in answers]

    def _keys(self, record: OutgoingRecord) -> tuple[str, str]:
        return self._stream, f"{self._stream}:eventfn:sent:{record.id}"

    def _arguments(self, record: OutgoingRecord) -> list[Any]:
        longest = self._settings.maximum_length
        fields: list[Any] = ["body", record.payload, "id", record.id]
        for name, value in record.attributes.items():
            fields += (name, value)
        return [round(self._settings.dedupe_window * 1000), "" if longest is None else longest, *fields]

    async def close(self, deadline: float) -> None:
        client, self._client = self._client, None
        await close_client(client)
