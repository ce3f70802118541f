"""What the record of a failed batch says of it: the same for both services, but for the times.

PURE. Source: AWS Lambda, "Configuring destinations for failed invocations" of Kinesis and of DynamoDB.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any

from eventfn.event import Record


def batch_info(shard: str, records: Sequence[Record], stream_arn: str, written: Callable[[int], str]) -> dict[str, Any]:
    """`written` writes a time in ms as the service's own records have it."""
    first, last = records[0], records[-1]
    return {
        "shardId": shard,
        "startSequenceNumber": first.id,
        "endSequenceNumber": last.id,
        "approximateArrivalOfFirstRecord": written(first.arrived_ms),
        "approximateArrivalOfLastRecord": written(last.arrived_ms),
        "batchSize": len(records),
        "streamArn": stream_arn,
    }


def with_milliseconds(ms: int) -> str:
    return f"{_utc(ms):%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def with_seconds(ms: int) -> str:
    return f"{_utc(ms):%Y-%m-%dT%H:%M:%SZ}"


def _utc(ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(ms // 1000, datetime.UTC)
