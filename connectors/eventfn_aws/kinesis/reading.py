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
    """A ShardApi. A position is a sequence number, with ":<index>" behind it in the middle of an aggregate.

    `hash_keys`: aggregates are unpacked, and of their records only those are the shard's whose hash key is in here. A
    producer that knew of an old split sends the others again, to their own shard; the KCL drops them too.
    """

    def __init__(
        self, client: Client, stream: Mapping[str, str], shard: str, shape: Shape, hash_keys: range | None
    ) -> None:
        self._client = client
        self._stream = stream  # StreamName or StreamARN
        self._shard = shard
        self._shape = shape
        self._hash_keys = hash_keys
        self._done: tuple[str, int] | None = None  # the aggregate that was left in its middle, and where

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
        inside = None if self._hash_keys is None else unpacked(found["Data"])
        if self._hash_keys is None or inside is None:
            whole = UserRecord(found["PartitionKey"], None, found["Data"])
            yield self._record(whole, sequence_number, arrived_ms, sequence_number)
            return
        done = self._done[1] if self._done is not None and self._done[0] == sequence_number else -1
        ours = [
            (index, record)
            for index, record in enumerate(inside)
            if index > done and record.hash_key in self._hash_keys
        ]
        for index, record in ours:
            last = index == ours[-1][0]
            position = sequence_number if last else f"{sequence_number}:{index}"
            yield self._record(record, sequence_number, arrived_ms, position)

    def _record(self, record: UserRecord, sequence_number: str, arrived_ms: int, position: str) -> Record:
        return Record(
            id=sequence_number,
            payload=self._shape.record(record.partition_key, sequence_number, record.data, arrived_ms),
            group=record.partition_key,
            arrived_ms=arrived_ms,
            token=position,
        )
