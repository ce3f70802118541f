"""The rest of a large body on its way: received where it belongs, past the parser."""

from __future__ import annotations

import asyncio
from typing import Protocol

LARGE = 65_536  # bytes still to come, from which it is worth it


class Receiver(Protocol):
    """The connection, as an upload sees it."""

    def uploaded(self, body: bytearray) -> None: ...

    def eof_received(self) -> bool: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...


class Upload(asyncio.BufferedProtocol):
    """In the connection's place on its transport until the body is whole."""

    def __init__(self, receiver: Receiver, body: bytearray, received: int) -> None:
        self._receiver = receiver
        self._body = body
        self._rest = memoryview(body)[received:]

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._rest

    def buffer_updated(self, nbytes: int) -> None:
        self._rest = self._rest[nbytes:]
        if not self._rest:
            self._receiver.uploaded(self._body)

    def eof_received(self) -> bool:
        return self._receiver.eof_received()

    def pause_writing(self) -> None:
        self._receiver.pause_writing()

    def resume_writing(self) -> None:
        self._receiver.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiver.connection_lost(exc)
