"""One streamed answer on its way from an environment to whoever takes it: counted, held back, stopped.

The environment may send as much as it was given room for, and is trusted with none of it (child/frames.py). Room comes
back in halves of the window, since every frame back costs as much as a chunk.
"""

from __future__ import annotations

from collections.abc import Callable

from eventfn.event import ResponseStream
from eventfn.workers import wire
from eventfn.workers.child import frames

_GIVE_BACK = frames.WINDOW // 2


class Flow:
    def __init__(self, number: int, stream: ResponseStream, say: Callable[[bytes], None]) -> None:
        """`say` sends a frame to the environment, as long as this request is under way there."""
        self._number = number
        self._stream = stream
        self._say = say
        self._begun = False
        self._on_its_way = 0  # of the window
        self._taken = 0  # of that: by the stream
        self._sent = 0  # payload in all
        self._told = False  # that nobody takes it any more
        stream.on_room(self._look)

    def arrived(self, chunk: wire.Answer) -> None:
        """Raises ProtocolError, ResponseTooLarge."""
        size = len(chunk.payload)
        self._on_its_way += frames.CHUNK_COST + size
        if self._on_its_way > frames.WINDOW or size > frames.MAX_CHUNK or chunk.body:
            raise wire.ProtocolError("more of a streamed answer than there is room for")
        self._sent += size
        if self._sent > frames.MAX_STREAMED:
            raise wire.ResponseTooLarge(f"more than {frames.MAX_STREAMED} bytes were streamed")
        stream = self._stream
        if not self._begun:
            self._begun = True
            stream.begin(chunk.header or None)
        if size:
            stream.write(chunk.payload)
        self._taken += frames.CHUNK_COST + size
        self._look()

    def _look(self) -> None:
        if self._stream.gone:
            if self._begun and not self._told:
                self._told = True
                self._say(wire.gone(self._number))
        elif self._taken >= _GIVE_BACK and not self._stream.full:
            taken, self._taken = self._taken, 0
            self._on_its_way -= taken
            self._say(wire.room(self._number, taken))
