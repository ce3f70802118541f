"""What comes on the channel of an environment that runs one request after the other, frame by frame, blocking."""

from __future__ import annotations

import os
import select
import time

from eventfn.workers.child import frames
from eventfn.workers.child.gate import Gate

_A_LOOK = 0.002  # seconds


class Inbox:
    """The supervisor is trusted: no bounds here."""

    def __init__(self, channel: int, gate: Gate | None = None) -> None:
        self._channel = channel
        self._gate = gate
        self._rest = b""  # what came with the frame before
        self._flag = 0  # of the latest frame
        self._poll: select.poll | None = None
        self._looked = 0.0

    def next_request(self) -> frames.Frame | None:
        """The next one to begin. What still comes of an answer that has ended is nobody's, what was taken back is
        somebody else's."""
        gate = self._gate
        while (frame := self.next()) is not None:
            if frame[0] > frames.STREAM:
                continue
            if gate is not None:
                if self._flag == frames.OPEN:
                    gate.open()
                elif not gate.passes(ahead=self._flag == frames.AHEAD):
                    continue
            return frame
        return None

    def next(self) -> frames.Frame | None:
        """Waits for it; None at the end of the channel. Small frames take one system call, or none."""
        data, self._rest = self._rest, b""
        while len(data) < frames.SIZE:
            more = os.read(self._channel, frames.READ)
            if not more:
                return None
            data = data + more if data else more
        kind, self._flag, number, amount, _, header_size, payload_size, body_size = frames.PREFIX.unpack_from(data)
        middle = frames.SIZE + header_size
        end = middle + payload_size
        size = end + body_size
        if len(data) >= size:
            self._rest = data[size:]
            return kind, number, amount, data[frames.SIZE : middle].decode(), data[middle:end], data[end:size].decode()
        whole = bytearray(size)
        whole[: len(data)] = data
        with memoryview(whole) as view:
            at = len(data)
            while at < size:
                got = os.readv(self._channel, [view[at:]])
                if not got:
                    return None
                at += got
        return frames.cut(whole)[0]

    def has_more(self) -> bool:
        """At most every few milliseconds it is looked for: many small pieces are not worth a system call each."""
        if self._rest:
            return True
        now = time.monotonic()
        if now - self._looked < _A_LOOK:
            return False
        self._looked = now
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._channel, select.POLLIN)
        return bool(self._poll.poll(0))
