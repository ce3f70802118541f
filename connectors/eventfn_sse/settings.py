"""What eventfn.toml says of an event stream. What is secret stands in [sse], by host, and is not shown in `status`.

PURE.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from eventfn.units import Between, Duration

_EXPECTED = 'expected a URL such as "https://example.com/events"'


class SseSettings(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    idle_timeout: Annotated[Duration, Between(1, 86_400)] | None = None  # None: only a connection that is lost is lost

    def __post_init__(self) -> None:
        try:
            url = urlsplit(self.url)
            host, _ = url.hostname, url.port  # the port is parsed only now
        except ValueError as error:
            raise ValueError(f"url: {_EXPECTED}: {error}") from None
        if url.scheme not in ("http", "https") or not host or not self.url.isprintable() or " " in self.url:
            raise ValueError(f"url: {_EXPECTED}")
        if url.username is not None or url.password is not None:
            raise ValueError(f'url: {_EXPECTED} without a name and a password: put them into [sse.hosts."{host}"]')
        if url.fragment:
            raise ValueError(f"url: {_EXPECTED} without a fragment: none is ever sent")

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""


class HostSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[sse.hosts."example.com"]: what this host alone is told."""

    headers: dict[str, str] = {}
    query: dict[str, str] = {}  # added to the URL

    def __post_init__(self) -> None:
        for name, value in self.headers.items():
            if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"headers: {name!r} is no name of a header")
            if not value.isprintable():
                raise ValueError(f"headers: the value of {name} has characters that no header can have")


class SseShared(msgspec.Struct, frozen=True, kw_only=True):
    hosts: dict[str, HostSettings] = {}
