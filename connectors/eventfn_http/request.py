"""One request on its way through a connection, and what is kept of it for those that say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from eventfn_http.head import Head
from eventfn_http.responses import Response

if TYPE_CHECKING:
    from eventfn_http.server import Route

_LONGEST_HEAD = 4096  # bytes: longer ones are not remembered
_MOST_HEADS = 1024


class Request(msgspec.Struct):
    """One request on its way: first its head, then what to do with it, then its body."""

    head: Head | None  # None: it could not be understood
    keep_alive: bool
    response: Response | None = None  # settled without a function: not found, not allowed, refused
    route: Route | None = None
    parameters: dict[str, str] = {}
    body: bytes | bytearray = b""
    streams: bool = False  # its answer's head is sent, and a body follows it in parts


class Known:
    """Heads that were parsed, judged and routed, by their bytes. Clients repeat their heads byte for byte, on one
    connection and on many, and what was found out once need not be again: two thirds of such a request's cost.

    For one table of routes: another one begins with nothing known."""

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        self._heads: dict[bytes, Request] = {}

    def request(self, data: bytes) -> Request | None:
        """`data` as a request, if it is exactly one, with a known head and a body of the length that this says."""
        end = data.find(b"\r\n\r\n") + 4
        model = self._heads.get(data[:end])
        if model is None:
            return None
        head = model.head
        assert head is not None
        if len(data) - end != head.length:
            return None
        return Request(head, True, model.response, model.route, model.parameters, data[end:])

    def remember(self, data: bytes, request: Request) -> bool:
        """`request` came as `data`, with nothing before or behind it. Whether that is certain by the head's length."""
        assert request.head is not None
        end = data.find(b"\r\n\r\n") + 4
        if end != len(data) - request.head.length or end > _LONGEST_HEAD:
            return False
        if len(self._heads) >= _MOST_HEADS:
            self._heads.clear()
        self._heads[data[:end]] = request
        return True


class Ended(Exception):
    """The connection's last answer is given; the client has pipelined more, and will send it again elsewhere."""


class Final(Exception):
    """The answer is known before the body has come, and the client waits with it."""

    def __init__(self, request: Request) -> None:
        self.request = request
