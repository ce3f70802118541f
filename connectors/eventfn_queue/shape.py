"""A message in the shape in which SQS hands it to a function. Source: AWS Lambda, "Using Lambda with Amazon SQS".

PURE.
"""

from __future__ import annotations

import binascii
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
    """One element of "Records", as JSON; keys in SQS's order.

    Put together from its parts: encoding it as a whole takes three times as long, and a batch has thousands.
    """
    kind, _, origin = message.attributes.get(ORIGIN, "").partition(":")
    handle = f"{message.queue} {message.id} {message.receives}".encode()
    attributes, digest = b"{}", b""
    if message.attributes:
        own = {name: value for name, value in message.attributes.items() if not name.startswith(OWN)}
        attributes = _encode({name: _attribute(name, value) for name, value in own.items()})
        if own:
            digest = b',"md5OfMessageAttributes":"%b"' % md5_of_attributes(own).encode()
    return _RECORD % (
        _encode(message.id),
        binascii.b2a_base64(handle, newline=False),
        _encode(message.body.decode()),
        message.receives,
        message.sent_ms,
        _encode(account),
        message.first_received_ms,
        _fifo_attributes(message) if fifo else b"",
        b',"DeadLetterQueueSourceArn":%b' % _encode(queue_arn(origin, region, account))
        if kind == "queue" and origin != message.queue
        else b"",
        attributes,
        digest,
        hashlib.md5(message.body, usedforsecurity=False).hexdigest().encode(),
        _encode(queue_arn(message.queue, region, account)),
        _encode(region),
    )


_RECORD = (
    b'{"messageId":%b,"receiptHandle":"%b","body":%b,"attributes":{"ApproximateReceiveCount":"%d","SentTimestamp":"%d",'
    b'"SenderId":%b,"ApproximateFirstReceiveTimestamp":"%d"%b%b},"messageAttributes":%b%b,"md5OfBody":"%b",'
    b'"eventSource":"aws:sqs","eventSourceARN":%b,"awsRegion":%b}'
)


def _fifo_attributes(message: ReceivedMessage) -> bytes:
    return b',"SequenceNumber":"%020d","MessageGroupId":%b,"MessageDeduplicationId":%b' % (
        message.sequence,
        _encode(message.group or ""),
        _encode(message.dedupe_key or hashlib.sha256(message.body).hexdigest()),
    )


def _attribute(name: str, value: str) -> dict[str, Any]:
    return {"stringValue": value, "stringListValues": [], "binaryListValues": [], "dataType": _data_type(name)}


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
