"""Aggregates as producers make them: the Kinesis Producer Library's format, written by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

MAGIC = b"\xf3\x89\x9a\xc2"


def aggregate(records: Sequence[tuple[str, bytes]], *, hash_key: str | None = None, tags: bool = False) -> bytes:
    """The bytes of one Kinesis record that holds these (partition key, data)."""
    keys = list(dict.fromkeys(key for key, _ in records))
    message = b"".join(field(1, key.encode()) for key in keys)
    if hash_key is not None:
        message += field(2, hash_key.encode())
    for key, data in records:
        record = number(1, keys.index(key))
        if hash_key is not None:
            record += number(2, 0)
        record += field(3, data)
        if tags:
            record += field(4, field(1, b"tag") + field(2, b"value"))
        message += field(3, record)
    return sealed(message)


def sealed(message: bytes) -> bytes:
    return MAGIC + message + hashlib.md5(message).digest()


def field(at: int, value: bytes) -> bytes:
    return varint(at << 3 | 2) + varint(len(value)) + value


def number(at: int, value: int) -> bytes:
    return varint(at << 3) + varint(value)


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
