"""A message as SQS's API gives it, in the shape in which Lambda hands it to a function, and the way back.

PURE. Source: AWS Lambda, "Using Lambda with Amazon SQS"; keys in its order.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from eventfn.event import Record

# In this order; what AWS may add one day comes behind.
_SYSTEM = (
    "ApproximateReceiveCount",
    "SentTimestamp",
    "SenderId",
    "ApproximateFirstReceiveTimestamp",
    "SequenceNumber",
    "MessageGroupId",
    "MessageDeduplicationId",
    "AWSTraceHeader",
    "DeadLetterQueueSourceArn",
)

_encode = msgspec.json.Encoder().encode


def record(message: Mapping[str, Any], queue_arn: str, region: str, token: Any) -> Record:
    said: Mapping[str, str] = message.get("Attributes") or {}
    attributes = {name: said[name] for name in _SYSTEM if name in said} | dict(said)
    own: Mapping[str, Mapping[str, Any]] = message.get("MessageAttributes") or {}
    shape: dict[str, Any] = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message.get("Body", ""),
        "attributes": attributes,
        "messageAttributes": {name: _attribute(value) for name, value in own.items()},
    }
    if "MD5OfMessageAttributes" in message:
        shape["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
    shape |= {
        "md5OfBody": message.get("MD5OfBody", ""),
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": region,
    }
    return Record(
        id=message["MessageId"],
        payload=_encode(shape),
        group=attributes.get("MessageGroupId"),
        arrived_ms=int(attributes.get("SentTimestamp", 0)),
        receives=int(attributes.get("ApproximateReceiveCount", 1)),
        token=token,
        trace=attributes.get("AWSTraceHeader"),
    )


def _attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    shape: dict[str, Any] = {}
    if "BinaryValue" in value:
        shape["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode()
    else:
        shape["stringValue"] = value.get("StringValue", "")
    return shape | {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}


def dead_letter(record: Record, reason: str) -> dict[str, Any]:
    """The message of a record once more, for another queue, and why it is there if it has an attribute to spare."""
    shape = msgspec.json.decode(record.payload)
    attributes = {
        name: {
            "DataType": value["dataType"],
            **(
                {"BinaryValue": base64.b64decode(value["binaryValue"])}
                if "binaryValue" in value
                else {"StringValue": value["stringValue"]}
            ),
        }
        for name, value in shape["messageAttributes"].items()
    }
    if len(attributes) < MOST_ATTRIBUTES:
        attributes["eventfn.reason"] = {"DataType": "String", "StringValue": reason[:1024]}
    entry: dict[str, Any] = {"MessageBody": shape["body"], "MessageAttributes": attributes}
    if record.group is not None:
        entry |= {"MessageGroupId": record.group, "MessageDeduplicationId": record.id}
    return entry


MOST_ATTRIBUTES = 10
