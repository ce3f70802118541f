"""What a function prints: bytes of a pipe cut into lines, with bounds on everything.

A turn of the loop reads a page of it, so a function that floods its log is slowed down by its own full pipe and nobody
waits for it long; a line longer than 256 KB is cut, as in CloudWatch. Thousands of tiny lines at once are a flood too:
each of them costs as much as a long one, so there some become one event.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable

MAX_LINE = 262_144
_PIPE = 65_536  # what a pipe holds
_PAGE = 4096  # bytes of it that are read in one turn of the loop
# Events of one read: so many always, 1.5 ms of the loop's time, and more only as its lines have so many bytes each.
_EVENTS, _BYTES_EACH = 256, 48


class LogPipe:
    def __init__(
        self, descriptor: int, write: Callable[[str], None], arrived: Callable[[], None] | None = None
    ) -> None:
        """`arrived` is called when something is in the pipe; without it, it is written at once."""
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._write = write
        self.rest = b""  # what was printed without a line end, until now
        self._arrived = select.poll()
        self._arrived.register(descriptor, select.POLLIN)
        self._loop = asyncio.get_running_loop()
        self._on_arrival = arrived or self.drain_some
        self._follows = False

    def follow(self) -> None:
        """From now on what arrives is written as it comes."""
        if not self._follows and self._descriptor >= 0:
            self._follows = True
            self._loop.add_reader(self._descriptor, self._on_arrival)

    def drain(self, most: int = _PIPE) -> None:
        """Writes the lines that are in the pipe now, `most` bytes of it. Called before an answer is passed on, so they
        come first."""
        # Mostly there is nothing: asking costs a third of a read that raises.
        if self._descriptor < 0 or not self._arrived.poll(0):
            return
        try:
            data = os.read(self._descriptor, most)
        except BlockingIOError:
            return
        if not data:
            self._end()
            return
        lines = (self.rest + data).split(b"\n") if self.rest else data.split(b"\n")
        rest = lines.pop()
        if len(lines) > _EVENTS:
            lines = _folded(lines, max(_EVENTS, len(data) // _BYTES_EACH))
        for line in lines:
            self._line(line)
        while len(rest) >= MAX_LINE:
            self._line(rest[:MAX_LINE])
            rest = rest[MAX_LINE:]
        self.rest = rest

    def drain_some(self) -> None:
        """`drain`, but no more than there is time for in one turn of the loop."""
        self.drain(_PAGE)

    def finish_line(self) -> None:
        """What was printed without a line end is an event too, once its request is over."""
        if self.rest:
            rest, self.rest = self.rest, b""
            self._line(rest)

    def pause(self) -> None:
        """It is not known whose lines these are: they stay in the pipe until `follow`, or `drain`."""
        if self._follows and self._descriptor >= 0:
            self._follows = False
            self._loop.remove_reader(self._descriptor)

    def close(self) -> None:
        """The processes are gone: what they left in the pipe is written."""
        self.drain()
        self.finish_line()
        self._end()

    def _line(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace")
        for at in range(0, len(text), MAX_LINE) if len(text) > MAX_LINE else (0,):
            part = text[at : at + MAX_LINE]
            # A carriage return joins lines of one event (child/logs.py).
            self._write(part.rstrip("\r").replace("\r", "\n") if "\r" in part else part)

    def _end(self) -> None:
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


def _folded(lines: list[bytes], events: int) -> list[bytes]:
    """At most so many: some in a row are one event, whose lines they then are."""
    lines = [line for line in lines if line]  # an empty one is no event
    together = -(-len(lines) // events)
    if together < 2:
        return lines
    return [b"\r".join(lines[at : at + together]) for at in range(0, len(lines), together)]
