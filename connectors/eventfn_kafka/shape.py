"""A record of Kafka in the shapes in which a function gets it. PURE.

"lambda" is what AWS Lambda hands over from a self-managed cluster ("Using Lambda with self-managed Apache Kafka"):
keys and values in base64, headers as lists of signed bytes, as the JVM prints them. "plain" is for people who read it:
keys, values and headers are text.

Records are put together from their parts: encoding each as a whole takes four times as long.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, Literal, Protocol

import msgspec

from eventfn.event import Record
from eventfn.trigger import BatchInfo

_encode = msgspec.json.Encoder().encode
_base64 = binascii.b2a_base64

_SHARD = attrgetter("token")


class Consumed(Protocol):
    """What a consumer got, in aiokafka's words."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None  # None: a tombstone
    headers: Sequence[tuple[str, bytes | None]]


Shaping = Callable[[Iterable[Consumed]], tuple[Record, ...]]


def shard_id(topic: str, partition: int) -> str:
    return f"{topic}-{partition}"


def offset_of(record: Record) -> int:
    return int(record.id.rpartition("-")[2])


def shaping(event_format: Literal["lambda", "plain"], topic: str, partition: int) -> Shaping:
    """How the records of this partition become eventfn's: `token` is the shard's id."""
    shard = shard_id(topic, partition)
    head = b'{"topic":%b,"partition":%d,"offset":' % (_encode(topic), partition)
    field, headers_of = (_in_base64, _signed_headers) if event_format == "lambda" else (_as_text, _text_headers)
    # What nearly all records are like, with places for what is their own: one step of formatting takes half the time.
    usual = head + b'%d,"timestamp":%d,"timestampType":"CREATE_TIME","key":"%b","value":"%b","headers":[]}'
    is_usual = event_format == "lambda"

    def shape(consumed: Iterable[Consumed]) -> tuple[Record, ...]:
        records: list[Record] = []
        for each in consumed:
            key, value, offset, timestamp = each.key, each.value, each.offset, each.timestamp
            if is_usual and key is not None and value is not None and not each.headers and not each.timestamp_type:
                payload = usual % (offset, timestamp, _base64(key, newline=False), _base64(value, newline=False))
            else:
                payload = b'%b%d,"timestamp":%d,"timestampType":"%b"%b%b,"headers":%b}' % (
                    head,
                    offset,
                    timestamp,
                    b"LOG_APPEND_TIME" if each.timestamp_type else b"CREATE_TIME",
                    field(b"key", key),
                    field(b"value", value),
                    headers_of(each.headers) if each.headers else b"[]",
                )
            # Whatever a key is made of, equal ones are equal in latin-1. A timestamp of -1 says that there is none.
            group = None if key is None else key.decode("latin-1")
            records.append(Record(f"{shard}-{offset}", payload, group, timestamp if timestamp > 0 else 0, 1, shard))
        return tuple(records)

    return shape


def _in_base64(name: bytes, data: bytes | None) -> bytes:
    """What is null is left out."""
    return b"" if data is None else b',"%b":"%b"' % (name, _base64(data, newline=False))


def _as_text(name: bytes, data: bytes | None) -> bytes:
    """What is not UTF-8 is in base64, and says so."""
    if data is None:
        return b""
    try:
        return b',"%b":%b' % (name, _encode(data.decode()))
    except UnicodeDecodeError:
        return b',"%b":"%b","%bEncoding":"base64"' % (name, _base64(data, newline=False), name)


def _signed_headers(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    return _encode([{name: memoryview(value or b"").cast("b").tolist()} for name, value in headers])


def _text_headers(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    return b"[%b]" % b",".join(b'{"name":%b%b}' % (_encode(name), _as_text(b"value", value)) for name, value in headers)


def event(
    event_format: Literal["lambda", "plain"], bootstrap_servers: str, records: Sequence[Record], arn: str | None = None
) -> bytes:
    """What a function is invoked with. `arn` is MSK's; None: the cluster is somebody's own."""
    if event_format == "plain":
        return b'{"Records":[%b]}' % b",".join([record.payload for record in records])
    by_shard: dict[str, list[bytes]] = {}
    for shard, some in groupby(records, _SHARD):
        by_shard.setdefault(shard, []).extend([record.payload for record in some])
    source = b'"SelfManagedKafka"' if arn is None else b'"aws:kafka","eventSourceArn":%b' % _encode(arn)
    return b'{"eventSource":%b,"bootstrapServers":%b,"records":{%b}}' % (
        source,
        _encode(bootstrap_servers),
        b",".join(b"%b:[%b]" % (_encode(shard), b",".join(payloads)) for shard, payloads in by_shard.items()),
    )


def batch_info(
    shard: str, bootstrap_servers: str, records: Sequence[Record], event_source_arn: str | None = None
) -> BatchInfo:
    """Lambda's words for a failed batch of one partition; the ARN is MSK's.

    Source: "Capturing discarded batches for Amazon MSK and self-managed Apache Kafka event sources", whose recordsInfo
    has firstRecordOffset and its like. The contract's startRecordInfo and endRecordInfo, which it marks as unverified,
    are on none of AWS's pages, and whoever reads such records has written his program by these. The condition is the
    contract's, and that of "Using a Kafka topic as an on-failure destination"; the other page has Kinesis' name for it.
    There each message is one record, with a recordInfo of its own: what is given up here is a batch, wherever it goes.
    """
    first, last = records[0], records[-1]
    arn = {} if event_source_arn is None else {"eventSourceArn": event_source_arn}
    info: dict[str, Any] = {
        "batchSize": len(records),
        **arn,
        "bootstrapServers": bootstrap_servers,
        "payloadSize": sum(len(record.payload) for record in records),
        "recordsInfo": {
            shard: {
                "firstRecordOffset": str(offset_of(first)),
                "lastRecordOffset": str(offset_of(last)),
                "firstRecordTimestamp": _iso(first.arrived_ms),
                "lastRecordTimestamp": _iso(last.arrived_ms),
            }
        },
    }
    return BatchInfo("KafkaBatchInfo", info, exhausted="RetriesExhausted")


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
