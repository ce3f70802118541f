"""Bytes between two connected sockets, both ways, until both have ended or one breaks.

Sockets instead of the loop's transports, because the bound has to be exact: both ends may be hostile. A way holds
64 KB at most, and only while the other side does not take them; until then it reads no more, and the sender is held
back by its own kernel. One call moves one chunk one way.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable

from eventfn.workers.share import Share

_CHUNK = 65_536
_chunk = memoryview(bytearray(_CHUNK))  # one for all: what is in it is sent or copied before anybody else reads
_LINGER_NOT = struct.pack("ii", 1, 0)


def reset(connection: socket.socket) -> None:
    """Closes it so that the other side sees an error, and no end."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    connection.close()


class Conduit:
    """Owns two non-blocking sockets. `ended` is called once, when both are closed, unless that was `close`'s doing."""

    def __init__(
        self, one: socket.socket, other: socket.socket, share: Share, ended: Callable[[Conduit], None]
    ) -> None:
        self._sockets = one, other
        self._ended = ended
        self._open_ways = 2
        self._ways = _Way(one, other, share, self), _Way(other, one, share, self)

    def close(self) -> None:
        """What the kernel has taken is still delivered, as when a process ends."""
        self._stop()
        for each in self._sockets:
            each.close()

    def way_ended(self) -> None:
        self._open_ways -= 1
        if self._open_ways == 0:
            self.close()
            self._ended(self)

    def broken(self) -> None:
        self._stop()
        for each in self._sockets:
            reset(each)
        self._ended(self)

    def _stop(self) -> None:
        for way in self._ways:
            way.stop()


class _Way:
    """What arrives at `source` goes to `sink`; its end does too, as the end of what is sent."""

    def __init__(self, source: socket.socket, sink: socket.socket, share: Share, conduit: Conduit) -> None:
        self._source = source
        self._sink = sink
        self._share = share
        self._conduit = conduit
        self._rest = memoryview(b"")  # what the sink has not taken yet
        share.on_readable(source.fileno(), self._arrived)

    def stop(self) -> None:
        self._share.on_readable(self._source.fileno(), None)
        self._share.on_writable(self._sink.fileno(), None)
        self._rest = memoryview(b"")

    def _arrived(self) -> None:
        try:
            size = self._source.recv_into(_chunk)
            if size == 0:
                self._share.on_readable(self._source.fileno(), None)
                self._sink.shutdown(socket.SHUT_WR)
                self._conduit.way_ended()
                return
            sent = self._send(_chunk[:size])
        except BlockingIOError:
            return
        except OSError:
            self._conduit.broken()
            return
        if sent < size:
            self._rest = memoryview(bytes(_chunk[sent:size]))
            self._share.on_readable(self._source.fileno(), None)
            self._share.on_writable(self._sink.fileno(), self._room)

    def _room(self) -> None:
        try:
            self._rest = self._rest[self._send(self._rest) :]
        except OSError:
            self._conduit.broken()
            return
        if not self._rest:
            self._share.on_writable(self._sink.fileno(), None)
            self._share.on_readable(self._source.fileno(), self._arrived)

    def _send(self, chunk: memoryview) -> int:
        try:
            return self._sink.send(chunk)
        except BlockingIOError:
            return 0
