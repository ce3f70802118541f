"""HTTP/1.1 with the processes of one environment, over the socket that their sandbox has handed over.

They are hostile: heads, bodies, trailers and connections are bounded, what is not answered yet is not read past, and
all connections together are one share of the supervisor's loop (share.py). Sockets instead of the loop's transports,
because the bounds have to be exact.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

import httptools

from eventfn.event import Buffer
from eventfn.workers.local_api.answers import Answer
from eventfn.workers.share import Share

PLACES = 32  # connections at a time: a runtime takes one or a few, and so does each of ten extensions
_HEAD = 65_536  # bytes without a body in them: a head, trailers
_LARGE_HEAD = 1_179_648  # the one request at a time that has leave for more: an X-Ray cause has up to 1 MB
_CHUNK = 65_536
# Bytes of one read where a request may begin, and where pieces of a body may: a large read could hold thousands of
# small ones, and each of them costs as much as the whole of a large one.
_BEGINNING, _PIECES = 1024, 8192
_chunk = memoryview(bytearray(_CHUNK))  # one for all: what is in it is parsed before anybody else reads
_OUT_OF_SOMETHING = 1.0  # seconds to wait when the machine has no descriptor for another connection


class Exchange:
    """One request and its answer. `headers` in lower case, the last one of a name."""

    def __init__(self, connection: Connection, method: str, path: str, headers: dict[str, str]) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.trailers: dict[str, str] = {}
        self.body = bytearray()
        self.room = 0  # bytes that the body may have; set when the head has arrived
        self.too_large = False  # it had more, which was thrown away
        self.on_chunk: Callable[[bytes], None] | None = None  # gets the body instead of `body`
        self._connection = connection

    def answer(self, answer: Answer) -> None:
        """Once."""
        self._connection.answer(self, answer)

    def pause(self) -> None:
        """Nothing more of it is read until `resume`."""
        self._connection.pause()

    def resume(self) -> None:
        self._connection.resume()


class Handler(Protocol):
    def begins(self, exchange: Exchange) -> None:
        """Its head has arrived: says how much room its body has."""
        ...

    def arrived(self, exchange: Exchange) -> None:
        """All of it has arrived. It is answered now or later."""
        ...

    def lost(self, exchange: Exchange) -> None:
        """Its connection has ended: before all of it had arrived, or before it was answered."""
        ...


class Server:
    """Takes connections on `listener`, which is its own from here on, until `close`. Raises ValueError, and closes it,
    when that is no listening TCP socket."""

    def __init__(self, listener: socket.socket, handler: Handler) -> None:
        is_tcp = listener.family == socket.AF_INET and listener.type == socket.SOCK_STREAM
        if not is_tcp or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            listener.close()
            raise ValueError(f"{listener} does not listen")
        self.handler = handler
        self.share = Share()
        self.large: Connection | None = None  # who has leave for a large head
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._connections: set[Connection] = set()
        self._closed = False
        listener.setblocking(False)
        self.share.on_readable(listener.fileno(), self._accept)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.share.on_readable(self._listener.fileno(), None)
        self._listener.close()
        for connection in list(self._connections):
            connection.close()
        self.share.close()

    def left(self, connection: Connection) -> None:
        if self.large is connection:
            self.large = None
        self._connections.discard(connection)
        if not self._closed:
            self.share.on_readable(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            self.share.on_readable(self._listener.fileno(), None)
            self._loop.call_later(_OUT_OF_SOMETHING, self._watch)
            return
        accepted.setblocking(False)
        with contextlib.suppress(OSError):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(Connection(accepted, self))
        if len(self._connections) >= PLACES:
            self.share.on_readable(self._listener.fileno(), None)

    def _watch(self) -> None:
        if not self._closed:
            self.share.on_readable(self._listener.fileno(), self._accept)


class Connection:
    """One request after the other. Also what httptools calls back."""

    def __init__(self, accepted: socket.socket, server: Server) -> None:
        self._socket = accepted
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Exchange, bool]] = deque()  # whole requests, and whether the connection stays
        self._handled: Exchange | None = None  # the first of them, in the handler's hands
        self._serving = False
        self._arriving: Exchange | None = None
        self._url = b""
        self._headers: dict[str, str] = {}
        self._unaccounted = 0  # bytes in the parser's hands that may be a head or trailers
        self._missing = 0  # bytes of a body whose length is known
        self._out: deque[memoryview] = deque()
        self._paused = False
        self._reading = False
        self._ending = False  # once everything is sent
        self._closed = False
        self._watch()

    # --- what arrives ------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        # What follows a request that is not answered yet stays in the kernel, but for what came with it. An end is
        # noticed all the same: whoever waits for an event may be gone.
        wanted = not self._closed and not self._ending and not self._paused and len(self._waiting) < 2
        if wanted != self._reading:
            self._reading = wanted
            self._server.share.on_readable(self._socket.fileno(), self._readable if wanted else None)

    def _readable(self) -> None:
        try:
            size = self._socket.recv_into(_chunk, self._most())
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if size == 0:
            self._half_closed()
            return
        self._unaccounted += size
        try:
            self._parse(_chunk[:size])
        except httptools.HttpParserError:
            self._refuse(400, "InvalidRequestFormat", "not a request of HTTP/1.1")
            return
        if self._unaccounted > _HEAD and not self._has_leave():
            self._refuse(431, "RequestHeaderFieldsTooLarge", "the head is too large")
            return
        self._watch()

    def _most(self) -> int:
        """Bytes of the next read."""
        if self._missing:
            return min(self._missing + _BEGINNING, _CHUNK)
        return _PIECES if self._arriving is not None or self._unaccounted >= _BEGINNING else _BEGINNING

    def _parse(self, data: memoryview) -> None:
        """Who offers HTTP/2 with a request, as Java does, is answered in HTTP/1.1, and what follows is that."""
        while len(data):
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._parser = httptools.HttpRequestParser(self)
                data = data[upgrade.args[0] :]
            else:
                return

    def _has_leave(self) -> bool:
        if self._server.large is None:
            self._server.large = self
        return self._server.large is self and self._unaccounted <= _LARGE_HEAD

    def _half_closed(self) -> None:
        if self._arriving is not None:
            exchange, self._arriving = self._arriving, None
            self._server.handler.lost(exchange)
            self._refuse(400, "TruncatedHTTPRequest", "the body was cut short")
        else:
            self.close()

    # --- called by the parser ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url, self._headers = b"", {}

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._arriving is not None:
            self._arriving.trailers[name.decode("latin-1").lower()] = value.decode("latin-1")
        else:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._unaccounted = 0
        if self._closed or self._ending:
            return
        path = self._url.partition(b"?")[0].decode("latin-1")
        exchange = Exchange(self, self._parser.get_method().decode("latin-1"), path, self._headers)
        self._arriving = exchange
        length = self._headers.get("content-length", "0")  # the parser has made sure that it is a number
        self._missing = int(length) if length.isdecimal() else 0
        self._server.handler.begins(exchange)
        if self._headers.get("expect", "").lower() == "100-continue" and not self._waiting:
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._unaccounted = 0
        self._missing = max(self._missing - len(body), 0)
        exchange = self._arriving
        if exchange is None:
            return
        if exchange.on_chunk is not None:
            exchange.on_chunk(body)
        elif len(exchange.body) + len(body) > exchange.room:
            exchange.too_large = True
            exchange.body.clear()
            exchange.room = 0
        else:
            exchange.body += body

    def on_chunk_header(self) -> None:
        self._unaccounted = 0

    def on_message_complete(self) -> None:
        self._unaccounted = 0
        exchange, self._arriving = self._arriving, None
        if exchange is None:
            return
        if self._server.large is self:
            self._server.large = None
        self._waiting.append((exchange, self._parser.should_keep_alive()))
        self._serve()

    # --- what is answered --------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """In a loop and not by recursion: thousands of requests may come in one piece."""
        if self._serving:
            return
        self._serving = True
        while self._waiting and self._handled is None and not self._ending:
            self._handled = self._waiting[0][0]
            self._server.handler.arrived(self._handled)
        self._serving = False

    def answer(self, exchange: Exchange, answer: Answer) -> None:
        if self._handled is not exchange:
            return  # its connection is gone, or was refused
        self._handled = None
        _, stays = self._waiting.popleft()
        self._ending = not stays
        self._send(_head(answer, stays=stays), answer.body)
        self._serve()
        self._watch()

    def pause(self) -> None:
        self._paused = True
        self._watch()

    def resume(self) -> None:
        self._paused = False
        self._watch()

    def _refuse(self, status: int, kind: str, why: str) -> None:
        """It cannot be understood, or not be borne: nothing more is read from it."""
        for exchange in self._abandoned():
            self._server.handler.lost(exchange)
        if self._closed:
            return
        self._ending = True
        self._watch()
        body = f'{{"errorMessage":"{why}","errorType":"{kind}"}}'.encode()
        self._send(_head(Answer(status, body), stays=False), body)

    def _send(self, *parts: Buffer) -> None:
        self._out.extend(memoryview(part) for part in parts if len(part))
        self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                sent = self._socket.sendmsg([*self._out][:16])
                while sent:
                    if sent < len(self._out[0]):
                        self._out[0] = self._out[0][sent:]
                        break
                    sent -= len(self._out.popleft())
        except BlockingIOError:
            self._server.share.on_writable(self._socket.fileno(), self._flush)
            return
        except OSError:
            self.close()
            return
        self._server.share.on_writable(self._socket.fileno(), None)
        if self._ending:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
            self.close()

    def _abandoned(self) -> list[Exchange]:
        left = [exchange for exchange, _ in self._waiting]
        if self._arriving is not None:
            left.append(self._arriving)
        self._waiting.clear()
        self._arriving = self._handled = None
        return left

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._server.share.on_readable(self._socket.fileno(), None)
        self._server.share.on_writable(self._socket.fileno(), None)
        self._socket.close()
        self._out.clear()
        for exchange in self._abandoned():
            self._server.handler.lost(exchange)
        self._server.left(self)


def _head(answer: Answer, *, stays: bool) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} {http.HTTPStatus(answer.status).phrase}"]
    if answer.body:
        lines.append(f"Content-Type: {answer.content_type}")
    lines.append(f"Content-Length: {len(answer.body)}")
    lines += [f"{name}: {value}" for name, value in answer.headers]
    if not stays:
        lines.append("Connection: close")
    return "\r\n".join((*lines, "\r\n")).encode()
