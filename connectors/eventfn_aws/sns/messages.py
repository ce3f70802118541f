"""What SNS posts to an endpoint: read, put together as it was signed, and in the shape in which Lambda hands it on.

PURE. Sources: Amazon SNS, "Parsing message formats" and "Verifying the signatures of Amazon SNS messages"; AWS Lambda,
"Using AWS Lambda with Amazon SNS".
"""

from __future__ import annotations

import re
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit, urlunsplit

import msgspec

_AWS_HOST = re.compile(r"sns\.[a-z0-9-]+\.amazonaws\.com(\.cn)?")
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}


class Attribute(msgspec.Struct, frozen=True, rename="pascal"):
    type: str
    value: str


class Envelope(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    type: Literal["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"]
    message_id: str
    topic_arn: str
    message: str
    timestamp: str
    signature_version: str = ""
    signature: str = ""
    signing_cert_url: str = msgspec.field(name="SigningCertURL", default="")
    subject: str | None = None
    token: str | None = None
    subscribe_url: str | None = msgspec.field(name="SubscribeURL", default=None)
    unsubscribe_url: str = msgspec.field(name="UnsubscribeURL", default="")
    message_attributes: dict[str, Attribute] = {}

    @classmethod
    def read(cls, body: bytes) -> Envelope:
        """Raises msgspec.DecodeError."""
        return _decode(body)

    def signed_text(self) -> bytes:
        said: dict[str, str | None] = {
            "Message": self.message,
            "MessageId": self.message_id,
            "Subject": self.subject,
            "SubscribeURL": self.subscribe_url,
            "Timestamp": self.timestamp,
            "Token": self.token,
            "TopicArn": self.topic_arn,
            "Type": self.type,
        }
        return "".join(f"{name}\n{said[name]}\n" for name in _SIGNED[self.type] if said[name] is not None).encode()

    def event(self, subscription_arn: str) -> bytes:
        return _encode({"Records": [self._record(subscription_arn)]})

    def _record(self, subscription_arn: str) -> dict[str, Any]:
        return {
            "EventSource": "aws:sns",
            "EventVersion": "1.0",
            "EventSubscriptionArn": subscription_arn or self._subscription_of_url(),
            "Sns": {
                "Type": self.type,
                "MessageId": self.message_id,
                "TopicArn": self.topic_arn,
                "Subject": self.subject,
                "Message": self.message,
                "Timestamp": self.timestamp,
                "SignatureVersion": self.signature_version,
                "Signature": self.signature,
                "SigningCertUrl": self.signing_cert_url,
                "UnsubscribeUrl": self.unsubscribe_url,
                "MessageAttributes": self.message_attributes,
            },
        }

    def _subscription_of_url(self) -> str:
        """AWS says it in a header too; other servers may not."""
        return parse_qs(urlsplit(self.unsubscribe_url).query).get("SubscriptionArn", [""])[0]


_decode = msgspec.json.Decoder(Envelope).decode
_encode = msgspec.json.Encoder().encode


def trusted(url: str, endpoint_url: str | None) -> str | None:
    """Where a URL that a message names may be fetched from; None if nowhere. It is one of SNS's own, over TLS; with an
    `endpoint_url` that server stands for all of SNS, and nothing else is asked."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    aws = _AWS_HOST.fullmatch(host) is not None and parts.scheme == "https" and port in (None, 443)
    if parts.username is not None:
        return None
    if endpoint_url is None:
        return url if aws else None
    own = urlsplit(endpoint_url)
    if aws or _same_server(host, port, own.hostname or "", own.port):
        return urlunsplit((own.scheme, own.netloc, parts.path, parts.query, ""))
    return None


def _same_server(host: str, port: int | None, own_host: str, own_port: int | None) -> bool:
    local = {"localhost", "127.0.0.1", "::1"}
    return port == own_port and (host == own_host or {host, own_host} <= local)
