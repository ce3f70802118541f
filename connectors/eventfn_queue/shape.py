"""A message in the shape in which SQS hands it to a function. Source: AWS Lambda, "Using Lambda with Amazon SQS".

PURE.
"""

from __future__ import annotations

import hashlib
import struct
from binascii import b2a_base64
from collections.abc import Mapping
from hashlib import md5
from typing import Any

import msgspec

from eventfn.destination import ORIGIN
from eventfn.trigger import ReceivedMessage

OWN = "eventfn."  # attributes with this prefix are the host's notes, not the sender's
NUMBERS = frozenset({"ErrorCode"})  # attributes whose SQS type is Number: Lambda's own, on dead letters

_encode = msgspec.json.Encoder().encode


def queue_arn(queue: str, region: str, account: str) -> str:
    return f"arn:aws:sqs:{region}:{account}:{queue}"


class Shape:
    """The messages of one queue."""

    def __init__(self, queue: str, *, fifo: bool, region: str, account: str) -> None:
        self._queue = queue
        self._fifo = fifo
        self._region = region
        self._account = account
        self._sender = b'","SenderId":%b,"ApproximateFirstReceiveTimestamp":"' % _encode(account)
        self._end = b'","eventSource":"aws:sqs","eventSourceARN":%b,"awsRegion":%b}' % (
            _encode(queue_arn(queue, region, account)),
            _encode(region),
        )

    def record(self, message: ReceivedMessage) -> bytes:
        """One element of "Records", as JSON; keys in SQS's order.

        Put together from its parts, and from those that are the same for all: encoding it as a whole takes five times
        as long, and a batch has thousands.
        """
        handle = f"{message.queue} {message.id} {message.receives}".encode()
        return b"".join(
            (
                b'{"messageId":',
                _encode(message.id),
                b',"receiptHandle":"',
                b2a_base64(handle, newline=False),
                b'","body":',
                _encode(message.body.decode()),
                b',"attributes":{"ApproximateReceiveCount":"%d","SentTimestamp":"%d'
                % (message.receives, message.sent_ms),
                self._sender,
                b'%d"' % message.first_received_ms,
                _fifo_attributes(message) if self._fifo else b"",
                self._attributes(message) if message.attributes else _NO_ATTRIBUTES,
                b',"md5OfBody":"',
                md5(message.body, usedforsecurity=False).hexdigest().encode(),
                self._end,
            )
        )

    def _attributes(self, message: ReceivedMessage) -> bytes:
        """What the host has noted of the message, and what its sender has."""
        kind, _, origin = message.attributes.get(ORIGIN, "").partition(":")
        source = b""
        if kind == "queue" and origin != self._queue:
            source = b',"DeadLetterQueueSourceArn":%b' % _encode(queue_arn(origin, self._region, self._account))
        own = {name: value for name, value in message.attributes.items() if not name.startswith(OWN)}
        if not own:
            return source + _NO_ATTRIBUTES
        attributes = _encode({name: _attribute(name, value) for name, value in own.items()})
        digest = md5_of_attributes(own).encode()
        return b'%b},"messageAttributes":%b,"md5OfMessageAttributes":"%b"' % (source, attributes, digest)


_NO_ATTRIBUTES = b'},"messageAttributes":{}'


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
    digest = md5(usedforsecurity=False)
    for name in sorted(attributes):
        for text, after in ((name, b""), (_data_type(name), b"\x01"), (attributes[name], b"")):
            encoded = text.encode()
            digest.update(struct.pack(">I", len(encoded)) + encoded + after)
    return digest.hexdigest()


def _data_type(name: str) -> str:
    return "Number" if name in NUMBERS else "String"
