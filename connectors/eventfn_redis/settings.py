"""The keys of eventfn.toml that say which Redis, which stream, and what is done with its entries.

PURE.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from eventfn.units import Between, Duration, TableName

_PORT = 6379
_LAST_OF_A_MS = 2**64 - 1


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Which Redis, and who we are there. It stands in a table of its own since it holds secrets."""

    url: str = "redis://127.0.0.1:6379/0"  # rediss:// is TLS
    username: str | None = None  # an ACL user; None: "default"
    password: str | None = None
    ca_file: str | None = None  # TLS: whom to believe; None: the machine's authorities
    certificate_file: str | None = None  # TLS: who we are
    key_file: str | None = None

    def __post_init__(self) -> None:
        expected = 'url: expected "redis://HOST:PORT/DATABASE", or "rediss://..." for TLS'
        try:
            url = urlsplit(self.url)
            _ = url.port
        except ValueError as error:
            raise ValueError(f"{expected}: {error}") from None
        database = url.path.removeprefix("/")
        if url.scheme not in ("redis", "rediss") or not url.hostname or not (database.isdecimal() or not database):
            raise ValueError(expected)
        if url.username is not None or url.password is not None:
            raise ValueError("url: put name and password into the keys `username` and `password`: urls end up in logs")
        if url.query or url.fragment:
            raise ValueError(f"{expected}, and nothing after it")
        if not self.tls and (self.ca_file or self.certificate_file or self.key_file):
            raise ValueError('url: files for TLS are of no use without "rediss://"')
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file: a certificate and its key_file go together")

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or _PORT

    @property
    def database(self) -> int:
        return int(urlsplit(self.url).path.removeprefix("/") or 0)

    @property
    def tls(self) -> bool:
        return self.url.startswith("rediss:")


class Servers(Server, frozen=True, kw_only=True):
    """[redis]: the server that is meant where none is named, and named ones in [redis.servers.NAME]."""

    servers: dict[TableName, Server] = {}

    def named(self, name: str | None) -> Server | None:
        """None when there is no server of that name."""
        return self if name is None else self.servers.get(name)


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One trigger: what is read, and what becomes of what fails."""

    stream: str
    server: str | None = None  # of [redis.servers.NAME]; None: [redis] itself
    group: str | None = None  # the consumer group; None: the function's name. Made when there is none
    starting_position: Literal["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"] = "TRIM_HORIZON"  # of one that has to be made
    starting_position_timestamp: datetime.datetime | None = None
    visibility_timeout: Annotated[Duration, Between(1, 43_200)] = Duration(30)
    body_field: str = "body"  # the field whose value is the record's "body"
    max_receive_count: Annotated[int, Between(1, 1000)] | None = None
    dead_letter_stream: str | None = None  # None: what is rejected goes to eventfn's queue "dead-letters"
    delete_after_ack: bool = False  # right only where no other group reads the stream

    def __post_init__(self) -> None:
        for key in ("stream", "group", "body_field"):
            if getattr(self, key) == "":
                raise ValueError(f"{key}: expected a name")
        if self.max_receive_count is not None and self.dead_letter_stream is None:
            raise ValueError("max_receive_count: name a dead_letter_stream too, for what was received too often")
        if self.dead_letter_stream is not None and self.dead_letter_stream in ("", self.stream):
            raise ValueError("dead_letter_stream: expected the name of another stream")
        if (self.starting_position == "AT_TIMESTAMP") != (self.starting_position_timestamp is not None):
            raise ValueError("starting_position_timestamp: it goes with AT_TIMESTAMP, and only with it")
        if self.starting_position_timestamp is not None and self.starting_position_timestamp.tzinfo is None:
            raise ValueError("starting_position_timestamp: expected its zone too, such as 2026-01-31T12:00:00Z")

    @property
    def start(self) -> str:
        """The last entry that a new group is not to see."""
        if self.starting_position == "LATEST":
            return "$"
        if self.starting_position_timestamp is None:
            return "0"
        return f"{round(self.starting_position_timestamp.timestamp() * 1000) - 1}-{_LAST_OF_A_MS}"


class Sink(Server, frozen=True, kw_only=True):
    """A server, and how its streams are written."""

    maximum_length: Annotated[int, Between(1, 10**12)] | None = None  # about so many entries are kept; None: all
    dedupe_window: Annotated[Duration, Between(1, 86_400)] = Duration(300)


class Sinks(Sink, frozen=True, kw_only=True):
    """[destinations.redis]: the server that is meant where none is named, and [destinations.redis.servers.NAME]."""

    servers: dict[TableName, Sink] = {}

    def named(self, name: str | None) -> Sink | None:
        """None when there is no server of that name."""
        return self if name is None else self.servers.get(name)
