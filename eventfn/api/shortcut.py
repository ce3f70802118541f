"""Invoke's way past aiohttp: a connection of the admin listener, for as long as nothing but plain Invokes come on it.

aiohttp's server is more than half of what an Invoke costs here. So the first look at what has come is this file's, and
a short one: a request that is wholly as any SDK writes it is answered right here. Whatever else comes, odd or only
different, makes the connection aiohttp's for good, with every byte that was not answered yet: how strictly HTTP is read
is decided there, and nothing of it here. Not here: what is plain (plain), what an Invoke is answered (lambda_api).
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import socket
from collections.abc import Callable
from typing import cast

from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE

from eventfn.api.answers import Reply
from eventfn.api.lambda_api import LambdaApi
from eventfn.api.plain import Plain, plain

# Bytes: a larger body is not copied behind its head.
_JOINED = 65_536

# aiohttp's keepalive_timeout, for the same reason: it is longer than a proxy's.
_IDLE_SECONDS = 3630.0

_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in http.HTTPStatus}


class Shortcut(asyncio.Protocol):
    """One connection. One request is under way at a time: what comes meanwhile waits, a read of it at most."""

    def __init__(self, shortcuts: Shortcuts) -> None:
        self._shortcuts = shortcuts
        self._transport: asyncio.Transport | None = None
        self._remote: str | None = None
        self._unread = b""  # from the beginning of a request
        self._rest: list[bytes] = []  # of the body of `_request`, and what is behind it
        self._missing = 0
        self._request: Plain | None = None  # whose body is still coming
        self._busy = False
        self._blocked = False  # the client does not take what it is sent
        self._paused = False
        self._latest = 0.0  # when something was last done for it
        self._timer: asyncio.TimerHandle | None = None

    # --- the loop's callbacks --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._shortcuts.closing:  # taken from the socket, and no more than that
            self._transport.close()
            return
        peer = transport.get_extra_info("peername")
        self._remote = None if peer is None else str(peer[0])
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._shortcuts.connections.add(self)
        self._latest = self._shortcuts.loop.time()
        self._timer = self._shortcuts.loop.call_later(_IDLE_SECONDS, self._look)

    def data_received(self, data: bytes) -> None:
        if self._shortcuts.closing and not self._busy:
            return
        if self._request is not None:
            self._rest.append(data)
            self._missing -= len(data)
            if self._missing <= 0:
                self._unread, self._rest = b"".join((self._unread, *self._rest)), []
                request, self._request = self._request, None
                self._begin(request)
        elif self._busy or self._blocked or self._unread:
            self._unread += data
            self._pause()
        else:
            self._unread = data
            self._next()

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        """A function that is under way runs on, and its answer finds nobody."""
        self._leave()

    # --- requests --------------------------------------------------------------------------------------------------

    def _next(self) -> None:
        """What is unread begins with a request, if there is any."""
        if self._busy or self._blocked or self._transport is None:
            return
        if not self._unread:
            self._resume()
            return
        request = plain(self._unread, self._remote)
        if request is None:
            self._hand_over()
            return
        self._missing = request.end + request.length - len(self._unread)
        if self._missing > 0:
            self._request = request
            self._resume()
        else:
            self._begin(request)

    def _begin(self, request: Plain) -> None:
        end = request.end + request.length
        body = self._unread[request.end : end]
        self._unread = self._unread[end:]
        self._busy = True
        self._shortcuts.run(self, request, body)

    def answer(self, reply: Reply, *, keep_alive: bool) -> None:
        self._busy = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._latest = self._shortcuts.loop.time()
        head = _head(reply, keep_alive=keep_alive)
        if len(reply.body) < _JOINED:
            transport.write(head + reply.body)
        else:
            transport.write(head)
            transport.write(reply.body)
        if not keep_alive:
            self.close()
        elif self._unread:
            self._shortcuts.loop.call_soon(self._next)  # and not here: each could be answered at once
        else:
            self._resume()

    def _hand_over(self) -> None:
        """From here on it is as if aiohttp had had the connection all the time."""
        transport, unread = self._transport, self._unread
        assert transport is not None
        self._resume()
        self._leave()
        protocol = self._shortcuts.aiohttp()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(unread)

    # --- its life --------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        return self._busy

    def close(self) -> None:
        """Once what was written is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _look(self) -> None:
        loop = self._shortcuts.loop
        left = self._latest + _IDLE_SECONDS - loop.time()
        if self._busy:
            left = _IDLE_SECONDS
        if left > 0:
            self._timer = loop.call_later(left, self._look)
        else:
            self.abort()

    def _leave(self) -> None:
        self._transport = None
        self._request = None
        self._unread, self._rest = b"", []
        self._shortcuts.left(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()


class Shortcuts:
    """The connections that are not aiohttp's; called, it makes one. `aiohttp` makes the protocol of one that is."""

    def __init__(self, lambda_api: LambdaApi, aiohttp: Callable[[], asyncio.Protocol]) -> None:
        self.aiohttp = aiohttp
        self.loop = asyncio.get_running_loop()
        self.connections: set[Shortcut] = set()
        self.closing = False
        self._lambda_api = lambda_api
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way = 0  # requests
        self._settled = asyncio.Event()  # `closing`, and nothing is left to be sent

    def __call__(self) -> Shortcut:
        return Shortcut(self)

    def run(self, connection: Shortcut, request: Plain, body: bytes) -> None:
        self._under_way += 1

        def done(reply: Reply) -> None:
            self._under_way -= 1
            connection.answer(reply, keep_alive=request.keep_alive and not self.closing)
            self._settle()

        later = self._lambda_api.begin(request, body, done)
        if later is not None:
            task = self.loop.create_task(later)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def left(self, connection: Shortcut) -> None:
        self.connections.discard(connection)
        self._settle()

    def _settle(self) -> None:
        if self.closing and not self.connections and self._under_way == 0:
            self._settled.set()

    async def close(self, seconds: float) -> None:
        """Idle ones at once; those with a request under way when their answer is sent. `seconds` from now all."""
        self.closing = True
        for connection in [each for each in self.connections if not each.busy]:
            connection.close()
        if self.connections or self._under_way:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._settled.wait()
        late = list(self._tasks)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for connection in list(self.connections):
            connection.abort()


def _head(reply: Reply, *, keep_alive: bool) -> bytes:
    """As aiohttp writes it."""
    lines = [f"{name}: {value}" for name, value in reply.headers.items()]
    if reply.status != 204:
        lines.append(f"Content-Length: {len(reply.body)}")
    lines += (f"Date: {rfc822_formatted_time()}", f"Server: {SERVER_SOFTWARE}")
    if not keep_alive:
        lines.append("Connection: close")
    return (_LINES[reply.status] + "\r\n".join(lines) + "\r\n\r\n").encode()
