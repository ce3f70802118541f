"""One request, timed: a socket and nothing else, so that what is measured is not the cost of a client."""

from __future__ import annotations

import math
import re
import socket
import time
from collections.abc import Sequence

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class Connection:
    """To "host:port", for one request after the other."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._address = address
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, path: str) -> float:
        """Milliseconds from the request to the whole answer. Raises RuntimeError when that is not a 200."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._address}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
        )
        request = f"{head}\r\n{{}}".encode()
        began = time.perf_counter()
        self._socket.sendall(request)
        answer = b""
        while not _whole(answer):
            if not (received := self._socket.recv(65536)):
                raise RuntimeError(f"{path}: the connection was closed after {answer!r}")
            answer += received
        milliseconds = (time.perf_counter() - began) * 1000
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"{path} answered {answer!r}")
        return milliseconds

    def close(self) -> None:
        self._socket.close()


def _whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = _LENGTH.search(head + b"\r\n")
    return bool(end) and length is not None and len(body) >= int(length[1])


def p99(figures: Sequence[float]) -> float:
    """By nearest rank: of a hundred, the second worst."""
    return sorted(figures)[math.ceil(len(figures) * 0.99) - 1]
