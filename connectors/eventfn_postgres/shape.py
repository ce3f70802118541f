"""A row of the outbox as a function sees it: near an SQS message, so that a handler written for SQS reads it too.

PURE.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Row(msgspec.Struct, frozen=True):
    """A row that was claimed. `attempts` counts this time too, and is the fence of everything that is said about it."""

    id: int
    body: str
    attributes: dict[str, Any]
    group_id: str | None
    attempts: int
    created_ms: int  # by the server's clock


def record(row: Row, table: str) -> bytes:
    """One element of "Records", as JSON; keys in SQS's order."""
    attributes = {"ApproximateReceiveCount": str(row.attempts), "SentTimestamp": str(row.created_ms)}
    if row.group_id is not None:
        attributes["MessageGroupId"] = row.group_id
    return msgspec.json.encode(
        {
            "messageId": str(row.id),
            "body": row.body,
            "attributes": attributes,
            "messageAttributes": {name: _attribute(value) for name, value in row.attributes.items()},
            "eventSource": "eventfn:postgres",
            "table": table,
        }
    )


def _attribute(value: Any) -> dict[str, Any]:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return {
        "stringValue": text,
        "stringListValues": [],
        "binaryListValues": [],
        "dataType": "Number" if is_number else "String",
    }
