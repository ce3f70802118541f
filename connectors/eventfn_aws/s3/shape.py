"""S3's event: made of what a listing shows, or brought into shape where a store has written it.

PURE. Source: Amazon S3, "Event message structure"; and what MinIO and Ceph write that differs from it.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus, unquote_plus

import msgspec

_encode = msgspec.json.Encoder().encode


def object_key(key: str) -> str:
    """The key as S3 writes it: URL-encoded, with + for a space, and / as it is."""
    return quote_plus(key, safe="/")


def plain_key(written: str) -> str:
    return unquote_plus(written)


class Origin(msgspec.Struct, frozen=True):
    """What a store does not say, and is the same in all events of a trigger."""

    source: str
    region: str
    account: str


def event(record: Mapping[str, Any]) -> bytes:
    return _encode({"Records": [record]})


def listed(
    origin: Origin, bucket: str, name: str, key: str, *, request_id: str, time_ms: int, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """The record for what a listing has shown. `facts` stand beside the key."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": origin.region,
        "eventTime": _written(time_ms),
        "eventName": name,
        "userIdentity": {"principalId": origin.account},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": request_id, "x-amz-id-2": request_id},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": origin.source,
            "bucket": _bucket(bucket, origin),
            "object": {"key": object_key(key), **facts},
        },
    }


def sequencer(sequence: int) -> str:
    return f"{sequence:016X}"


def _bucket(name: str, origin: Origin) -> dict[str, Any]:
    return {"name": name, "ownerIdentity": {"principalId": origin.account}, "arn": f"arn:aws:s3:::{name}"}


def _written(ms: int) -> str:
    moment = datetime.datetime.fromtimestamp(ms // 1000, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
