"""A message in the shape in which Lambda hands RabbitMQ's to a function. Source: AWS Lambda, "Using Lambda with Amazon
MQ"; header values are those of RabbitMQ's Java client, as Gson writes them.

PURE.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

import msgspec

_encode = msgspec.json.Encoder().encode
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Properties(Protocol):
    """AMQP's basic properties, as every client has them."""

    content_type: str | None
    content_encoding: str | None
    delivery_mode: int | None
    priority: int | None
    correlation_id: str | None
    reply_to: str | None
    expiration: str | None
    message_id: str | None
    timestamp: datetime | None
    message_type: str | None
    user_id: str | None
    app_id: str | None
    cluster_id: str  # deprecated, and empty


def queue_key(queue: str, virtual_host: str) -> str:
    """The key of a queue's messages in an event: "orders::/" in the virtual host "/", "orders::/shop" in "shop"."""
    return f"{queue}::/{virtual_host.removeprefix('/')}"


def broker_arn(host: str, region: str, account: str) -> str:
    return f"arn:aws:mq:{region}:{account}:broker:{host}"


def record(properties: Properties, headers: Mapping[str, Any], redelivered: bool, body: bytes) -> bytes:
    """One message, as JSON; keys in Lambda's order."""
    basic = {
        "contentType": properties.content_type,
        "contentEncoding": properties.content_encoding,
        "headers": {name: _header(value) for name, value in headers.items()},
        "deliveryMode": properties.delivery_mode,
        "priority": properties.priority,
        "correlationId": properties.correlation_id,
        "replyTo": properties.reply_to,
        "expiration": properties.expiration,
        "messageId": properties.message_id,
        "timestamp": None if properties.timestamp is None else java_date(properties.timestamp),
        "type": properties.message_type,
        "userId": properties.user_id,
        "appId": properties.app_id,
        "clusterId": properties.cluster_id or None,
        "bodySize": len(body),
    }
    return b'{"basicProperties":%b,"redelivered":%b,"data":"%b"}' % (
        _encode(basic),
        b"true" if redelivered else b"false",
        binascii.b2a_base64(body, newline=False),
    )


def event(queue: str, arn: str, messages: Sequence[bytes]) -> bytes:
    return b'{"eventSource":"aws:rmq","eventSourceArn":%b,"rmqMessagesByQueue":{%b:[%b]}}' % (
        _encode(arn),
        _encode(queue),
        b",".join(messages),
    )


def _header(value: Any) -> Any:
    """Text is bytes of the JVM, which are signed; tables and lists hold values of the same kinds."""
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": [byte - 256 if byte > 127 else byte for byte in value]}
    if isinstance(value, Mapping):
        return {str(name): _header(inner) for name, inner in value.items()}  # pyright: ignore
    if isinstance(value, (list, tuple)):
        return [_header(inner) for inner in value]  # pyright: ignore
    if isinstance(value, datetime):
        return java_date(value)
    if isinstance(value, Decimal):
        return float(value)
    return value


def java_date(moment: datetime) -> str:
    """As Gson writes a Date, in UTC: "Jan 1, 1970, 12:33:41 AM"."""
    utc = moment.astimezone(UTC)
    half = "AM" if utc.hour < 12 else "PM"
    return (
        f"{_MONTHS[utc.month - 1]} {utc.day}, {utc.year}, {utc.hour % 12 or 12}:{utc.minute:02}:{utc.second:02} {half}"
    )
