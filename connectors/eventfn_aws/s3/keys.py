"""Where a record goes in a bucket: the keys that Lambda gives its records.

PURE. Source: AWS Lambda, "Capturing records of Lambda asynchronous invocations" and "Using Amazon S3 as a destination"
of Kinesis. Where Lambda has a random UUID stands the record's id, and the time is the record's own: a record that is
tried again is the same object.
"""

from __future__ import annotations

import re
import uuid
from typing import Any
from urllib.parse import quote

import msgspec

from eventfn.destination import ORIGIN, SHAPE, OutgoingRecord
from eventfn_aws.s3.wanted import is_bucket

EXPECTED = 'expected a bucket and a prefix, as in "s3://my-bucket" or "s3://my-bucket/failed"'

_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)")
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Place(msgspec.Struct, frozen=True):
    bucket: str
    prefix: str  # empty, or with a slash at its end

    @classmethod
    def parse(cls, target: str) -> Place:
        """Of what stands behind "s3:". Raises ValueError."""
        bucket, _, prefix = target.removeprefix("//").partition("/")
        if not target.startswith("//") or not is_bucket(bucket) or not prefix.isprintable() or len(prefix) > 256:
            raise ValueError(EXPECTED)
        return cls(bucket, f"{prefix}/" if prefix and not prefix.endswith("/") else prefix)


def folder_and_name(record: OutgoingRecord) -> tuple[str, str]:
    """A record without a time of its own, which a dead letter has not, is in no folder of a day."""
    shape = record.attributes.get(SHAPE)
    # A dead letter is an event as it came: nothing in it is ours.
    said = {} if shape == "event" else _said(record.payload)
    origin = record.attributes.get(ORIGIN, "").partition(":")[2] or "eventfn"
    if shape == "batch":
        none: dict[str, Any] = {}
        info = next((value for key, value in said.items() if key.endswith("BatchInfo")), none)
        folder = f"aws/lambda/{_mapping(origin, info)}/{_name(_shard(info))}"
    else:
        folder = f"aws/lambda/async/{_name(origin)}"
    name = _name(record.id)
    if time := _TIME.match(str(said.get("timestamp", ""))):
        year, month, day, hour, minute, second = time.groups()
        return f"{folder}/{year}/{month}/{day}", f"{year}-{month}-{day}T{hour}.{minute}.{second}-{name}"
    return folder, name


def _said(payload: bytes) -> dict[str, Any]:
    try:
        return _decode(payload)
    except (msgspec.DecodeError, RecursionError):  # an event in it that is nested without end
        return {}


def _mapping(origin: str, info: dict[str, Any]) -> uuid.UUID:
    """Stands for the event source mapping's own: one for each function and stream."""
    stream = info.get("streamArn") or info.get("eventSourceArn") or ""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"eventfn:{origin}:{stream}")


def _shard(info: dict[str, Any]) -> str:
    """Kafka's batches have no shardId, and name their partition first of all."""
    return str(info.get("shardId") or next(iter(info.get("recordsInfo") or ()), "shard"))


def _name(text: str) -> str:
    return quote(text, safe="")
