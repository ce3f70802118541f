"""Records that the Kinesis Producer Library has packed into one: taken apart again.

PURE. Source: "KPL Aggregated Record Format" in awslabs/amazon-kinesis-producer: four magic bytes, a protobuf message,
the MD5 digest of the message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST = 16  # bytes


class UserRecord(NamedTuple):
    """What a producer put in, before it was packed."""

    partition_key: str
    data: bytes


def unpacked(data: bytes) -> list[UserRecord] | None:
    """The records inside, or None: it is no aggregate. One that is damaged is none, and is handed on as it is."""
    if not data.startswith(MAGIC) or len(data) < len(MAGIC) + _DIGEST:
        return None
    message = data[len(MAGIC) : -_DIGEST]
    if hashlib.md5(message, usedforsecurity=False).digest() != data[-_DIGEST:]:
        return None
    try:
        return _aggregate(message)
    except (ValueError, IndexError):
        return None


def _aggregate(message: bytes) -> list[UserRecord]:
    partition_keys: list[str] = []
    packed: list[bytes] = []
    for number, value in _fields(message):
        if isinstance(value, bytes):
            if number == 1:
                partition_keys.append(value.decode())
            elif number == 3:
                packed.append(value)
    # The keys may stand behind the records that point to them.
    return [_user_record(record, partition_keys) for record in packed]


def _user_record(message: bytes, partition_keys: list[str]) -> UserRecord:
    partition_key = data = None
    for number, value in _fields(message):
        if isinstance(value, int):
            if number == 1:
                partition_key = partition_keys[value]
        elif number == 3:
            data = value
    if partition_key is None or data is None:
        raise ValueError("a record has a partition key and data")
    return UserRecord(partition_key, data)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of every field. Raises ValueError, IndexError when it is no protobuf message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        match key & 7:  # protobuf's wire types: a number, bytes behind their length, eight bytes, four bytes
            case 0:
                value, at = _varint(message, at)
                yield key >> 3, value
            case 2:
                length, at = _varint(message, at)
                if at + length > len(message):
                    raise ValueError("a field is longer than its message")
                yield key >> 3, message[at : at + length]
                at += length
            case 1:
                at += 8  # no field of ours
            case 5:
                at += 4
            case kind:
                raise ValueError(f"no field has the wire type {kind}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends)."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number has at most ten bytes")
