"""One connection, and the messages that came over it and wait for the host.

Two tasks: one takes messages in while there is room for them, and one makes sure that the other side is still there.
While there is no room nothing is taken off the connection, and TCP tells the sender to wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

import aiohttp
import msgspec

from eventfn.clock import Clock
from eventfn.errors import ConnectorError
from eventfn_websocket.refusals import refusal
from eventfn_websocket.settings import HostSettings, WebsocketSettings
from eventfn_websocket.shape import Link, Message

HELD = 64  # messages, and ...
HELD_BYTES = 1024 * 1024  # ... bytes of them, before no more is taken in
LARGEST = 4 * 1024 * 1024  # bytes of a message; after a larger one the connection is closed, as the protocol has it
HANDSHAKE = 15.0  # real seconds


class Connection:
    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        session: aiohttp.ClientSession,
        link: Link,
        ping: float,
        clock: Clock,
    ) -> None:
        self.messages: deque[Message] = deque()
        self.arrived = asyncio.Event()  # something is there, or the connection is over
        self.over: str | None = None  # why nothing will come any more
        self._socket = socket
        self._session = session
        self._link = link
        self._ping = ping
        self._clock = clock
        self._room = asyncio.Event()
        self._bytes = 0
        self._alive = True  # something was heard since the last look
        self._tasks = [asyncio.create_task(self._take_in()), asyncio.create_task(self._watch())]
        for task in self._tasks:
            task.add_done_callback(self._see_how_it_ended)

    def take(self, limit: int) -> list[Message]:
        """At once, the oldest first."""
        taken = [self.messages.popleft() for _ in range(min(limit, len(self.messages)))]
        self._bytes -= sum(len(message.data) for message in taken)
        self._room.set()
        return taken

    async def _take_in(self) -> None:
        number = 0
        while True:
            received = await self._socket.receive()
            self._alive = True
            match received.type:
                case aiohttp.WSMsgType.TEXT | aiohttp.WSMsgType.BINARY:
                    number += 1
                    message = Message(self._link, number, received.data, self._clock.now_ms())
                    self.messages.append(message)
                    self._bytes += len(message.data)
                    self.arrived.set()
                    await self._until_there_is_room()
                case aiohttp.WSMsgType.PING:
                    with contextlib.suppress(ConnectionError):  # it is over, which the next receive says
                        await self._socket.pong(received.data)
                case aiohttp.WSMsgType.PONG:
                    pass
                case aiohttp.WSMsgType.CLOSE:
                    code, reason = received.data, received.extra
                    return self._end(f"the other side has closed it: {code}{f' {reason}' if reason else ''}")
                case _:
                    return self._end(f"the connection was lost{f': {received.data}' if received.data else ''}")

    async def _until_there_is_room(self) -> None:
        while self._is_full:
            self._room.clear()
            await self._room.wait()
            self._alive = True  # nothing could be heard meanwhile, and that was our doing

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(self._ping)
            if not self._alive and not self._is_full:
                return self._end(f"nothing was heard for {self._ping:g} s, not even the answer to a ping")
            self._alive = False
            with contextlib.suppress(ConnectionError):
                await self._socket.ping()

    @property
    def _is_full(self) -> bool:
        return len(self.messages) >= HELD or self._bytes >= HELD_BYTES

    def _end(self, why: str) -> None:
        self.over = self.over or why
        self.arrived.set()

    def _see_how_it_ended(self, task: asyncio.Task[None]) -> None:
        """Whatever broke, a read must not wait for ever."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._end(f"the connection was lost: {type(error).__name__}: {error}")

    async def close(self, deadline: float) -> None:
        self._end("not connected")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(deadline):
                await self._socket.close()
        await self._session.close()


async def connect(settings: WebsocketSettings, host: HostSettings, clock: Clock, link_id: str) -> Connection:
    """Raises ConnectorError. No message of it shows what stands in `host`."""
    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(_refuse)
    session = aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=HANDSHAKE), cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[tracing]
    )
    try:
        socket = await _open(session, settings, host, clock)
        try:
            async with asyncio.timeout(HANDSHAKE):
                for message in (*host.messages, *settings.subscribe):
                    await socket.send_str(
                        message if isinstance(message, str) else msgspec.json.encode(message).decode()
                    )
        except (TimeoutError, ConnectionError) as error:
            raise ConnectorError(f"{settings.shown}: the connection was lost while subscribing") from error
    except BaseException:
        await session.close()
        raise
    link = Link(link_id, settings.split.hostname or "", clock.now_ms())
    return Connection(socket, session, link, float(settings.ping_interval), clock)


async def _open(
    session: aiohttp.ClientSession, settings: WebsocketSettings, host: HostSettings, clock: Clock
) -> aiohttp.ClientWebSocketResponse:
    try:
        return await session.ws_connect(
            settings.url,
            params=host.query,
            headers=host.headers,
            protocols=settings.subprotocols,
            autoping=False,  # aiohttp's own pings give up on a connection that is merely not being read
            max_msg_size=LARGEST,
        )
    except aiohttp.WSServerHandshakeError as error:
        after = error.headers.get("retry-after") if error.headers else None
        raise refusal(settings.shown, error.status, after, clock.now_ms() / 1000) from None
    except TimeoutError:
        raise ConnectorError(f"{settings.shown} did not answer within {HANDSHAKE:g} s") from None
    except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:  # whose text has the URL with the query
        raise ConnectorError(f"{settings.shown} does not answer as a WebSocket: {type(error).__name__}") from None
    except aiohttp.ClientError as error:
        raise ConnectorError(f"{settings.shown} cannot be reached: {error or type(error).__name__}") from None


async def _refuse(
    session: aiohttp.ClientSession, context: object, redirect: aiohttp.TraceRequestRedirectParams
) -> None:
    # Followed, it would carry headers with credentials to another host.
    where = redirect.response.headers.get("location", "nowhere")
    raise ConnectorError(f"{redirect.response.status} to {where}: redirects are not followed, write that URL")
