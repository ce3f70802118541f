"""The bytes of one connection: requests in, answers out, in order. The hot path: no task, no timer, no future.

httptools parses; head.py judges what it lets through. One request of a connection is with its function at a time;
those that a client has pipelined behind it wait here, parsed, and nothing more is read until they have had their turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

import httptools

from eventfn.errors import PayloadTooLarge
from eventfn.event import Buffer, Outcome
from eventfn.trigger import Forbidden, FunctionUrl
from eventfn_http import cors, responses, urls
from eventfn_http.accepting import accept
from eventfn_http.events import PeerText, event, event_apart
from eventfn_http.head import Head, Refusal, read_head
from eventfn_http.request import Ended, Final, Request
from eventfn_http.responses import Response
from eventfn_http.routes import Match
from eventfn_http.server import FOREVER, MOST_LENT, Route, Server
from eventfn_http.streaming import Streamed
from eventfn_http.upload import LARGE, Upload

# What is being read. IDLE: nothing of the next request has come. DEAF: what still comes is thrown away.
IDLE, HEAD, BODY, DEAF = range(4)


class Connection(asyncio.Protocol):
    """Deadlines are on the server's clock: `read_deadline` for what the client must send, `write_deadline` for what it
    must take. FOREVER while it owes nothing."""

    __slots__ = (
        "_aligned",
        "_answered",
        "_blocked",
        "_bound",
        "_busy",
        "_chunks",
        "_current",
        "_fed",
        "_head_lines",
        "_latest",
        "_owes_continue",
        "_parser",
        "_paused",
        "_peer",
        "_reading",
        "_received",
        "_request_id",
        "_server",
        "_serving",
        "_streamed",
        "_target",
        "_transport",
        "_unsent",
        "_uploading",
        "_waiting",
        "read_deadline",
        "write_deadline",
    )  # fmt: skip

    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self.read_deadline = self.write_deadline = FOREVER

    # --- the loop's callbacks --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self._peer = PeerText(peer[0] if peer else "", str(here[1]) if here else "")
        self._parser = httptools.HttpRequestParser(self)
        self._reading = IDLE
        self._target = b""
        self._head_lines: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes | bytearray] = []
        self._received = 0  # bytes of this body
        self._fed = 0  # bytes since the last request ended: what this one has, framing and all
        self._bound = 0  # no head that ends in these bytes can be longer
        self._current: Request | None = None  # the one being read, from its head on
        self._latest: Request | None = None  # the last one that was read
        self._aligned = True  # the parser is known to stand between two requests
        self._busy: Request | None = None  # the one being answered
        self._request_id = ""
        self._waiting: deque[Request] = deque()
        self._serving = False
        self._owes_continue = False
        self._paused = False  # reading
        self._blocked = False  # writing: the client does not take what it is sent
        self._unsent = 0
        self._uploading = 0  # bytes that the server has lent to a large body
        self._answered = self._outcome
        self._streamed: Streamed | None = None  # the answer that is sent in parts
        if not self._server.admit(self):
            self._refuse(503, "Too many connections")
        else:
            self.read_deadline = self._server.header_due

    def data_received(self, data: bytes) -> None:
        if self._reading == DEAF:
            return
        size = len(data)
        if self._aligned and (request := self._server.known.request(data)) is not None:
            self.read_deadline = FOREVER
            if self._busy is None and not self._waiting and not self._blocked:
                self._serve(request)
            else:
                self._take(request)
            return
        aligned, self._aligned = self._aligned, False
        self._fed += size
        if self._reading == HEAD:
            self._bound += size
        else:
            self._bound = size
            if self._reading == IDLE:
                self._reading = HEAD
                self.read_deadline = self._server.header_due
        try:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._without_upgrade(memoryview(data)[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            self._failed(error.__context__)
        except httptools.HttpParserError as error:
            # What follows a last request (connection: close) is nobody's: that one is answered all the same.
            if self._reading != DEAF:
                self._refuse(400, str(error))
        else:
            if self._reading == IDLE:
                if aligned and self._latest is not None:
                    self._aligned = self._server.known.remember(data, self._latest)
            elif self._reading != DEAF:
                self._check_unfinished()

    def eof_received(self) -> bool:
        """A client that has said all it has to say still gets its answers."""
        if self._reading == DEAF or (self._busy is None and not self._waiting):
            return self._busy is not None
        self._reading = DEAF
        last = self._waiting[-1] if self._waiting else self._busy
        assert last is not None
        last.keep_alive = False
        self.read_deadline = FOREVER
        return True

    def pause_writing(self) -> None:
        assert self._transport is not None
        self._blocked = True
        self._unsent = self._transport.get_write_buffer_size()
        self.write_deadline = self._server.write_due
        self._regulate()

    def resume_writing(self) -> None:
        self._blocked = False
        if self._transport is not None and not self._transport.is_closing():
            self.write_deadline = FOREVER
        if self._streamed is not None:
            self._streamed.changed()
        self._serve_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """In the middle of a request too: its function runs on, and its answer finds nobody."""
        self._server.forget(self)
        self._server.lent -= self._uploading
        self._transport = None
        self._reading = DEAF
        self._waiting.clear()
        self.read_deadline = self.write_deadline = FOREVER
        streamed, self._streamed = self._streamed, None
        if streamed is not None:
            streamed.changed()
        del self._parser, self._answered  # each holds this connection: nothing is left for the garbage collector

    # --- the parser's callbacks ------------------------------------------------------------------------------------

    def on_url(self, part: bytes) -> None:
        if self._reading != HEAD:  # the rest of what brought the request before
            if self._reading == DEAF:
                raise Ended
            self._reading = HEAD
            self.read_deadline = self._server.header_due
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_lines.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser.should_upgrade():
            return
        server = self._server
        limits = server.limits
        lines = self._head_lines
        self._head_lines = []  # for the trailers, if any: nothing that follows the body changes what is decided here
        if len(self._target) > limits.max_request_line:
            raise Refusal(414, "The request's target is too long")
        most = limits.max_header_bytes
        if self._bound > most and sum(len(name) + len(value) + 4 for name, value in lines) > most:
            raise Refusal(431, "The headers are too large")
        head = read_head(parser.get_method(), self._target, parser.get_http_version(), lines)
        request = self._current = Request(head, parser.should_keep_alive())
        if (url := server.urls.find(head.host)) is not None:
            if isinstance(url, Response):
                request.response = url
            else:
                request.route = Route(url.id, urls.route_text(url, None), url.caller, False, buffered=False, url=url)
        elif isinstance(found := server.routes.find(head.method, head.path), Match):
            route, request.parameters = found.target, found.parameters
            if route.guarded and not self._allowed(head):
                request.response = responses.UNAUTHORIZED
            else:
                request.route = route
        else:
            request.response = responses.unrouted(found)
        if head.length > limits.max_body:
            raise Refusal(413, f"The body may have {limits.max_body} bytes")
        if head.length or head.chunked:
            self._reading = BODY
            self.read_deadline = server.body_due
            if head.expects_continue:
                self._continue(request)

    def on_body(self, part: bytes) -> None:
        self._received += len(part)
        if self._received > self._server.limits.max_body:
            raise Refusal(413, f"The body may have {self._server.limits.max_body} bytes")
        if self._current is not None and self._current.response is None:
            self._chunks.append(part)

    def on_message_complete(self) -> None:
        request = self._current
        if request is None:  # an upgrade that is ignored: it is told again
            return
        chunks = self._chunks
        if chunks:
            request.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            self._chunks = []
        self._received = 0
        self._current = None
        self._latest = request
        self._target = b""
        if self._head_lines:
            self._head_lines = []
        self._fed = 0
        self.read_deadline = FOREVER
        self._reading = IDLE if request.keep_alive else DEAF
        self._owes_continue = False
        self._take(request)

    # --- reading ---------------------------------------------------------------------------------------------------

    def _check_unfinished(self) -> None:
        """Bounds what the parser keeps of a head or a trailer that does not end."""
        limits = self._server.limits
        if self._reading == HEAD:
            if len(self._target) > limits.max_request_line:
                self._refuse(414, "The request's target is too long")
            elif self._fed > limits.max_request_line + limits.max_header_bytes:
                self._refuse(431, "The headers are too large")
        elif self._fed - self._received > limits.max_body + limits.max_header_bytes:
            self._refuse(413, "The chunks' framing is larger than any body may be")
        elif self._current is not None and self._current.response is None:
            self._receive_the_rest(self._current)

    def _receive_the_rest(self, request: Request) -> None:
        """Of a large body: straight into the place where the function's event has it from."""
        transport, server = self._transport, self._server
        length = request.head.length if request.head is not None else 0
        if transport is None or length - self._received < LARGE or server.lent + length > MOST_LENT:
            return
        server.lent += length
        self._uploading = length
        body = bytearray(length)
        at = 0
        for chunk in self._chunks:
            body[at : at + len(chunk)] = chunk
            at += len(chunk)
        self._chunks = []
        transport.set_protocol(Upload(self, body, at))

    def uploaded(self, body: bytearray) -> None:
        transport = self._transport
        assert transport is not None
        transport.set_protocol(self)
        self._server.lent -= self._uploading
        self._uploading = 0
        if self._reading == DEAF:
            return
        self._parser = httptools.HttpRequestParser(self)  # the one before still waits for this body
        self._aligned = True
        self._chunks = [body]
        self.on_message_complete()

    def _allowed(self, head: Head) -> bool:
        carrier = self._server.tokens.presented(head.headers)
        if carrier is None:
            return False
        del head.headers[carrier]  # it opens other routes too, and those are none of this function's business
        return True

    def _without_upgrade(self, rest: memoryview) -> None:
        """RFC 9110 section 7.8 lets a server ignore Upgrade. httptools cannot: it stops behind the head. So the same
        head is parsed again without it, and whatever followed as the body that it always was."""
        while True:
            method, version = self._parser.get_method(), self._parser.get_http_version()
            if method == b"CONNECT":
                self._refuse(501, "The method CONNECT is not supported")
                return
            lines = [b"%b %b HTTP/%b\r\n" % (method, self._target, version.encode())]
            lines += [b"%b: %b\r\n" % line for line in self._head_lines if line[0].lower() != b"upgrade"]
            self._parser = httptools.HttpRequestParser(self)
            self._target = b""
            self._head_lines = []
            self._parser.feed_data(b"".join((*lines, b"\r\n")))
            try:
                self._parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:  # the next request, pipelined, asks for one too
                rest = rest[upgrade.args[0] :]

    def _continue(self, request: Request) -> None:
        if request.response is not None:  # RFC 9110 section 10.1.1: the final answer instead, and no body
            raise Final(request)
        if self._busy is not None or self._waiting:
            self._owes_continue = True
        elif self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _failed(self, cause: BaseException | None) -> None:
        """A callback of the parser raised: its way to stop."""
        if isinstance(cause, Ended):
            return
        if isinstance(cause, Refusal):
            self._refuse(cause.status, cause.message)
        elif isinstance(cause, Final):
            self._last(cause.request)
        else:
            self._server.log.error("a request could not be read", exc_info=cause)
            self._refuse(500, "Internal Server Error")

    def _refuse(self, status: int, text: str) -> None:
        """The last answer of this connection, behind those that are still owed."""
        self._last(Request(self._current.head if self._current else None, False, responses.message(status, text)))

    def _last(self, request: Request) -> None:
        request.keep_alive = False
        self._reading = DEAF
        self._current = None
        self._chunks = []
        self.read_deadline = FOREVER
        self._take(request)

    def _regulate(self) -> None:
        """Nothing is read while answers are not taken or requests wait for their turn."""
        transport = self._transport
        pause = self._blocked or bool(self._waiting)
        if transport is None or pause == self._paused or transport.is_closing():
            return
        self._paused = pause
        if pause:
            transport.pause_reading()
        else:
            transport.resume_reading()
        if self._reading == DEAF:
            return
        if pause or (self._reading == IDLE and self._busy is not None):
            self.read_deadline = FOREVER
        else:
            server = self._server
            self.read_deadline = {IDLE: server.idle_due, HEAD: server.header_due, BODY: server.body_due}[self._reading]

    # --- answering -------------------------------------------------------------------------------------------------

    def _take(self, request: Request) -> None:
        if self._busy is not None or self._waiting or self._blocked:
            self._waiting.append(request)
            self._regulate()
        else:
            self._serve(request)

    def _serve(self, request: Request) -> None:
        self._busy = request
        server = self._server
        self._request_id = request_id = server.request_id()
        now_ms = server.now_ms()
        if request.response is not None:
            self._answer(request.response)
            return
        route, head = request.route, request.head
        assert route is not None
        assert head is not None
        try:
            body, request.body = request.body, b""
            text, peer, parameters = route.text, self._peer, request.parameters
            if route.buffered:
                payload, own = event_apart(text, peer, head, parameters, body, server.log_time, now_ms)
                route.caller.invoke(payload, request_id, self._answered, own)
                return
            if route.url is not None:
                self._serve_url(route.url, head, body)
                return
            payload = event(text, peer, head, parameters, body, request_id, server.log_time, now_ms)
            if route.durable:
                server.spawn(self._submit(route, head, payload, request_id))
            else:
                streamed = self._streamed = Streamed(self, responses.respond)
                route.caller.invoke(payload, request_id, streamed.ended, None, streamed)
        except PayloadTooLarge as refused:  # as an event, in which a body may be base64
            self.send_whole(responses.message(413, str(refused)))
        except Exception as error:
            server.log.error("request %s to %s failed", request_id, route.key, exc_info=error)
            self.send_whole(responses.SERVICE_UNAVAILABLE)

    def _serve_url(self, url: FunctionUrl, head: Head, body: bytes | bytearray) -> None:
        """Raises what `invoke` raises."""
        if url.cors is not None and cors.is_preflight(head):
            self._answer(cors.preflight(url.cors, head))
            return
        finished = urls.finished(url, head)
        try:
            caller = url.admit(urls.request(head, self._peer, body))
        except Forbidden as denied:
            self._answer(finished(urls.forbidden(denied.message)))
            return
        server, request_id = self._server, self._request_id
        text = urls.route_text(url, caller)
        payload = event(text, self._peer, head, {}, body, request_id, server.log_time, server.now_ms())
        if url.streams:
            streamed = self._streamed = Streamed(self, lambda outcome: urls.respond(url, outcome), finished)
            url.caller.invoke(payload, request_id, streamed.ended, None, streamed)
        else:
            url.caller.invoke(payload, request_id, lambda outcome: self._answer(finished(urls.respond(url, outcome))))

    def _serve_waiting(self) -> None:
        if self._serving:  # an answer that came at once: the loop below goes on
            return
        self._serving = True
        while self._waiting and self._busy is None and not self._blocked and self._transport is not None:
            self._serve(self._waiting.popleft())
        self._serving = False
        self._regulate()

    def _outcome(self, outcome: Outcome) -> None:
        self._answer(responses.respond(outcome))

    async def _submit(self, route: Route, head: Head, payload: bytes, request_id: str) -> None:
        self._answer(await accept(route, head, payload, request_id, self._server.log))

    def _answer(self, response: Response) -> None:
        transport, request = self._transport, self._busy
        if transport is None or request is None or transport.is_closing():
            return
        head = request.head
        if response.has_body:
            body = response.body
            framing = b"content-length: %d\r\n" % len(body)
        else:
            body = framing = b""
        keep_alive = request.keep_alive and not self._server.draining
        opening = self._opening(response, framing, keep_alive, head)
        if head is not None and head.method == "HEAD":
            body = b""
        if len(body) < LARGE:
            transport.write(opening + body)
        else:
            # Not writelines: asyncio's own forgets the back-pressure in it (CPython 3.12 and 3.13, CVE-2024-12254).
            transport.write(opening)
            transport.write(body)
        self._given(transport, request, keep_alive)

    def _opening(self, response: Response, framing: bytes, keep_alive: bool, head: Head | None) -> bytes:
        """All that comes before the body."""
        if not keep_alive:
            connection = b"connection: close\r\n\r\n"
        elif head is not None and head.version == "1.0":
            connection = b"connection: keep-alive\r\n\r\n"
        else:
            connection = b"\r\n"
        return b"".join(
            (
                responses.STATUS_LINES[response.status],
                self._server.date_line,
                b"x-amzn-RequestId: ",
                self._request_id.encode(),
                b"\r\n",
                response.lines,
                framing,
                connection,
            )
        )

    def _given(self, transport: asyncio.Transport, request: Request, keep_alive: bool) -> None:
        """The answer is on its way; what is next."""
        self._busy = None
        if not keep_alive:
            self._finish(transport, request)
            return
        if self._waiting:
            self._serve_waiting()
        elif self._reading == IDLE and not self._blocked:
            self.read_deadline = self._server.idle_due
        elif self._owes_continue:
            self._owes_continue = False
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # --- answering in parts ------------------------------------------------------------------------------------------

    @property
    def takes_no_more(self) -> bool:
        return self._blocked

    @property
    def has_left(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def send_head(self, head: Response) -> bool:
        transport, request = self._transport, self._busy
        if transport is None or request is None or transport.is_closing():
            return False
        asked = request.head
        framing = b""
        if head.has_body and asked is not None and asked.version == "1.0":
            request.keep_alive = False  # its body ends where the connection does
        elif head.has_body:
            framing = b"transfer-encoding: chunked\r\n"
        request.keep_alive = request.keep_alive and not self._server.draining
        transport.write(self._opening(head, framing, request.keep_alive, asked))
        request.streams = head.has_body and asked is not None and asked.method != "HEAD"
        return request.streams

    def send_part(self, part: Buffer) -> None:
        transport, request = self._transport, self._busy
        if transport is None or request is None or transport.is_closing():
            return
        if request.head is not None and request.head.version == "1.0":
            transport.write(part)
        else:
            transport.write(b"".join((b"%x\r\n" % len(part), part, b"\r\n")))
        if self._blocked:  # what is still on its way from the function counts as no less taken by the client
            self._unsent = max(self._unsent, transport.get_write_buffer_size())

    def send_end(self, *, whole: bool) -> None:
        transport, request = self._transport, self._busy
        self._streamed = None
        if transport is None or request is None or transport.is_closing():
            return
        if request.streams and not whole:
            self._busy = None
            self._close(transport)  # without the last chunk; a client of HTTP/1.0 has no way to know
            return
        if request.streams and request.head is not None and request.head.version != "1.0":
            transport.write(b"0\r\n\r\n")
        self._given(transport, request, request.keep_alive)

    def send_whole(self, response: Response) -> None:
        self._streamed = None
        self._answer(response)

    def _finish(self, transport: asyncio.Transport, request: Request) -> None:
        """No more is read as requests. A refused client may still be sending: it gets the time to stop and read."""
        self._reading = DEAF
        self._waiting.clear()
        if request.response is None:
            self._close(transport)
            return
        self._regulate()
        transport.write_eof()
        self._unsent = transport.get_write_buffer_size()
        self.read_deadline = self._server.write_due if self._unsent else self._server.linger_due

    def _close(self, transport: asyncio.Transport) -> None:
        """Once all is sent; a client that does not take it has write_timeout."""
        self._reading = DEAF
        self.read_deadline = FOREVER
        self._unsent = transport.get_write_buffer_size()
        self.write_deadline = self._server.write_due
        transport.close()

    # --- the server's calls ----------------------------------------------------------------------------------------

    def expire(self) -> None:
        """Called by the sweep once a deadline has passed."""
        transport = self._transport
        if transport is None:
            return
        now = self._server.now
        if self.write_deadline <= now:
            if not self._progress(transport):
                transport.abort()
                return
            self.write_deadline = self._server.write_due
        if self.read_deadline > now:
            return
        if self._reading == IDLE:
            self._close(transport)
        elif self._reading != DEAF:
            self._refuse(408, "The request did not arrive in time")
        elif self._progress(transport):
            self.read_deadline = self._server.write_due
        else:
            transport.abort()

    def _progress(self, transport: asyncio.Transport) -> bool:
        """The client has taken some of what it is sent since the last look, and there is more."""
        left = transport.get_write_buffer_size()
        before, self._unsent = self._unsent, left
        return 0 < left < before

    def drain(self) -> None:
        if self._transport is not None and self._reading == IDLE and self._busy is None and not self._waiting:
            self._close(self._transport)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
