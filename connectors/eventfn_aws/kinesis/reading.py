"""One shard of a Kinesis stream: what is asked of the service, and records made of its answers."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

from eventfn.event import Record
from eventfn.trigger import Start
from eventfn_aws.client import Client
from eventfn_aws.kinesis.kpl import UserRecord, unpacked
from eventfn_aws.kinesis.shape import Shape
from eventfn_aws.shards.reader import Answer, Pace

# Five reads a second are what a shard allows to all its readers together; Lambda takes one of them while nothing comes.
PACE = Pace(busy=0.2, idle=1.0, most=10_000)


class KinesisShard:
    """A ShardApi. A position is a sequence number, with ":<index>" behind it in the middle of an aggregate."""

    def __init__(
        self, client: Client, stream: Mapping[str, str], shard: str, shape: Shape, *, deaggregate: bool
    ) -> None:
        self._client = client
        self._stream = stream  # StreamName or StreamARN
        self._shard = shard
        self._shape = shape
        self._deaggregate = deaggregate
        self._done: tuple[str, int] | None = None  # the aggregate that was left in its middle, and where
        self._not_before_ms = 0

    async def iterator(self, at: str | Start) -> str:
        where: dict[str, Any]
        if isinstance(at, str):
            sequence_number, _, index = at.partition(":")
            self._done = (sequence_number, int(index)) if index else None
            kind = "AT_SEQUENCE_NUMBER" if index else "AFTER_SEQUENCE_NUMBER"
            where = {"ShardIteratorType": kind, "StartingSequenceNumber": sequence_number}
        elif at.timestamp_ms is not None:
            time = datetime.datetime.fromtimestamp(at.timestamp_ms / 1000, datetime.UTC)
            where = {"ShardIteratorType": at.position, "Timestamp": time}
        else:
            where = {"ShardIteratorType": at.position}
        answer = await self._client.call("get_shard_iterator", **self._stream, ShardId=self._shard, **where)
        if isinstance(at, Start) and at.timestamp_ms is not None:
            self._not_before_ms = at.timestamp_ms  # the client has cut it to seconds
        iterator: str = answer["ShardIterator"]
        return iterator

    async def get(self, iterator: str, limit: int) -> Answer:
        answer = await self._client.call("get_records", ShardIterator=iterator, Limit=limit)
        found: list[dict[str, Any]] = answer["Records"]
        return Answer(
            records=[record for each in found for record in self._records(each)],
            next=answer.get("NextShardIterator"),
            last=found[-1]["SequenceNumber"] if found else None,
            behind=answer.get("MillisBehindLatest", 0) > 0,
        )

    def _records(self, found: dict[str, Any]) -> Iterator[Record]:
        sequence_number: str = found["SequenceNumber"]
        arrived_ms = round(found["ApproximateArrivalTimestamp"].timestamp() * 1000)
        if arrived_ms < self._not_before_ms:
            return
        inside = unpacked(found["Data"]) if self._deaggregate else None
        if inside is None:
            whole = UserRecord(found["PartitionKey"], found["Data"])
            yield self._record(whole, sequence_number, arrived_ms, sequence_number)
            return
        done = self._done[1] if self._done is not None and self._done[0] == sequence_number else -1
        for index in range(done + 1, len(inside)):
            last = index == len(inside) - 1
            position = sequence_number if last else f"{sequence_number}:{index}"
            yield self._record(inside[index], sequence_number, arrived_ms, position)

    def _record(self, record: UserRecord, sequence_number: str, arrived_ms: int, position: str) -> Record:
        return Record(
            id=sequence_number,
            payload=self._shape.record(record.partition_key, sequence_number, record.data, arrived_ms),
            group=record.partition_key,
            arrived_ms=arrived_ms,
            token=position,
        )
