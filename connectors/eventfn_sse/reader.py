"""One answer of the server that is being read: the stream's only shard, from one position on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec

from eventfn.clock import Clock
from eventfn.errors import Backoff, ConnectorError
from eventfn.event import Batch, Record
from eventfn.units import without_secrets
from eventfn_sse.answers import problem
from eventfn_sse.parser import Event, EventStreamParser

HANDSHAKE = 60.0  # real seconds until the answer's headers: some servers send them with their first event
SHORTEST_PAUSE = 0.1  # seconds before a reconnect: a server may ask for none at all
# A connection whose other end has vanished without a word is noticed within a minute.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))


class SseReader:
    def __init__(
        self,
        url: str,
        answer: aiohttp.ClientResponse,
        at: str,
        clock: Clock,
        idle_timeout: float | None,
        too_large: Callable[[Event], None],
    ) -> None:
        self._shown = without_secrets(url)
        self._answer = answer
        self._clock = clock
        self._too_large = too_large
        self._parser = EventStreamParser(at)
        self._events: deque[Event] = deque()  # what came in one piece and is not handed over yet
        self._connection = uuid.uuid4().hex
        self._last_event_id = at
        self._since_id = 0  # events without an id of their own since it came
        self._over: str | None = None
        self._is_waiting = False
        self._is_quiet = False  # nothing came since the watch has last looked, although a read was waiting all the time
        self._watching = None if idle_timeout is None else asyncio.create_task(self._watch(idle_timeout))

    async def read(self, limit: int) -> Batch:
        while not self._events:
            # Between the end of this wait and the return nothing is awaited: a cancelled read has taken nothing.
            for event in self._parser.feed(await self._more()):
                if event.too_large:
                    self._too_large(event)
                else:
                    self._events.append(event)
        return Batch(tuple(self._record(self._events.popleft()) for _ in range(min(limit, len(self._events)))))

    async def _more(self) -> bytes:
        self._is_waiting, self._is_quiet = True, False
        try:
            piece = await self._answer.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectorError(f"{self._shown}: {self._over or f'the connection was lost: {error}'}") from None
        finally:
            self._is_waiting = self._is_quiet = False
        if not piece:
            why = f"{self._shown}: {self._over or 'the server has ended the stream'}"
            retry = self._parser.retry
            raise ConnectorError(why) if retry is None else Backoff(max(retry, SHORTEST_PAUSE), why)
        return piece

    async def _watch(self, idle_timeout: float) -> None:
        while True:
            self._is_quiet = self._is_waiting  # while nobody reads, nothing can be heard
            await self._clock.sleep(idle_timeout)
            if self._is_quiet:
                break
        self._over = f"nothing came for {idle_timeout:g} s"
        self._answer.close()

    def _record(self, event: Event) -> Record:
        if event.last_event_id != self._last_event_id:
            self._last_event_id, self._since_id = event.last_event_id, 0
        self._since_id += not event.has_id
        record_id = event.last_event_id
        if not event.has_id:
            record_id = f"{event.last_event_id or self._connection}+{self._since_id}"
        payload: dict[str, Any] = {
            "eventID": record_id,
            "eventSource": "eventfn:sse",
            "url": self._shown,  # it goes where the function sends it, and into dead letters
            "type": event.type,
            "data": event.data,
            "lastEventId": event.last_event_id,
        }
        return Record(
            id=record_id,
            payload=msgspec.json.encode(payload),
            arrived_ms=self._clock.now_ms(),
            token=event.last_event_id,
        )

    def position(self, record: Record) -> str:
        position: str = record.token
        return position

    async def close(self) -> None:
        self._over = self._over or "not connected"
        self._answer.close()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)


async def ask(
    session: aiohttp.ClientSession, url: str, headers: dict[str, str], query: dict[str, str], clock: Clock
) -> aiohttp.ClientResponse:
    """An answer that is an event stream. Raises ConnectorError, whose message shows nothing of headers and query."""
    shown = without_secrets(url)
    try:
        async with asyncio.timeout(HANDSHAKE):
            answer = await session.get(url, headers=headers, params=query, allow_redirects=False)
    except TimeoutError:
        raise ConnectorError(f"{shown} did not answer within {HANDSHAKE:g} s") from None
    except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:  # whose text has the URL with the query
        raise ConnectorError(f"{shown} does not answer as HTTP has it: {type(error).__name__}") from None
    except aiohttp.ClientError as error:
        raise ConnectorError(f"{shown} cannot be reached: {error or type(error).__name__}") from None
    said = {name.lower(): value for name, value in answer.headers.items()}
    refused = problem(shown, answer.status, said, clock.now_ms() / 1000)
    if refused is not None:
        answer.close()
        raise refused
    _keep_alive(answer)
    return answer


def _keep_alive(answer: aiohttp.ClientResponse) -> None:
    transport = answer.connection.transport if answer.connection else None
    wire = transport.get_extra_info("socket") if transport else None
    if wire is not None:
        with contextlib.suppress(OSError):
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, seconds in _KEEPALIVE:
                wire.setsockopt(socket.IPPROTO_TCP, option, seconds)
