"""The keys of eventfn.toml that say which NATS, which stream, and what is done with its messages.

PURE.
"""

from __future__ import annotations

import datetime
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from eventfn.units import Between, Duration, TableName

_NAME = re.compile(r"[^\s.*>/\\]+")  # of a stream, and of a consumer
_TOKEN = re.compile(r"[^\s.*>]+")


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Which NATS, and who we are there. It stands in a table of its own since it holds secrets."""

    servers: tuple[str, ...] = ("nats://127.0.0.1:4222",)  # of one cluster; tls:// is TLS
    user: str | None = None
    password: str | None = None
    token: str | None = None
    credentials_file: str | None = None  # .creds: a user's JWT and its seed
    nkey_seed_file: str | None = None
    ca_file: str | None = None  # TLS: whom to believe; None: the machine's authorities
    certificate_file: str | None = None  # TLS: who we are
    key_file: str | None = None

    def __post_init__(self) -> None:
        if not self.servers:
            raise ValueError("servers: expected at least one")
        for server in self.servers:
            problem = _wrong_url(server)
            if problem is not None:
                raise ValueError(f"servers: {problem}")
        ways = ("user", "token", "credentials_file", "nkey_seed_file")
        given = [way for way in ways if getattr(self, way) is not None]
        if len(given) > 1:
            raise ValueError(f"{given[1]}: there is a {given[0]} too; one way to log in is enough")
        if (self.user is None) != (self.password is None):
            raise ValueError("user: a user and its password go together")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file: a certificate and its key_file go together")

    @property
    def tls(self) -> bool:
        return bool(self.ca_file or self.certificate_file) or any(url.startswith("tls:") for url in self.servers)

    @property
    def name(self) -> str:
        """For messages."""
        return f"nats at {', '.join(self.servers)}"


class Clusters(Server, frozen=True, kw_only=True):
    """[nats] for triggers, [destinations.nats] for destinations: the cluster that is meant where none is named, and
    named ones in [nats.clusters.NAME]."""

    clusters: dict[TableName, Server] = {}

    def named(self, name: str | None) -> Server | None:
        """None when there is no cluster of that name."""
        return self if name is None else self.clusters.get(name)


def _wrong_url(text: str) -> str | None:
    expected = 'expected "nats://HOST:PORT", or "tls://..."'
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError as error:
        return f"{expected}: {error}"
    if url.username is not None or url.password is not None:
        return "put who eventfn is into the keys `user` and `password`, or `token`: urls end up in logs"
    if url.scheme not in ("nats", "tls") or not url.hostname or url.path.strip("/") or url.query or url.fragment:
        return expected
    return None


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One trigger: what is read, and what becomes of what fails."""

    stream: str
    cluster: str | None = None  # of [nats.clusters.NAME]; None: [nats] itself
    subject: str | None = None  # only these; wildcards are allowed. None: all of the stream
    consumer: str | None = None  # the durable consumer; None: the function's name. Made when there is none
    starting_position: Literal["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"] = "TRIM_HORIZON"  # of one that has to be made
    starting_position_timestamp: datetime.datetime | None = None
    visibility_timeout: Annotated[Duration, Between(1, 43_200)] = Duration(30)  # JetStream's AckWait
    max_receive_count: Annotated[int, Between(1, 1000)] | None = None
    dead_letter_subject: str | None = None  # None: what is rejected goes to eventfn's queue "dead-letters"

    def __post_init__(self) -> None:
        for key, name in (("stream", self.stream), ("consumer", self.consumer)):
            if name is not None and not _NAME.fullmatch(name):
                raise ValueError(f"{key}: expected a name without spaces and none of . * > / \\")
        if self.subject is not None and not _is_subject(self.subject, wildcards=True):
            raise ValueError('subject: expected a subject such as "orders.new" or "orders.>"')
        if self.max_receive_count is not None and self.dead_letter_subject is None:
            raise ValueError("max_receive_count: name a dead_letter_subject too, for what was received too often")
        if self.dead_letter_subject is not None and not is_subject(self.dead_letter_subject):
            raise ValueError('dead_letter_subject: expected a subject such as "orders.dead", without wildcards')
        if (self.starting_position == "AT_TIMESTAMP") != (self.starting_position_timestamp is not None):
            raise ValueError("starting_position_timestamp: it goes with AT_TIMESTAMP, and only with it")
        if self.starting_position_timestamp is not None and self.starting_position_timestamp.tzinfo is None:
            raise ValueError("starting_position_timestamp: expected its zone too, such as 2026-01-31T12:00:00Z")


def is_subject(text: str) -> bool:
    """Whether something can be published to it."""
    return _is_subject(text, wildcards=False)


def _is_subject(text: str, *, wildcards: bool) -> bool:
    parts = text.split(".")
    if wildcards and parts[-1] == ">":
        parts.pop()
    return all(_TOKEN.fullmatch(part) or (wildcards and part == "*") for part in parts)
