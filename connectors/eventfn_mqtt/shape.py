"""A message as a function sees it. MQTT has no shape of its own in Lambda: this one is in the manner of SQS's.

PURE.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import msgspec

from eventfn_mqtt.packets import Publish

_encode = msgspec.json.Encoder().encode


def message_id(message: Publish, number: int) -> str:
    """MQTT names no message. The packet's identifier is the same when the broker sends it again, and no other message
    that is not acknowledged has it; what the message is made of tells it from those that had it before. At quality of
    service 0 nothing comes again: it gets a number."""
    content = hashlib.sha256(message.topic.encode() + b"\0" + message.payload).hexdigest()[:16]
    return f"{content}-{message.packet or f'0.{number}'}"


def record(message: Publish, identifier: str, arrived_ms: int, broker: str) -> bytes:
    payload, binary = _text(message.payload)
    return _encode(
        {
            "messageId": identifier,
            "topic": message.topic,
            "payload": payload,
            "isBase64Encoded": binary,
            "qos": message.qos,
            "retain": message.retain,
            "duplicate": message.duplicate,
            "timestamp": arrived_ms,
            "properties": _properties(message),
            "eventSource": "eventfn:mqtt",
            "broker": broker,
        }
    )


def _text(payload: bytes) -> tuple[str, bool]:
    try:
        return payload.decode(), False
    except UnicodeDecodeError:
        return base64.b64encode(payload).decode(), True


def _properties(message: Publish) -> dict[str, Any]:
    """Those of version 5 that a publisher sets; in version 3.1.1 there are none."""
    found = message.properties
    shown = {
        name: found[key]
        for key, name in (
            ("content_type", "contentType"),
            ("response_topic", "responseTopic"),
            ("message_expiry_interval", "messageExpiryInterval"),
            ("payload_format_indicator", "payloadFormatIndicator"),
        )
        if key in found
    }
    if "correlation_data" in found:
        shown["correlationData"] = base64.b64encode(found["correlation_data"]).decode()
    if "user_property" in found:
        shown["userProperties"] = [{"name": name, "value": value} for name, value in found["user_property"]]
    return shown
