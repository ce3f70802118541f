"""How eventfn.toml names a table or one of its streams.

PURE.
"""

from __future__ import annotations

import re

_TABLE = re.compile(r"(?:arn:aws[a-z-]*:dynamodb:(?P<region>[a-z0-9-]+):\d{12}:table/)?(?P<name>[A-Za-z0-9_.-]{3,255})")
_STREAM = re.compile(
    r"arn:aws[a-z-]*:dynamodb:(?P<region>[a-z0-9-]+):\d{12}:table/(?P<name>[A-Za-z0-9_.-]{3,255})/stream/(?P<label>[^/]+)"
)


def is_table(text: str) -> bool:
    return _TABLE.fullmatch(text) is not None


def is_stream(text: str) -> bool:
    return _STREAM.fullmatch(text) is not None


def region_of(text: str) -> str | None:
    """If it is an ARN."""
    found = _STREAM.fullmatch(text) or _TABLE.fullmatch(text)
    return found["region"] if found else None


def table_name(text: str) -> str:
    found = _STREAM.fullmatch(text) or _TABLE.fullmatch(text)
    assert found is not None, "checked with the settings"
    return found["name"]


def label(stream_arn: str) -> str:
    """When it was switched on: later streams of a table have greater ones."""
    return stream_arn.rpartition("/")[2]
