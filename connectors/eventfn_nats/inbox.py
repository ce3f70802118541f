"""What a consumer is asked for, and what comes back: requests for messages, and acknowledgements that are confirmed.

    ask(n) ──▶ $JS.API.CONSUMER.MSG.NEXT ──▶ messages ──▶ arrived
    tell([(reply, "+ACK")]) ──▶ each confirmed by the server

The library's own `fetch` waits for a whole batch until its time is over, or asks twice with the first answer lost when
it is cancelled. Here one request is open at a time and its state is kept, so whoever waits for it may be cancelled.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
from nats.aio.msg import Msg

from eventfn.errors import ConnectorError
from eventfn_nats.server import PATIENCE, Connection, outside

ACK, NAK, PROGRESS, TERM = b"+ACK", b"-NAK", b"+WPI", b"+TERM"

# One answer has at most so many bytes, however many messages were asked for. No message is larger: the server's limit.
_MOST_BYTES = 64 * 1024 * 1024
_HEARTBEAT = "100"
_NORMAL_ENDS = ("404", "408")  # nothing there; its time is over
_ALSO_NORMAL = ("Message Size Exceeds MaxBytes", "Batch Completed")  # of 409


class _Confirmations(msgspec.Struct):
    left: int
    done: asyncio.Future[None]


class Inbox:
    """Of one connection. `arrived` are messages that nobody has taken from it yet."""

    def __init__(self, connection: Connection, stream: str, consumer: str) -> None:
        self.arrived: list[Msg] = []
        self._connection = connection
        self._client = connection.client
        self._server = connection.server
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._subject: str = self._client.new_inbox()
        self._numbers = itertools.count()
        self._asked: str | None = None  # where the answer to the open request goes
        self._left = 0  # messages of it that have not come
        self._wait = 0.0  # seconds that the server holds it
        self._changed = asyncio.Event()
        self._confirming: dict[str, _Confirmations] = {}
        self._failure: str | None = None
        connection.lost.add_done_callback(lambda _: self.fail("the connection is gone"))

    async def open(self) -> None:
        with outside(self._server):
            await self._client.subscribe(f"{self._subject}.*", cb=self._receive)

    def fail(self, reason: str) -> None:
        """The connection is gone, or what it is about: everybody who waits hears it."""
        self._failure = self._failure or reason
        self._changed.set()
        for confirmations in self._confirming.values():
            if not confirmations.done.done():
                confirmations.done.set_exception(self._failed())

    def _failed(self) -> ConnectorError:
        return ConnectorError(f"{self._server.name}: {self._failure}")

    # --- messages ----------------------------------------------------------------------------------------------------

    @property
    def is_asking(self) -> bool:
        return self._asked is not None

    async def ask(self, count: int, wait: float = 0.0) -> None:
        """For what is there now, or for the next messages within `wait` seconds. Then `answered`."""
        assert self._asked is None
        self._asked = f"{self._subject}.{next(self._numbers)}"
        self._left = count
        self._wait = wait
        request: dict[str, Any] = {"batch": count, "max_bytes": _MOST_BYTES}
        request |= {"expires": round(wait * 1e9)} if wait else {"no_wait": True}
        await self._publish(self._next, msgspec.json.encode(request), self._asked)

    async def answered(self) -> None:
        """Returns once the open request has got all that it will get. Safe to cancel: it stays open."""
        while self._asked is not None:
            if self._failure is not None:
                raise self._failed()
            self._changed.clear()
            try:
                async with asyncio.timeout(self._wait + PATIENCE):
                    await self._changed.wait()
            except TimeoutError:
                self.fail(str(self._connection.said or f"no answer within {self._wait + PATIENCE:g} s"))

    async def _receive(self, message: Msg) -> None:
        if message.reply.startswith("$JS.ACK."):
            self.arrived.append(message)
            self._left -= 1
            if self._left == 0:
                self._asked = None
            self._changed.set()
            return
        status = (message.headers or {}).get("Status")
        confirmations = self._confirming.get(message.subject)
        if confirmations is not None:
            if status is not None:
                self.fail(f"an acknowledgement is not taken (status {status})")
                return
            confirmations.left -= 1
            if confirmations.left == 0 and not confirmations.done.done():
                confirmations.done.set_result(None)
        elif message.subject == self._asked and status != _HEARTBEAT:
            why = (message.headers or {}).get("Description", "")
            self._asked = None
            if status not in _NORMAL_ENDS and why not in _ALSO_NORMAL:
                self.fail(why or f"a request for messages was answered with status {status}")
            self._changed.set()

    # --- acknowledgements --------------------------------------------------------------------------------------------

    async def tell(self, words: Sequence[tuple[str, bytes]]) -> None:
        """(the message's reply subject, what becomes of it). Returns once the server has taken them all."""
        if not words:
            return
        subject = f"{self._subject}.{next(self._numbers)}"
        confirmations = _Confirmations(len(words), asyncio.get_running_loop().create_future())
        self._confirming[subject] = confirmations
        try:
            for reply, word in words:
                await self._publish(reply, word, subject)
            with outside(self._server):
                async with asyncio.timeout(PATIENCE):
                    await confirmations.done
        finally:
            del self._confirming[subject]
            confirmations.done.cancel()

    async def _publish(self, subject: str, payload: bytes, reply: str) -> None:
        if self._failure is not None:
            raise self._failed()
        with outside(self._server):
            await self._client.publish(subject, payload, reply=reply)
