"""A message in the shape in which SQS hands it to a function. Source: AWS Lambda, "Using Lambda with Amazon SQS".

PURE.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Mapping
from typing import Any

import msgspec

from eventfn.destination import ORIGIN
from eventfn.trigger import ReceivedMessage

OWN = "eventfn."  # attributes with this prefix are the host's notes, not the sender's
NUMBERS = frozenset({"ErrorCode"})  # attributes whose SQS type is Number: Lambda's own, on dead letters

_encode = msgspec.json.Encoder().encode


def queue_arn(queue: str, region: str, account: str) -> str:
    return f"arn:aws:sqs:{region}:{account}:{queue}"


def record(message: ReceivedMessage, *, fifo: bool, region: str, account: str) -> bytes:
    """One element of "Records", as JSON; keys in SQS's order."""
    body = message.body.decode()
    attributes = {
        "ApproximateReceiveCount": str(message.receives),
        "SentTimestamp": str(message.sent_ms),
        "SenderId": account,
        "ApproximateFirstReceiveTimestamp": str(message.first_received_ms),
    }
    if fifo:
        attributes["SequenceNumber"] = f"{message.sequence:020d}"
        attributes["MessageGroupId"] = message.group or ""
        attributes["MessageDeduplicationId"] = message.dedupe_key or hashlib.sha256(message.body).hexdigest()
    kind, _, origin = message.attributes.get(ORIGIN, "").partition(":")
    if kind == "queue" and origin != message.queue:
        attributes["DeadLetterQueueSourceArn"] = queue_arn(origin, region, account)
    own = {name: value for name, value in message.attributes.items() if not name.startswith(OWN)}
    shape: dict[str, Any] = {
        "messageId": message.id,
        "receiptHandle": base64.b64encode(f"{message.queue} {message.id} {message.receives}".encode()).decode(),
        "body": body,
        "attributes": attributes,
        "messageAttributes": {
            name: {
                "stringValue": value,
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": _data_type(name),
            }
            for name, value in own.items()
        },
    }
    if own:
        shape["md5OfMessageAttributes"] = md5_of_attributes(own)
    shape["md5OfBody"] = hashlib.md5(message.body, usedforsecurity=False).hexdigest()
    shape["eventSource"] = "aws:sqs"
    shape["eventSourceARN"] = queue_arn(message.queue, region, account)
    shape["awsRegion"] = region
    return _encode(shape)


def md5_of_attributes(attributes: Mapping[str, str]) -> str:
    """By name: name, data type, the byte 1 for a string, value; each text behind its length in four bytes.

    Source: Amazon SQS developer guide, "Calculating the MD5 message digest for message attributes".
    """
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        for text, after in ((name, b""), (_data_type(name), b"\x01"), (attributes[name], b"")):
            encoded = text.encode()
            digest.update(struct.pack(">I", len(encoded)) + encoded + after)
    return digest.hexdigest()


def _data_type(name: str) -> str:
    return "Number" if name in NUMBERS else "String"
