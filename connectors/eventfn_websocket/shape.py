"""A message as a function sees it: the event of a WebSocket API of API Gateway, as far as a client can know it.

PURE.
"""

from __future__ import annotations

import base64

import msgspec


class Link(msgspec.Struct, frozen=True):
    """One connection, as its messages tell of it. Times are epoch milliseconds."""

    id: str
    host: str
    connected_ms: int


class Message(msgspec.Struct, frozen=True):
    link: Link
    number: int  # the first of a connection is 1
    data: str | bytes
    arrived_ms: int

    @property
    def id(self) -> str:
        return f"{self.link.id}-{self.number}"


def event(message: Message) -> bytes:
    is_text = isinstance(message.data, str)
    return msgspec.json.encode(
        {
            "requestContext": {
                "routeKey": "$default",
                "eventType": "MESSAGE",
                "messageDirection": "IN",
                "messageId": message.id,
                "connectionId": message.link.id,
                "connectedAt": message.link.connected_ms,
                "requestTimeEpoch": message.arrived_ms,
                "domainName": message.link.host,
            },
            "body": message.data if isinstance(message.data, str) else base64.b64encode(message.data).decode(),
            "isBase64Encoded": not is_text,
        }
    )
