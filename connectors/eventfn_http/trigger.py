"""The listener: what eventfn.toml says of it, and its life from bind to drain."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from eventfn.errors import ConnectorError
from eventfn.event import MAX_SYNC_REQUEST
from eventfn.trigger import FunctionUrl, ListenContext, Mounted, Traits
from eventfn.units import Between, Bytes, Duration
from eventfn_http import access
from eventfn_http.access import Address, Auth, Tokens
from eventfn_http.events import RouteText
from eventfn_http.protocol import Connection
from eventfn_http.routes import BadPath, Pattern, RouteTable
from eventfn_http.server import Limits, Route, Server
from eventfn_http.urls import UrlTable

Method = Literal["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "ANY"]
InvokeMode = Literal["BUFFERED", "RESPONSE_STREAM"]
Timeout = Annotated[Duration, Between(1, 3600)]

_BACKLOG = 4096  # connections that the kernel keeps for us in a burst; it caps this at net.core.somaxconn


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[[functions.NAME.triggers]] with type = "http"."""

    path: str
    method: Method | list[Method] = "ANY"
    asynchronous: bool = msgspec.field(name="async", default=False)
    auth: Auth | None = None
    invoke_mode: InvokeMode = "BUFFERED"

    def __post_init__(self) -> None:
        if self.asynchronous and self.invoke_mode == "RESPONSE_STREAM":
            raise ValueError('invoke_mode: "RESPONSE_STREAM" needs a caller who waits, and async = true has none')

    @property
    def methods(self) -> list[str]:
        return list(self.method) if isinstance(self.method, list) else [self.method]


class HttpShared(msgspec.Struct, frozen=True, kw_only=True):
    """[http]"""

    listen: str = "127.0.0.1:8080"
    tokens: list[str] = []
    max_body: Annotated[Bytes, Between(0, 1024**3)] = Bytes(MAX_SYNC_REQUEST)
    max_request_line: Annotated[Bytes, Between(64, 1024**2)] = Bytes(8 * 1024)
    max_header_bytes: Annotated[Bytes, Between(64, 1024**2)] = Bytes(32 * 1024)
    max_connections: Annotated[int, Between(1, 1_000_000)] = 16_384
    header_timeout: Timeout = Duration(10)
    body_timeout: Timeout = Duration(60)
    write_timeout: Timeout = Duration(60)
    keep_alive_timeout: Timeout = Duration(75)

    def __post_init__(self) -> None:
        try:
            Address.parse(self.listen)
        except ValueError as error:
            raise ValueError(f"listen: {error}") from None
        if not all(token and token == token.strip() and token.isprintable() for token in self.tokens):
            raise ValueError("tokens: each is expected to be text without spaces around it, got an empty or padded one")


class HttpTrigger:
    """Functions answer HTTP requests: one listener for all their routes."""

    Settings: ClassVar[type[msgspec.Struct]] = HttpSettings
    Shared: ClassVar[type[msgspec.Struct] | None] = HttpShared
    traits: ClassVar[Traits] = Traits(invocation="listen", ack="none", replayable=False)

    def __init__(self, shared: HttpShared, context: ListenContext) -> None:
        self._shared = shared
        self._context = context
        self._address = Address.parse(shared.listen)
        limits = Limits(**{name: getattr(shared, name) for name in Limits.__struct_fields__})
        self.server = Server(limits, Tokens(shared.tokens), context.clock, context.log)
        self._listening: asyncio.Server | None = None
        self._sweep: asyncio.Task[None] | None = None

    def check(self, mounted: Sequence[Any]) -> list[tuple[int, str, str]]:
        """(index, key, message) for each mistake in the settings of all routes together. No I/O."""
        problems: list[tuple[int, str, str]] = []
        table: RouteTable[int] = RouteTable()
        for index, settings in enumerate(mounted):
            try:
                pattern = Pattern(settings.path)
            except BadPath as error:
                problems.append((index, "path", str(error)))
                continue
            if not settings.methods:
                problems.append((index, "method", 'expected at least one method, or "ANY"'))
            for method in settings.methods:
                if (other := table.add(method, pattern, index)) is not None:
                    taken = mounted[other].path
                    problems.append(
                        (index, "path", f"{method} {settings.path} is taken: another route has {method} {taken}")
                    )
            if problem := access.mistake(settings.auth, self._shared.tokens, self._address):
                problems.append((index, "auth", problem))
        return problems

    def mount(self, mounted: Sequence[Mounted]) -> None:
        """Replaces all routes at once; requests whose head was read finish on the old ones."""
        table: RouteTable[Route] = RouteTable()
        for each in mounted:
            settings: HttpSettings = each.settings
            pattern = Pattern(settings.path)
            auth = access.required(settings.auth, self._shared.tokens, self._address.loopback)
            account = "anonymous" if auth == "none" else self._context.account
            for method in settings.methods:
                key = f"{method} {settings.path}"
                route = Route(
                    key,
                    RouteText(key, account),
                    each.caller,
                    guarded=auth == "token",
                    buffered=settings.invoke_mode == "BUFFERED" and not settings.asynchronous,
                    durable=settings.asynchronous,
                )
                table.add(method, pattern, route)
        self.server.mount(table)

    def mount_urls(self, urls: Sequence[FunctionUrl]) -> None:
        """Replaces all function URLs at once."""
        self.server.mount_urls(UrlTable(urls))

    async def open(self) -> str:
        """Binds and serves; the address with its real port. Raises ConnectorError."""
        address = self._address
        loop = asyncio.get_running_loop()
        try:
            # Bound here, since asyncio tells the reason of a bind that failed in some versions only.
            bound = socket.create_server(
                (address.host, address.port),
                family=socket.AF_INET6 if ":" in address.host else socket.AF_INET,
                backlog=_BACKLOG,
            )
        except OSError as error:
            raise ConnectorError(f"http: {_cannot_listen(address, error)}") from error
        self._listening = await loop.create_server(lambda: Connection(self.server), sock=bound, backlog=_BACKLOG)
        self._sweep = asyncio.create_task(self.server.sweep(), name="http sweep")
        return str(Address(address.host, self._listening.sockets[0].getsockname()[1]))

    async def drain(self, deadline: float) -> None:
        if self._listening is not None:
            self._listening.close()
        await self.server.drain(deadline)

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        await self.server.close()
        if self._sweep is not None:
            self._sweep.cancel()
            await asyncio.wait([self._sweep])
            self._sweep = None


def _cannot_listen(address: Address, error: OSError) -> str:
    """What happened, and what to do about it."""
    elsewhere = "choose another address with listen in [http]"
    if error.errno == errno.EADDRINUSE:
        return f"{address} is in use by another process: stop that one, or {elsewhere}"
    if error.errno == errno.EACCES:
        return f"{address} needs a permission to listen on ports below 1024: grant it, or {elsewhere}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{address.host} is not an address of this machine: {elsewhere}"
    return f"cannot listen on {address}: {os.strerror(error.errno or 0)}: {elsewhere}"
