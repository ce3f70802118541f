"""S3's event: made of what a listing shows, or brought into shape where a store has written it.

PURE. Source: Amazon S3, "Event message structure"; and what MinIO and Ceph write that differs from it.
"""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus, unquote_plus

import msgspec

# These came with version 2.3, all else with 2.1.
_NEWER = (
    "IntelligentTiering",
    "LifecycleExpiration",
    "LifecycleTransition",
    "ObjectAcl",
    "ObjectRestore:Delete",
    "ObjectTagging",
)

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


# --- what a store has written -----------------------------------------------------------------------------------------


class Told(msgspec.Struct, frozen=True):
    """One record of a notification."""

    id: str  # the same when it is told again
    event: str
    bucket: str
    key: str  # plain
    time_ms: int
    record: dict[str, Any]


class _Notification(msgspec.Struct, rename="pascal"):
    records: list[dict[str, Any]] | None = None
    event: str | None = None
    type: str | None = None
    message: str | None = None


class _Bucket(msgspec.Struct):
    name: str


class _Object(msgspec.Struct, rename="camel"):
    key: str
    version_id: str | None = None
    sequencer: str | None = None


class _S3(msgspec.Struct):
    bucket: _Bucket
    object: _Object


class _Record(msgspec.Struct, rename="camel"):
    event_name: str
    s3: _S3
    event_source: str = ""
    event_time: str = ""
    event_version: str = ""


_notification = msgspec.json.Decoder(_Notification).decode


def told(body: bytes | str, origin: Origin, now_ms: int) -> list[Told]:
    """The records of a notification, straight from a store or in SNS's envelope; [] for the one by which S3 tries out
    whether it may notify. Raises msgspec.DecodeError when it is none."""
    notification = _notification(body)
    if notification.type == "Notification" and notification.message is not None:
        notification = _notification(notification.message)
    if notification.records is None:
        if notification.event == "s3:TestEvent":
            return []
        raise msgspec.ValidationError("there are no Records in it")
    return [_told(record, origin, now_ms) for record in notification.records]


def _told(record: dict[str, Any], origin: Origin, now_ms: int) -> Told:
    said = msgspec.convert(record, _Record)
    name = said.event_name.removeprefix("s3:")
    bucket = said.s3.bucket.name
    # Ceph writes keys as they are, and MinIO a slash as %2F.
    key = object_key(said.s3.object.key) if said.event_source == "ceph:s3" else said.s3.object.key.replace("%2F", "/")
    time_ms = _read(said.event_time)
    if time_ms is None:
        time_ms = now_ms
    identity = (bucket, key, said.s3.object.version_id, said.s3.object.sequencer or said.event_time, name)
    in_shape = {
        "eventVersion": _version(name, said.event_version),
        "eventSource": "aws:s3",
        "awsRegion": record.get("awsRegion") or origin.region,
        "eventTime": said.event_time or _written(time_ms),
        "eventName": name,
        "userIdentity": record.get("userIdentity") or {"principalId": origin.account},
        "requestParameters": record.get("requestParameters") or {"sourceIPAddress": "127.0.0.1"},
        "responseElements": record.get("responseElements") or {"x-amz-request-id": "", "x-amz-id-2": ""},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": record["s3"].get("configurationId") or origin.source,
            "bucket": _bucket(bucket, origin) | record["s3"]["bucket"],
            "object": _object(name, key, time_ms, record["s3"]["object"]),
        },
    }
    return Told(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"eventfn:s3:{identity}")),
        event=name,
        bucket=bucket,
        key=plain_key(key),
        time_ms=time_ms,
        record=in_shape | {name: value for name, value in record.items() if name not in in_shape},
    )


def _object(name: str, key: str, time_ms: int, written: Mapping[str, Any]) -> dict[str, Any]:
    """Of a removed object there is neither size nor eTag; tags have no part in the order that a sequencer tells."""
    kind = name.partition(":")[0]
    without = {"ObjectRemoved": ("size", "eTag"), "ObjectTagging": ("size", "sequencer")}.get(kind, ())
    facts = {"key": key} | {name: value for name, value in written.items() if name not in (*without, "key")}
    if isinstance(size := facts.get("size"), str) and size.isdecimal():
        facts["size"] = int(size)
    if not facts.get("versionId", True):
        del facts["versionId"]
    if kind in ("ObjectCreated", "ObjectRemoved") and not facts.get("sequencer"):
        facts["sequencer"] = sequencer(time_ms * 1000)
    return facts


def _version(name: str, written: str) -> str:
    """The store's own, if it is as new as the event is."""
    first = "2.3" if name.startswith(_NEWER) else "2.1"
    return max(first, written) if re.fullmatch(r"2\.\d", written) else first


def _read(time: str) -> int | None:
    try:
        moment = datetime.datetime.fromisoformat(time)
    except ValueError:
        return None
    return round(moment.timestamp() * 1000) if moment.tzinfo else None


# --- both -------------------------------------------------------------------------------------------------------------


def _bucket(name: str, origin: Origin) -> dict[str, Any]:
    return {"name": name, "ownerIdentity": {"principalId": origin.account}, "arn": f"arn:aws:s3:::{name}"}


def _written(ms: int) -> str:
    moment = datetime.datetime.fromtimestamp(ms // 1000, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
