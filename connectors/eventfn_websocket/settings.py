"""What eventfn.toml says of a WebSocket. What is secret stands in [websocket], by host, and is not shown in `status`.

PURE.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

import msgspec

from eventfn.units import Between, Duration, without_secrets

_EXPECTED = 'expected a URL such as "wss://example.com/feed"'


class WebsocketSettings(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    subscribe: tuple[str | dict[str, Any], ...] = ()  # sent after connecting, in this order; a table is sent as JSON
    subprotocols: tuple[str, ...] = ()
    ping_interval: Annotated[Duration, Between(1, 3600)] = Duration(20)

    def __post_init__(self) -> None:
        try:
            url = urlsplit(self.url)
            host, _ = url.hostname, url.port  # the port is parsed only now
        except ValueError as error:
            raise ValueError(f"url: {_EXPECTED}: {error}") from None
        if url.scheme not in ("ws", "wss") or not host or not self.url.isprintable() or " " in self.url:
            raise ValueError(f"url: {_EXPECTED}")
        if url.username is not None or url.password is not None:
            raise ValueError(
                f'url: {_EXPECTED} without a name and a password: put them into [websocket.hosts."{host}"]'
            )
        if url.fragment:
            raise ValueError(f"url: {_EXPECTED} without a fragment: none is ever sent")

    @property
    def split(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def shown(self) -> str:
        return without_secrets(self.url)


class HostSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[websocket.hosts."example.com"]: what this host alone is told."""

    headers: dict[str, str] = {}  # of the request that opens the connection
    query: dict[str, str] = {}  # added to the URL
    messages: tuple[str, ...] = ()  # sent first, before `subscribe`

    def __post_init__(self) -> None:
        for name, value in self.headers.items():
            if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"headers: {name!r} is no name of a header")
            if not value.isprintable():
                raise ValueError(f"headers: the value of {name} has characters that no header can have")


class WebsocketShared(msgspec.Struct, frozen=True, kw_only=True):
    hosts: dict[str, HostSettings] = {}
