"""Friendly values in settings: "6h", "512 MB", a date. Numbers mean Lambda's units: seconds and megabytes.

PURE. What belongs here: the types that a Settings struct of the core or of a connector is annotated with, and how
their text is read, and shown. `Annotated[Duration, Between(1, 900)]` adds bounds; a `DestinationUri` is text that names
a sink.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"b": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(b|kb|mb|gb)\s*", re.IGNORECASE)


# The NAME of a table such as [kafka.clusters.NAME]: one of several servers of the same kind.
TableName = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_-]+$")]


class Duration(float):
    """A length of time in seconds: 10, "10s", "1.5m", "6h", "1h30m"."""

    expected = 'a duration such as "10s", "5m" or "6h" (a bare number is seconds)'

    @classmethod
    def parse(cls, value: Any) -> Duration:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
            return cls(value)
        if isinstance(value, str) and value.strip():
            total, at = 0.0, 0
            while at < len(value) and (part := _DURATION.match(value, at)):
                total, at = total + float(part[1]) * _SECONDS[part[2]], part.end()
            if at == len(value):
                return cls(total)
        raise ValueError(cls.expected)


class Instant(float):
    """A moment, in seconds since the epoch: 1767225600, 2026-01-01T00:00:00Z (a date of TOML, or text)."""

    expected = "a moment such as 2026-01-31T12:00:00Z, with its time zone (a bare number is seconds since 1970)"

    @classmethod
    def parse(cls, value: Any) -> Instant:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
            return cls(value)
        if isinstance(value, str):
            try:
                value = datetime.datetime.fromisoformat(value)
            except ValueError:
                raise ValueError(cls.expected) from None
        if isinstance(value, datetime.datetime) and value.tzinfo is not None and value.timestamp() >= 0:
            return cls(value.timestamp())
        raise ValueError(cls.expected)


class Megabytes(int):
    """A size in whole megabytes: 256, "256 MB", "1 GB"."""

    expected = 'a size such as "512 MB" or "1 GB" (a bare number is MB)'

    @classmethod
    def parse(cls, value: Any) -> Megabytes:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return cls(value)
        size = _bytes(value, cls.expected)
        if size % _BYTES["mb"]:
            raise ValueError(f"{cls.expected}, in whole megabytes")
        return cls(size // _BYTES["mb"])


class Bytes(int):
    """A size in bytes: 65536, "64 KB", "6 MB"."""

    expected = 'a size such as "64 KB" or "6 MB" (a bare number is bytes)'

    @classmethod
    def parse(cls, value: Any) -> Bytes:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return cls(value)
        return cls(_bytes(value, cls.expected))


def _bytes(value: Any, expected: str) -> int:
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(expected)
    size = float(found[1]) * _BYTES[found[2].lower()]
    if size != int(size):
        raise ValueError(f"{expected}, in whole bytes")
    return int(size)


class Between(msgspec.Struct, frozen=True):
    """Bounds for a number, a Duration or a size, both included, in that type's unit."""

    low: float
    high: float


class NamesDestination(msgspec.Struct, frozen=True):
    """Says of a text that it is the URI of a destination: the host checks it when the declaration is loaded."""


DestinationUri = Annotated[str, NamesDestination()]  # "queue:orders", "fn:NAME", "https://..."


def without_secrets(url: str) -> str:
    """A URL as `status` and logs may show it: with "***" for its password and for all values of its query, since
    tokens are among them. What is no URL, such as "queue:orders", stays as it is."""
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    login, at, host = parts.netloc.rpartition("@")
    name, colon, _ = login.partition(":")
    netloc = f"{name}{':***' if colon else ''}{at}{host}"
    pairs = (pair.partition("=") for pair in parts.query.split("&") if pair)
    query = "&".join(f"{key}=***" if equals else "***" for key, equals, _ in pairs)
    return urlunsplit(parts._replace(netloc=netloc, query=query))


def recognisable(url: str) -> str:
    """`without_secrets`, and two that differ in what is not shown still differ."""
    shown = without_secrets(url)
    return url if shown == url else f"{shown}#{hashlib.sha256(url.encode()).hexdigest()[:12]}"
