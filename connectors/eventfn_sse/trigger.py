"""Server-sent events as a source: a stream of one shard. The server keeps what can be asked for again, by its ids."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import ClassVar

import aiohttp
import msgspec

from eventfn.errors import ConnectorError
from eventfn.event import Record
from eventfn.trigger import BatchInfo, Shard, Start, Traits, TriggerContext
from eventfn.units import recognisable, without_secrets
from eventfn_sse.parser import LARGEST, Event
from eventfn_sse.reader import SseReader, ask
from eventfn_sse.settings import HostSettings, SseSettings, SseShared


class SseTrigger:
    Settings: ClassVar[type[msgspec.Struct]] = SseSettings
    Shared: ClassVar[type[msgspec.Struct] | None] = SseShared
    # A server shows a newcomer what it likes: nobody can ask it for what was, without an id of it.
    traits: ClassVar[Traits] = Traits(
        invocation="request_response", ack="prefix", ordered=True, starting_positions=("LATEST",)
    )
    data_key: ClassVar[str] = "data"

    def __init__(self, settings: SseSettings, shared: SseShared, context: TriggerContext) -> None:
        self._url = settings.url
        self._shown = without_secrets(settings.url)
        self._idle_timeout = None if settings.idle_timeout is None else float(settings.idle_timeout)
        self._host = shared.hosts.get(settings.host, HostSettings())
        self._clock = context.clock
        self._log = context.log
        self._session: aiohttp.ClientSession | None = None
        self._readers: set[SseReader] = set()

    async def connect(self) -> None:
        """Nothing is asked yet: opening the shard does."""
        await self.close(0)
        self._session = aiohttp.ClientSession(
            # Compressed events would wait in a buffer until there are enough of them.
            headers={"accept": "text/event-stream", "cache-control": "no-store", "accept-encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=15),
        )

    async def shards(self) -> Sequence[Shard]:
        """Another URL is another stream, with positions of its own, also where it differs in what is not shown."""
        return [Shard(recognisable(self._url))]

    async def open_shard(self, shard: Shard, at: str | Start) -> SseReader:
        if self._session is None:
            raise ConnectorError(f"{self._shown}: not connected")
        position = at if isinstance(at, str) else ""
        headers = self._host.headers | ({"Last-Event-ID": position} if position else {})
        answer = await ask(self._session, self._url, headers, self._host.query, self._clock)
        reader = SseReader(self._url, answer, position, self._clock, self._idle_timeout, self._say_too_large)
        self._readers.add(reader)
        return reader

    def _say_too_large(self, event: Event) -> None:
        self._log.error(
            "an event of %s with more than %d bytes was left out: type %s, last event ID %r",
            self._shown,
            LARGEST,
            event.type,
            event.last_event_id,
        )

    def describe(self, shard: str, records: Sequence[Record]) -> BatchInfo:
        return BatchInfo(
            "SseBatchInfo",
            {
                "url": self._shown,
                "startEventId": records[0].id,
                "endEventId": records[-1].id,
                "batchSize": len(records),
            },
        )

    async def close(self, deadline: float) -> None:
        readers, self._readers = self._readers, set()
        for reader in readers:
            await reader.close()
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(aiohttp.ClientError):
                await session.close()
