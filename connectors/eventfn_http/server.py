"""What all connections of a listener share: routes, limits, the second's texts, request ids, and the one sweep that
ends whoever is too slow.

What belongs here: state of the whole listener. What does not: the bytes of one connection (protocol.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from eventfn.clock import Clock
from eventfn.trigger import Caller, FunctionUrl
from eventfn_http.access import Tokens
from eventfn_http.events import RouteText, common_log_time, http_date
from eventfn_http.request import Known
from eventfn_http.routes import RouteTable
from eventfn_http.urls import UrlTable

if TYPE_CHECKING:
    from eventfn_http.protocol import Connection

SWEEP = 1.0  # seconds between two looks at all connections: what their timeouts are exact to
LINGER = 5.0  # seconds that a refused client has to read why; closing under its upload would take that from it
FOREVER = float("inf")
MOST_LENT = 64 * 1024**2  # bytes set aside for large bodies still to come: who only announces one ties up no more
_IDS_PER_HEAD = 1 << 16


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds."""

    max_body: int
    max_request_line: int
    max_header_bytes: int
    max_connections: int
    header_timeout: float
    body_timeout: float
    write_timeout: float
    keep_alive_timeout: float


class Route(msgspec.Struct, frozen=True):
    """What a request is matched to."""

    key: str  # "GET /items/{id}"
    text: RouteText
    caller: Caller
    guarded: bool  # asks for a token
    buffered: bool = True  # answered in one piece, when the function is done
    durable: bool = False  # async = true: 202 once it is on disk
    url: FunctionUrl | None = None


class Server:
    def __init__(self, limits: Limits, tokens: Tokens, clock: Clock, log: logging.Logger) -> None:
        self.limits = limits
        self.tokens = tokens
        self.log = log
        self.routes: RouteTable[Route] = RouteTable()
        self.urls = UrlTable()
        self.known = Known()
        self.draining = False
        self.lent = 0  # bytes set aside for bodies still to come
        self._second: int = -1
        self.date_line = b""  # a whole header line, for the current second
        self.log_time = ""  # the same second, as events have it
        self._clock = clock
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._id_head = ""
        self._id_next = self._id_end = 0
        self.now_ms()
        self.now = 0.0  # seconds that the server has run: what deadlines are counted in
        self._looked = clock.monotonic()
        self._look_at_the_clock()

    def mount(self, routes: RouteTable[Route]) -> None:
        """Requests whose head was read finish on the old ones."""
        self.routes = routes
        self.known = Known()

    def mount_urls(self, urls: UrlTable) -> None:
        self.urls = urls
        self.known = Known()

    # --- time and names --------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """The time; `date_line` and `log_time` are of this very second afterwards."""
        now = self._clock.now_ms()
        second = now // 1000
        if second != self._second:
            self._second = second
            self.date_line = b"date: %b\r\n" % http_date(second)
            self.log_time = common_log_time(second)
        return now

    def request_id(self) -> str:
        """Shaped as a version 4 UUID. 74 bits are drawn once for many ids, the last 48 count up from where chance put
        them: as unlikely to collide, at a fifth of the price of uuid4()."""
        if self._id_next == self._id_end:
            chance = os.urandom(16)
            text = chance[:10].hex()
            self._id_head = f"{text[:8]}-{text[8:12]}-4{text[12:15]}-{'89ab'[chance[8] & 3]}{text[17:20]}-"
            # Room for a whole run of ids below 2**48, so that the last group never grows a digit.
            self._id_next = int.from_bytes(chance[10:], "big") & ~(_IDS_PER_HEAD - 1)
            self._id_end = self._id_next + _IDS_PER_HEAD
        number = self._id_next
        self._id_next = number + 1
        return self._id_head + number.to_bytes(6, "big").hex()

    # --- connections -----------------------------------------------------------------------------------------------

    @property
    def connections(self) -> int:
        return len(self._connections)

    def admit(self, connection: Connection) -> bool:
        """False when there are too many."""
        admitted = len(self._connections) < self.limits.max_connections
        self._connections.add(connection)
        self._empty.clear()
        return admitted

    def forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._note_empty()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs it as a task of the server: drained with the connections, cancelled by `close`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        self._empty.clear()
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._note_empty()

    def _note_empty(self) -> None:
        if not self._connections and not self._tasks:
            self._empty.set()

    def _look_at_the_clock(self) -> None:
        """Deadlines are set by copying one of these: no call of the clock, no sum. As `now` can be one sweep old, that
        much is added, or a deadline could pass early."""
        limits = self.limits
        looked, self._looked = self._looked, self._clock.monotonic()
        # Longer than that this process stood still. What clients have sent in the meantime is not read yet, and the
        # time that it had to arrive in goes on from here.
        self.now += min(self._looked - looked, 2 * SWEEP)
        self.header_due = self.now + SWEEP + limits.header_timeout
        self.body_due = self.now + SWEEP + limits.body_timeout
        self.write_due = self.now + SWEEP + limits.write_timeout
        self.idle_due = self.now + SWEEP + limits.keep_alive_timeout
        self.linger_due = self.now + SWEEP + LINGER

    async def sweep(self) -> None:
        """Runs as long as the server. One timer for all connections: a timer for each request would cost more than
        parsing it."""
        while True:
            await self._clock.sleep(SWEEP)
            self._look_at_the_clock()
            self.now_ms()
            for connection in tuple(self._connections):
                if connection.read_deadline <= self.now or connection.write_deadline <= self.now:
                    connection.expire()

    async def drain(self, deadline: float) -> None:
        """Closes what is idle, answers the rest with "connection: close", waits for it up to `deadline` seconds."""
        self.draining = True
        for connection in tuple(self._connections):
            connection.drain()
        waiting = asyncio.ensure_future(self._empty.wait())
        overdue = asyncio.ensure_future(self._clock.sleep(deadline))
        try:
            await asyncio.wait((waiting, overdue), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancelled(waiting, overdue)

    async def close(self) -> None:
        self.draining = True
        for connection in tuple(self._connections):
            connection.abort()
        await _cancelled(*self._tasks)
        await self._empty.wait()  # the loop tells aborted connections so in its next turn


async def _cancelled(*futures: asyncio.Future[Any]) -> None:
    for future in futures:
        future.cancel()
    for future in futures:
        with contextlib.suppress(asyncio.CancelledError):
            await future
