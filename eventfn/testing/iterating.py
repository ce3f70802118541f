"""Generators of handlers that run in the test's own process: one step after the other, to a stream or into one answer.

The pieces and their limits are those of an environment (workers/child/streaming.py); a `def` handler's steps run in
threads, so that one that blocks does not block the test's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from eventfn.event import ResponseStream
from eventfn.workers.child import frames
from eventfn.workers.child.streaming import Encode, Flow, Joined, Pieces, closed

_END = object()


class Exited(Exception):
    """The handler called sys.exit."""

    def __init__(self, error: SystemExit) -> None:
        self.code = error.code if isinstance(error.code, int) else int(error.code is not None)


async def answer(pieces: Pieces, encode: Encode, stream: ResponseStream | None) -> bytes:
    """What is left to answer. Raises Fault, Exited, and what the handler raises."""
    steps = _steps(pieces)
    try:
        if stream is not None:
            await _send(steps, encode, stream)
            return b""
        joined = Joined()
        async for piece in steps:
            joined.add(piece)
        return encode(joined.answer())
    finally:
        # One that ran out of time in the middle of a step goes on in its thread, and cannot be closed.
        with contextlib.suppress(ValueError):
            await closed(pieces)


async def _send(steps: AsyncIterator[object], encode: Encode, stream: ResponseStream) -> None:
    changed = asyncio.Event()
    stream.on_room(changed.set)
    flow, begun = Flow(0, encode), False
    async for piece in steps:
        data = flow.take(piece)
        if not begun:
            begun = True
            stream.begin(flow.content_type)
        for at in range(0, len(data), frames.MAX_CHUNK):
            stream.write(bytes(data[at : at + frames.MAX_CHUNK]))
            while stream.full and not stream.gone:
                changed.clear()
                await changed.wait()
        if stream.gone:
            return


async def _steps(pieces: Pieces) -> AsyncIterator[object]:
    try:
        if isinstance(pieces, AsyncIterator):
            async for piece in pieces:
                yield piece
            return
        while (piece := await asyncio.to_thread(next, pieces, _END)) is not _END:
            yield piece
    except SystemExit as error:  # which would end the loop
        raise Exited(error) from None
