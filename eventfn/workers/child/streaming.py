"""Answers that come piece by piece: sent as chunks where somebody takes them so, put together where nobody does.

A piece is text or bytes. The first one may be a dict: what an HTTP response says before its body, sent as Lambda's
runtimes send it (a content type of its own, the JSON, eight NUL bytes).
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, cast

from eventfn.workers.child import frames
from eventfn.workers.child.inbox import Inbox
from eventfn.workers.child.results import Fault

Encode = Callable[[object], bytes]
Pieces = Iterator[object] | AsyncIterator[object]

_PRELUDE = b"application/vnd.awslambda.http-integration-response"
_BEHIND_PRELUDE = bytes(8)
_END = object()


class Flow:
    """One answer on its way: cut into chunks, no more at once than the supervisor has room for."""

    def __init__(self, number: int, encode: Encode) -> None:
        self.gone = False
        self._number = number
        self._encode = encode
        self._room = frames.WINDOW
        self._sent = 0
        self._begun = False
        self._first = True
        self._content_type = b""

    @property
    def content_type(self) -> str | None:
        """Known once the first piece was taken."""
        return self._content_type.decode() or None

    @property
    def full(self) -> bool:
        return self._room <= frames.CHUNK_COST

    def heed(self, frame: frames.Frame) -> None:
        """What the supervisor says of this request. Of another one it may say something late."""
        kind, number, amount, *_ = frame
        if number != self._number:
            return
        if kind == frames.ROOM:
            self._room += amount
        elif kind == frames.GONE:
            self.gone = True

    def take(self, piece: object) -> memoryview:
        """What there is to send of it: nothing is sent of an empty one, unless it is the first. Raises Fault."""
        if self._first and isinstance(piece, dict):
            self._content_type = _PRELUDE
            piece = self._encode(cast("object", piece)) + _BEHIND_PRELUDE
        self._first = False
        data = memoryview(_bytes(piece))
        self._sent += len(data)
        if self._sent > frames.MAX_STREAMED:
            message = f"Response payload size exceeded maximum allowed payload size ({frames.MAX_STREAMED} bytes)."
            raise Fault("Function.ResponseSizeTooLarge", message)
        return data

    def due(self, rest: memoryview) -> bool:
        return bool(rest) or not self._begun

    def cut(self, rest: memoryview) -> tuple[bytes, memoryview, memoryview]:
        """The next chunk's frame, the payload that follows it, and what is left then. Only while it is not `full`."""
        size = min(len(rest), self._room - frames.CHUNK_COST, frames.MAX_CHUNK)
        header = b"" if self._begun else self._content_type
        self._begun = True
        self._room -= frames.CHUNK_COST + size
        prefix = frames.PREFIX.pack(frames.CHUNK, 0, self._number, 0, 0, len(header), size, 0)
        return prefix + header, rest[:size], rest[size:]


def send(pieces: Pieces, flow: Flow, inbox: Inbox) -> None:
    """All of them, waiting for room; fewer when nobody takes them any more. Raises Fault, and what the handler raises.

    The generator is closed in any case.
    """
    process = os.getpid()
    each = _steps(pieces)
    try:
        for piece in each:
            rest = flow.take(piece)
            while flow.due(rest):
                if os.getpid() != process:
                    os._exit(0)  # the handler forked, and this is the copy: what comes is not for it to read either
                while not flow.gone and (flow.full or inbox.has_more()):
                    frame = inbox.next()
                    if frame is None:
                        os._exit(0)  # the supervisor is gone
                    flow.heed(frame)
                if flow.gone:
                    return
                begin, chunk, rest = flow.cut(rest)
                frames.write(frames.CHANNEL, begin, chunk)
    finally:
        each.close()


def join(pieces: Pieces) -> object:
    """What the handler would have returned in one piece. Raises Fault, and what the handler raises."""
    joined = Joined()
    each = _steps(pieces)
    try:
        for piece in each:
            joined.add(piece)
    finally:
        each.close()
    return joined.answer()


def _steps(pieces: Pieces) -> Generator[Any, None, None]:
    if isinstance(pieces, Iterator):
        yield from pieces
        return
    with asyncio.Runner() as runner:  # made by a `def` handler, which has no event loop
        try:
            while (piece := runner.run(_next(pieces))) is not _END:
                yield piece
        finally:
            runner.run(closed(pieces))


async def _next(pieces: AsyncIterator[object]) -> object:
    return await anext(pieces, _END)


async def steps(pieces: Pieces) -> AsyncIterator[object]:
    """For an event loop, which others share."""
    if isinstance(pieces, AsyncIterator):
        async for piece in pieces:
            yield piece
        return
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)


async def closed(pieces: Pieces) -> None:
    if isinstance(pieces, AsyncIterator):
        if (close := getattr(pieces, "aclose", None)) is not None:
            await close()
    elif (shut := getattr(pieces, "close", None)) is not None:
        shut()


class Joined:
    """The pieces as one answer: a text, or with a dict first that dict with the text as its body."""

    def __init__(self) -> None:
        self._prelude: dict[str, Any] | None = None
        self._data = bytearray()
        self._begun = False

    def add(self, piece: object) -> None:
        """Raises Fault."""
        if not self._begun and isinstance(piece, dict):
            self._prelude = piece
        else:
            self._data += _bytes(piece)
        self._begun = True
        if len(self._data) > frames.MAX_PAYLOAD:
            message = f"Response payload size exceeded maximum allowed payload size ({frames.MAX_PAYLOAD} bytes)."
            raise Fault("Function.ResponseSizeTooLarge", message)

    def answer(self) -> object:
        """Raises Fault."""
        try:
            body, is_base64 = self._data.decode(), False
        except UnicodeDecodeError as error:
            if self._prelude is None:
                message = "Unable to marshal response: what the handler yields is no text; invoke it with a stream"
                raise Fault("Runtime.MarshalError", message) from error
            body, is_base64 = base64.b64encode(self._data).decode(), True
        if self._prelude is None:
            return body
        return {**self._prelude, "body": body, "isBase64Encoded": is_base64}


def _bytes(piece: object) -> bytes | bytearray | memoryview:
    if isinstance(piece, (bytes, bytearray)):
        return piece
    if isinstance(piece, memoryview):
        return piece.tobytes()
    if isinstance(piece, str):
        try:
            return piece.encode()
        except UnicodeEncodeError as error:
            raise Fault("Runtime.MarshalError", f"Unable to marshal response: {error}") from None
    what = type(piece).__name__
    message = f"Unable to marshal response: a generator is expected to yield str or bytes, got {what}"
    raise Fault("Runtime.MarshalError", message)
