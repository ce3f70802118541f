"""A message of a stream in the shape in which a function sees it, near SQS's.

PURE.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


class Delivery(msgspec.Struct, frozen=True):
    """What the subject says to which a message is to be acknowledged."""

    stream: str
    consumer: str
    receives: int
    stream_sequence: int
    consumer_sequence: int
    stored_ms: int


def delivery(reply: str) -> Delivery:
    """Source: NATS ADR-15. `$JS.ACK.[domain.account.]stream.consumer.receives.sequence.consumer sequence.ns.pending`,
    and in the longer form whatever may follow."""
    tokens = reply.split(".")
    if reply.startswith("$JS.ACK."):
        parts = tokens[2:] if len(tokens) == 9 else tokens[4:]
        if len(parts) >= 7:
            return Delivery(parts[0], parts[1], int(parts[2]), int(parts[3]), int(parts[4]), int(parts[5]) // 1_000_000)
    raise ValueError(f"no message of a stream has the reply subject {reply!r}")


def record(subject: str, headers: Mapping[str, str] | None, data: bytes, told: Delivery) -> bytes:
    """One element of "Records", as JSON."""
    try:
        body, is_base64 = data.decode(), False
    except UnicodeDecodeError:
        body, is_base64 = base64.b64encode(data).decode(), True
    shown: dict[str, Any] = {
        "messageId": str(told.stream_sequence),
        "body": body,
        "isBase64Encoded": is_base64,
        "attributes": {
            "ApproximateReceiveCount": str(told.receives),
            "SentTimestamp": str(told.stored_ms),
            "SequenceNumber": str(told.stream_sequence),
            "ConsumerSequenceNumber": str(told.consumer_sequence),
        },
        "headers": headers or {},
        "subject": subject,
        "eventSource": "eventfn:nats",
        "stream": told.stream,
        "consumer": told.consumer,
    }
    return _encode(shown)
