"""One request on its way through a connection, and what is kept of it in case the next one says the same."""

from __future__ import annotations

from eventfn_http.head import Head
from eventfn_http.responses import Response
from eventfn_http.routes import RouteTable
from eventfn_http.server import Route

_LONGEST_REPEAT = 4096  # a head over this many bytes is not remembered: idle connections should be small


class Request:
    """One request on its way: first its head, then what to do with it, then its body."""

    __slots__ = ("body", "head", "keep_alive", "parameters", "response", "route")

    def __init__(self, head: Head | None, keep_alive: bool, response: Response | None = None) -> None:
        self.head = head  # None: it could not be understood
        self.keep_alive = keep_alive
        self.response = response  # settled without a function: not found, not allowed, refused
        self.route: Route | None = None
        self.parameters: dict[str, str] = {}
        self.body: bytes | bytearray = b""


class Repeat:
    """A request that came in one piece. Clients that keep a connection often repeat their heads byte for byte, and what
    was parsed, judged and routed once need not be again: it saves two thirds of such a request's cost."""

    __slots__ = ("head", "request", "routes", "size")

    def __init__(self, data: bytes, request: Request, routes: RouteTable[Route]) -> None:
        assert request.head is not None
        self.size = len(data)
        self.head = data[: self.size - request.head.length]
        self.request = request
        self.routes = routes

    @property
    def whole(self) -> bool:
        """The data was exactly one request: a head to its empty line, and its body."""
        return self.head.find(b"\r\n\r\n") + 4 == len(self.head) <= _LONGEST_REPEAT

    def again(self, data: bytes) -> Request:
        """The same request with another body. The same object too, so only once the one before it is answered."""
        self.request.body = data[len(self.head) :]
        return self.request


class Ended(Exception):
    """The connection's last answer is given; the client has pipelined more, and will send it again elsewhere."""


class Final(Exception):
    """The answer is known before the body has come, and the client waits with it."""

    def __init__(self, request: Request) -> None:
        self.request = request
