"""A change of a table in the shape in which Lambda hands it to a function. Source: AWS Lambda, "Using Lambda with
Amazon DynamoDB".

PURE.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder()  # writes bytes, which a binary attribute is, as base64
_in_order = msgspec.json.Encoder(order="sorted")


def record(found: Mapping[str, Any], created_ms: int, region: str, stream_arn: str) -> bytes:
    """One element of "Records", as JSON, of a record as the service's client has it; keys in DynamoDB's order."""
    change = found["dynamodb"]
    shown: dict[str, Any] = {
        "eventID": found["eventID"],
        "eventName": found["eventName"],
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": region,
        "dynamodb": {
            "ApproximateCreationDateTime": float(created_ms // 1000),
            "Keys": change["Keys"],
            **{image: change[image] for image in ("NewImage", "OldImage") if image in change},
            "SequenceNumber": change["SequenceNumber"],
            "SizeBytes": change["SizeBytes"],
            "StreamViewType": change["StreamViewType"],
        },
        "eventSourceARN": stream_arn,
    }
    if (who := found.get("userIdentity")) is not None:
        shown["userIdentity"] = {"type": who["Type"], "principalId": who["PrincipalId"]}
    return _encoder.encode(shown)


def item_key(found: Mapping[str, Any]) -> str:
    """Names the item: its changes are handled in order."""
    return _in_order.encode(found["dynamodb"]["Keys"]).decode()
