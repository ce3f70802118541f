"""S3's event notification for one file.

PURE. Source: Amazon S3, "Event message structure" (version 2.1). `eventfn` beside `s3` is ours: where the file is on
this machine.
"""

from __future__ import annotations

import datetime
import urllib.parse
from typing import Any

import msgspec

from eventfn_files.settings import CREATED


def object_key(name: str) -> str:
    """The key as S3 writes it: URL-encoded with + for a space. Bytes that are no UTF-8 are kept, as %FF."""
    return urllib.parse.quote_plus(name.encode("utf-8", "surrogateescape"), safe="/")


def name_of(key: str) -> str:
    return urllib.parse.unquote_to_bytes(key.replace("+", " ")).decode("utf-8", "surrogateescape")


class Origin(msgspec.Struct, frozen=True):
    """What is the same in all events of a trigger."""

    folder: str  # absolute
    source: str
    region: str
    account: str


def notification(
    origin: Origin, event: str, name: str, *, request_id: str, now_ms: int, size: int, etag: str, sequence: int
) -> bytes:
    """The whole event, JSON. A removal has neither size nor eTag."""
    key = object_key(name)
    bucket = origin.folder.rpartition("/")[2]
    s3_object: dict[str, Any] = {"key": key, "sequencer": f"{sequence:016X}"}
    if event == CREATED:
        s3_object |= {"size": size, "eTag": etag}
    time = datetime.datetime.fromtimestamp(now_ms / 1000, datetime.UTC)
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": origin.region,
        "eventTime": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "eventName": event,
        "userIdentity": {"principalId": origin.account},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": request_id, "x-amz-id-2": request_id},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": origin.source,
            "bucket": {
                "name": bucket,
                "ownerIdentity": {"principalId": origin.account},
                "arn": f"arn:aws:s3:::{bucket}",
            },
            "object": s3_object,
        },
        "eventfn": {"path": _text(f"{origin.folder}/{name}"), "folder": _text(origin.folder)},
    }
    return msgspec.json.encode({"Records": [record]})


def _text(path: str) -> str | None:
    """None for a path that is no UTF-8: JSON cannot carry it, and any other spelling would name another file."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return None
    return path
